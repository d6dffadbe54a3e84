// SPDX-License-Identifier: Apache-2.0
// What kmeans-cluster does: opens the embeddings of many shards, trains centroids, labels each row.
#ifndef CLUSTER_STAGE_H
#define CLUSTER_STAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/comm.h"
#include "system/cli.h"
#include "system/log.h"

// The options of kmeans-cluster(1), by their names.
struct kmeans_stage_options {
    uint64_t k, top, iterations, seed, coarse, coarse_points, max_points;
    uint64_t mem; // bytes
    bool mem_given, normalize, each, resume;
    int levels; // of the choice 1|2: one less
    int engine; // of the choice exact|faiss
    const char *labels_dir, *init, *checkpoint, *assign, *keep_dir, *files_from, *ledger, *device,
        *comm;
};

// Options that do not go together, or are missing: -1 with wrong usage in e.
int kmeans_stage_check(const struct kmeans_stage_options *o, const struct cli_common *common,
                       struct err *e);
// Runs all of it. argv: the command as it was given, for the sidecars. c: the ranks that do it
// together. *rows: number of rows. 0, or -1; a stop by a signal (system/signals.h) is -1 too.
int kmeans_stage_run(const struct kmeans_stage_options *o, const struct cli_common *common,
                     int argc, char *const *argv, struct comm *c, struct log *l, uint64_t *rows,
                     struct err *e);

#endif
