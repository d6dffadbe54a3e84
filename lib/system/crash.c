// SPDX-License-Identifier: Apache-2.0
#include "system/crash.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/path.h"
#include "system/signals.h"

enum { NULL_PAGES = 1 << 16 }; // a pointer that is NULL and an offset

// Where the thread was; 0: not known on this processor.
static uintptr_t program_counter(const void *context)
{
    const ucontext_t *u = context;
#if defined __x86_64__
    return (uintptr_t)u->uc_mcontext.gregs[REG_RIP];
#elif defined __aarch64__
    return (uintptr_t)u->uc_mcontext.pc;
#else
    (void)u;
    return 0;
#endif
}

// The library of matrix products that holds this code, or "generated code" for that which it has
// made at run time; NULL: other code.
static const char *library_of(uintptr_t pc)
{
    static const char *const names[] = {"libdnnl", "libopenblas", "libblas", "libgomp",
                                        "libstdc++"};
    Dl_info info;
    if (!pc)
        return NULL;
    void *at;
    memcpy(&at, &pc, sizeof at);
    if (!dladdr(at, &info) || !info.dli_fname)
        return "generated code";
    const char *base = path_base(info.dli_fname);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(base, names[i], strlen(names[i])) == 0)
            return names[i];
    return NULL;
}

static void on_crash(int sig, siginfo_t *info, void *context)
{
    // A refused malloc or mmap has left ENOMEM. Where it has not, a library that goes through a
    // null pointer has most likely not looked at what it was given.
    bool refused = errno == ENOMEM;
    const char *library = sig == SIGSEGV ? library_of(program_counter(context)) : NULL;
    bool null = sig == SIGSEGV && library && (uintptr_t)info->si_addr < NULL_PAGES;
    if (refused || null) {
        signals_remove_guarded();
        signals_tell(refused ? "out of memory: " : "most likely out of memory: ",
                     library ? library : "a library",
                     sig == SIGABRT ? " ended the run" : " crashed after it was refused memory");
        _exit(1);
    }
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_handler = SIG_DFL;
    sigaction(sig, &a, NULL);
    raise(sig);
}

void crash_install(void)
{
    static const int crash[] = {SIGSEGV, SIGABRT};
    struct sigaction a, old;
    memset(&a, 0, sizeof a);
    sigemptyset(&a.sa_mask);
    a.sa_flags = SA_SIGINFO;
    a.sa_sigaction = on_crash;
    for (size_t i = 0; i < sizeof crash / sizeof *crash; i++)
        if (sigaction(crash[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
            sigaction(crash[i], &a, NULL);
}
