// SPDX-License-Identifier: Apache-2.0
// For tests of what an environment variable changes, or of what ends a process.
#ifndef CHILD_H
#define CHILD_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit/tap.h"

// Runs `work` in a child with an environment variable set; its exit status and what it hands back.
static inline int child(const char *name, const char *value, uint64_t (*work)(void),
                        uint64_t *result)
{
    int to[2], status;
    *result = 0;
    fflush(stdout);
    if (pipe(to))
        return -1;
    pid_t pid = fork();
    if (!pid) {
        tap_failed = 0;
        if (setenv(name, value, 1) || !freopen("/dev/null", "w", stdout) ||
            !freopen("/dev/null", "w", stderr))
            _exit(3);
        uint64_t r = work();
        _exit(write(to[1], &r, sizeof r) == sizeof r ? tap_failed != 0 : 3);
    }
    close(to[1]);
    if (read(to[0], result, sizeof *result) != sizeof *result)
        *result = 0;
    close(to[0]);
    return waitpid(pid, &status, 0) == pid ? status : -1;
}

#endif
