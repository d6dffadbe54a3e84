// SPDX-License-Identifier: Apache-2.0
// Identifies a process, so that another process can check later whether it still runs: host,
// process id, and its start time because process ids are used again.
#ifndef SYSTEM_PROCESS_H
#define SYSTEM_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

enum { PROCESS_HOST = 256, PROCESS_BOOT = 40 };

struct process {
    char host[PROCESS_HOST]; // as `uname -n` says
    char boot[PROCESS_BOOT]; // of the host's kernel, /proc/sys/kernel/random/boot_id; "" = unknown
    long pid;
    uint64_t start; // field 22 of /proc/PID/stat, clock ticks since that boot; 0 = unknown
};

// This process.
void process_self(struct process *p);
enum process_state {
    PROCESS_ALIVE,
    PROCESS_GONE,     // it has ended, or its host was started again
    PROCESS_ELSEWHERE // of another host: cannot be known here
};
enum process_state process_look(const struct process *p);

#endif
