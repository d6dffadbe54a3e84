// SPDX-License-Identifier: Apache-2.0
// What cid-find does: a question about a pipeline's folder, and the rows that answer it.
#ifndef FIND_STAGE_H
#define FIND_STAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "system/cli.h"
#include "system/log.h"

// The options of cid-find(1), by their names.
struct find_stage_options {
    const char *model, *tokenizer, *device, *shards,
        *page; // NULL: not given; so with the next ones
    const char *image, *key, *group;
    uint64_t n, probe, cluster;
    int among; // 1: captions
    bool worst, dropped, kept, exact;
    bool probe_given, cluster_given;
};

// Options that do not go together, or are missing: -1 with wrong usage in e.
int find_stage_check(const struct find_stage_options *o, const struct cli_common *common,
                     struct err *e);
// 0 or -1; *rows: how many rows the folder has.
int find_stage_run(const struct find_stage_options *o, const struct cli_common *common,
                   struct log *l, uint64_t *rows, struct err *e);

#endif
