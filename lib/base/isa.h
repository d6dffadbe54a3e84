// SPDX-License-Identifier: Apache-2.0
// Which vector instructions the library uses. Only this file asks the processor.
//
// A level is a set of instructions that come together: ISA_AVX2 is AVX2, FMA and F16C (Haswell, Zen
// and later), ISA_AVX512 is AVX-512 F, BW, DQ and VL (Skylake-X, Zen 4 and later). The environment
// variable CLIP_CID_ISA=portable|avx2|avx512 lowers the level, never raises it, so that one machine
// can run and test what others run.
#ifndef BASE_ISA_H
#define BASE_ISA_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum isa {
    ISA_PORTABLE,
    ISA_AVX2,
    ISA_AVX512,
    ISA_LEVELS,                   // those above are levels; those below come with ISA_AVX512
    ISA_AVX512_VNNI = ISA_LEVELS, // products of 8 bits
    ISA_AVX512_BF16,
};

// Whether code for `what` may run: the processor has it and CLIP_CID_ISA allows it.
bool isa_has(enum isa what);
// The highest level that may be used, and the processor's own.
enum isa isa_level(void);
enum isa isa_machine(void);
const char *isa_name(enum isa level);
// "avx512 with vnni and bf16", "avx2, lowered from avx512 by CLIP_CID_ISA".
void isa_describe(char *text, size_t size);
// 0, or -1 when CLIP_CID_ISA is none of the levels (which isa_has takes for not set).
int isa_check(struct err *e);

// Whether OpenBLAS took its kernels for AVX-512: OPENBLAS_CORETYPE may name others.
bool isa_blas_avx512(void);

// The first thing of a main. OpenBLAS chooses its kernels before main runs, by OPENBLAS_CORETYPE:
// where CLIP_CID_ISA lowers the level, or the library does not know the processor, and that
// variable is not set, this sets it and starts the program again with the same argv. 0, or -1 when
// that fails.
int isa_start(char **argv, struct err *e);

#endif
