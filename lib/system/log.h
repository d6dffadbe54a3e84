// SPDX-License-Identifier: Apache-2.0
// Messages for the user, written to one stream that the tool names (stderr): errors, warnings,
// notes, progress and the footer of a run. Only tools create a log; a stage in lib/ is given it.
// Thread safe. Control characters in messages are shown as '?'.
#ifndef SYSTEM_LOG_H
#define SYSTEM_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "system/cli.h"

struct log {
    FILE *to;
    const char *tool;
    bool quiet, verbose;
    bool bar;      // redraw a bar (a terminal, or --progress=always)
    bool progress; // any progress at all
    int bar_chars; // drawn at the moment
    double start;  // seconds, monotonic
};

void log_init(struct log *l, FILE *to, const struct cli *cli, const struct cli_common *common);

// "tool: message"; errors always, warnings unless quiet, notes unless quiet, details when verbose.
void log_error(struct log *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_warn(struct log *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_note(struct log *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_detail(struct log *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// Progress of one loop. total 0 = unknown.
struct progress {
    struct log *log;
    const char *unit; // "samples"
    uint64_t total, done;
    double start, next; // seconds
    char extra[64];     // shown at the end: "loss 3.21"
};
void progress_start(struct progress *p, struct log *l, uint64_t total, const char *unit);
// Cheap enough to call for every record. Prints at most five times a second on a terminal, once a
// minute elsewhere, and immediately after SIGUSR1.
void progress_to(struct progress *p, uint64_t done);
// Erases the bar.
void progress_end(struct progress *p);

// The last line of a run, unless quiet: counts ("12 samples, 1 failed"), time, rate, peak memory;
// with verbose also the version and the command.
void log_footer(struct log *l, uint64_t records, const char *counts);
// Seconds since the log began; peak resident memory in bytes.
double log_seconds(const struct log *l);
uint64_t log_peak_memory(void);

#endif
