// SPDX-License-Identifier: Apache-2.0
// Messages for the user, written to one stream that the tool names (stderr): errors, warnings,
// notes, the bar of progress.h and the footer of a run. Only tools create a log; a stage in lib/ is
// given it. Thread safe. Control characters in messages are shown as '?'.
#ifndef SYSTEM_LOG_H
#define SYSTEM_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "system/cli.h"

enum { LOG_PATH = 4096 };

struct log {
    FILE *to;
    const char *tool;
    bool quiet, verbose;
    bool bar;                     // redraw a bar (a terminal, or --progress=always)
    bool json;                    // lines of JSON instead: --progress json
    bool progress;                // any progress at all
    char progress_file[LOG_PATH]; // of CLIP_CID_PROGRESS; "": none
    int bar_chars;                // drawn at the moment
    double start;                 // seconds, monotonic
};

// Takes CLIP_CID_PROGRESS out of the environment: it is this process's, not its children's.
void log_init(struct log *l, FILE *to, const struct cli *cli, const struct cli_common *common);

// "tool: message"; errors always, warnings unless quiet, notes unless quiet, details when verbose.
void log_error(struct log *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_warn(struct log *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_note(struct log *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_detail(struct log *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// "tool: text", and the text alone with the bar erased: for progress.h. The text is plain.
void log_line(struct log *l, const char *text);
void log_raw(struct log *l, const char *text);
// Draws the text where a bar stood; "" erases it.
void log_bar(struct log *l, const char *text);

// The last line of a run, unless quiet: counts ("12 samples, 1 failed"), time, rate, peak memory;
// with verbose also the version and the command.
void log_footer(struct log *l, uint64_t records, const char *counts);
// Seconds since the log began; peak resident memory in bytes.
double log_seconds(const struct log *l);
uint64_t log_peak_memory(void);

#endif
