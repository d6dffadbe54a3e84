// SPDX-License-Identifier: Apache-2.0
#include "base/isa.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define VARIABLE "CLIP_CID_ISA"

static const char *const names[ISA_LEVELS] = {"portable", "avx2", "avx512"};

const char *isa_name(enum isa level)
{
    return names[level];
}

// The level that the environment names; ISA_LEVELS when it names none.
static enum isa asked(void)
{
    const char *text = getenv(VARIABLE);
    for (int i = 0; text && i < ISA_LEVELS; i++)
        if (strcmp(text, names[i]) == 0)
            return (enum isa)i;
    return ISA_LEVELS;
}

int isa_check(struct err *e)
{
    const char *text = getenv(VARIABLE);
    if (!text || !*text || asked() != ISA_LEVELS)
        return 0;
    return err_set(e, VARIABLE " is '%s', not one of %s|%s|%s", text, names[ISA_PORTABLE],
                   names[ISA_AVX2], names[ISA_AVX512]);
}

// A bit for each of enum isa that the processor has.
#if defined(__x86_64__)
#include <cpuid.h>

static bool has_f16c(void) // not every compiler's cpu_supports knows the name
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static unsigned ask_processor(void)
{
    unsigned has = 1u << ISA_PORTABLE;
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c())
        return has;
    has |= 1u << ISA_AVX2;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return has;
    has |= 1u << ISA_AVX512;
    if (__builtin_cpu_supports("avx512vnni"))
        has |= 1u << ISA_AVX512_VNNI;
    if (__builtin_cpu_supports("avx512bf16"))
        has |= 1u << ISA_AVX512_BF16;
    return has;
}
#else
static unsigned ask_processor(void)
{
    return 1u << ISA_PORTABLE;
}
#endif

// Asked once: in a virtual machine the cpuid instruction takes tens of microseconds. Threads that
// come here together find the same.
static unsigned machine(void)
{
    static _Atomic unsigned known;
    if (!known)
        known = ask_processor();
    return known;
}

static unsigned usable(void)
{
    static _Atomic unsigned known;
    if (!known) {
        enum isa most = asked();
        known = most >= ISA_AVX512 ? machine() : machine() & ((2u << most) - 1);
    }
    return known;
}

bool isa_has(enum isa what)
{
    return usable() >> what & 1;
}

static enum isa highest(unsigned has)
{
    return has >> ISA_AVX512 & 1 ? ISA_AVX512 : has >> ISA_AVX2 & 1 ? ISA_AVX2 : ISA_PORTABLE;
}

enum isa isa_level(void)
{
    return highest(usable());
}

enum isa isa_machine(void)
{
    return highest(machine());
}

void isa_describe(char *text, size_t size)
{
    const char *level = isa_name(isa_level());
    bool vnni = isa_has(ISA_AVX512_VNNI), bf16 = isa_has(ISA_AVX512_BF16);
    if (isa_level() < isa_machine())
        snprintf(text, size, "%s, lowered from %s by " VARIABLE, level, isa_name(isa_machine()));
    else
        snprintf(text, size, "%s%s%s%s", level, vnni || bf16 ? " with " : "",
                 vnni ? bf16 ? "vnni and " : "vnni" : "", bf16 ? "bf16" : "");
}

// There when the program has OpenBLAS.
extern char *openblas_get_corename(void) __attribute__((weak));

bool isa_blas_avx512(void)
{
    const char *core = openblas_get_corename ? openblas_get_corename() : "";
    return isa_has(ISA_AVX512) && (!strcmp(core, "SkylakeX") || !strcmp(core, "Cooperlake"));
}

// The kernels OpenBLAS is to be told to take; NULL: it chose well. A processor newer than the
// library is unknown to it and gets the oldest ones, at a tenth of the speed.
static const char *other_kernels(void)
{
    static const char *const coretype[ISA_LEVELS] = {"Prescott", "Haswell", "SkylakeX"};
    if (!openblas_get_corename || getenv("OPENBLAS_CORETYPE"))
        return NULL;
    bool unknown = strcmp(openblas_get_corename(), "Prescott") == 0;
    bool right = isa_level() == isa_machine() && !(unknown && isa_level() > ISA_PORTABLE);
    return right ? NULL : coretype[isa_level()];
}

int isa_start(char **argv, struct err *e)
{
    const char *kernels = other_kernels();
    if (!kernels)
        return 0;
    if (setenv("OPENBLAS_CORETYPE", kernels, 1) == 0)
        execv((const char *)getauxval(AT_EXECFN), argv); // the path this program was started by
    return err_set(e, "cannot start again with OPENBLAS_CORETYPE=%s: %s", kernels, strerror(errno));
}
