// SPDX-License-Identifier: Apache-2.0
// A unit test is a program that prints TAP: ok(condition, "what") for each promise, `return
// tap_done();` last.
#ifndef TAP_H
#define TAP_H

#include <stdio.h>

static int tap_run, tap_failed;

#define ok(cond, ...)                                                                              \
    do {                                                                                           \
        int tap_pass = (cond) ? 1 : 0;                                                             \
        tap_failed += !tap_pass;                                                                   \
        printf("%sok %d - ", tap_pass ? "" : "not ", ++tap_run);                                   \
        printf(__VA_ARGS__);                                                                       \
        printf("\n");                                                                              \
        if (!tap_pass)                                                                             \
            printf("# failed at %s:%d: %s\n", __FILE__, __LINE__, #cond);                          \
    } while (0)

static inline int tap_done(void)
{
    printf("1..%d\n", tap_run);
    return tap_failed ? 1 : 0;
}

#endif
