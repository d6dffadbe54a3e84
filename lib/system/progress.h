// SPDX-License-Identifier: Apache-2.0
// Progress of one loop: done / total, rate, time left. The one place that words it:
//     a terminal      [#####.....]  42% 4200/10000 samples 710/s 0:08 left, loss 3.2104
//     a log           teacher-embed: 42% 4200/10000 samples 710/s 0:08 left, loss 3.2104
//     a program       {"tool":"teacher-embed","unit":"samples","done":4200,"total":10000,
//                     "seconds":5.9,"rate":710.0,"left":8.2,"note":"loss 3.2104",
//                     "text":"42% 4200/10000 ...","host":"a","pid":12,"time":1764336000}
// The last is a line of JSON with --progress json, and the whole content of the file that
// CLIP_CID_PROGRESS names, for scripts/status and whoever else watches from outside. Without a
// total, `total` and `left` are null.
#ifndef SYSTEM_PROGRESS_H
#define SYSTEM_PROGRESS_H

#include <stdint.h>

#include "system/log.h"

enum { PROGRESS_TEXT = 400 };

struct progress {
    struct log *log;
    const char *unit;      // "samples", in letters and spaces
    uint64_t total, done;  // total 0 = unknown; may be set later
    uint64_t before;       // of `done`, made by an earlier run: not counted in the rate
    double start;          // seconds
    double next, next_out; // when a line, and the file, are due
    char extra[64];        // shown at the end: "loss 3.21", without quotation marks or backslashes
};

void progress_start(struct progress *p, struct log *l, uint64_t total, const char *unit);
// `done` of the total were there when the run began.
void progress_from(struct progress *p, uint64_t done);
// Cheap enough to call for every record. Prints at most five times a second on a terminal, once a
// second for a program, once a minute elsewhere, and immediately after SIGUSR1.
void progress_to(struct progress *p, uint64_t done);
// Erases the bar; a program gets a last line.
void progress_end(struct progress *p);

// "42% 4200/10000 samples 710/s 0:08 left" into text[PROGRESS_TEXT], at `now` seconds.
void progress_text(const struct progress *p, double now, char *text);
// The line of JSON, without newline, into text[room]. Its length, or 0 where it does not fit.
int progress_json(const struct progress *p, double now, char *text, int room);

#endif
