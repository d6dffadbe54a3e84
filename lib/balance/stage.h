// SPDX-License-Identifier: Apache-2.0
// What sem-balance does: opens the embeddings of many shards, finds the rows that mean the same,
// and writes which rows stay.
#ifndef BALANCE_STAGE_H
#define BALANCE_STAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/comm.h"
#include "system/cli.h"
#include "system/log.h"

// The options of sem-balance(1), by their names.
struct balance_stage_options {
    double distance, euclidean, curve_to;
    double share;     // --remove
    uint64_t biggest; // --list
    uint64_t probe, seed;
    uint64_t mem; // bytes
    int rule;     // enum balance_rule
    int survivor; // enum balance_survivor
    // Which rows take part (select.h)
    const char *text_dir, *targets, *against;
    double against_distance;
    struct cli_count warn_above; // of the usable rows, where --remove is not given
    double min_score, max_score, keep_score, min_similarity;
    bool min_score_given, max_score_given, keep_score_given, min_similarity_given,
        against_distance_given;
    uint64_t hard; // partners of each row
    uint64_t cap;
    double cap_share;
    bool cap_given, cap_share_given;
    const char *keep_dir, *groups_dir, *hard_dir, *may_survive, *cells, *labels_dir, *curve, *pairs,
        *index_dir;
    const char *files_from, *ledger, *device, *comm, *part;
    struct cli_list merge;
    bool distance_given, euclidean_given, share_given, survivor_given, mem_given;
};

// Options that do not go together, or are missing: -1 with wrong usage in e.
int balance_stage_check(const struct balance_stage_options *o, const struct cli_common *common,
                        struct err *e);
// Runs all of it. argv: the command as it was given, for the sidecars. c: the ranks that do it
// together. *rows, *kept: numbers of rows, and of rows that stay. 0, or -1; a stop by a signal
// (system/signals.h) is -1 too.
int balance_stage_run(const struct balance_stage_options *o, const struct cli_common *common,
                      int argc, char *const *argv, struct comm *c, struct log *l, uint64_t *rows,
                      uint64_t *kept, struct err *e);

#endif
