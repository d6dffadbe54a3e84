// SPDX-License-Identifier: Apache-2.0
// What the stage*.c files share. Internal.
#ifndef CLUSTER_STAGE_RUN_H
#define CLUSTER_STAGE_RUN_H

#include "device/dev.h"
#include "system/digest.h"
#include "cluster/stage.h"
#include "cluster/kmeans.h"
#include "embeddings/files.h"
#include "search/search-device.h"
#include "system/progress.h"

struct kmeans_stage {
    const struct kmeans_stage_options *o;
    const struct cli_common *common;
    struct comm *comm;
    struct log *log;
    uint64_t mem; // that may be used now
    struct embedding_files files;
    struct embeddings_origin origin;
    struct dev dev; // with --device
    struct search_device sim;
    float *centroids; // k x dim
    size_t n_centroids;
    char centroids_hex[DIGEST_HEX];
    const char *centroids_name;
    struct sidecar centroids_sidecar; // of --assign; empty where there is none
    size_t dim;                       // of them
    struct kmeans_tag tag;
    bool own_checkpoint; // the file is this run's
    bool made_labels_dir;
    double saved_at, save_took;
    struct progress bar; // of the training
    // of level 2
    uint64_t level2_points;
    double level2_sum;
    size_t level2_parts, level2_split;
    // of the labels
    uint64_t *counts;
    uint64_t labelled, zero, not_finite, rescaled;
    double total;
    uint64_t each_rows; // labelled with kmeans_stage_each
};

// NULL: the processor searches.
static inline struct search_device *kmeans_stage_searcher(struct kmeans_stage *j)
{
    return j->dev.op ? &j->sim : NULL;
}

int kmeans_stage_train(struct kmeans_stage *j, struct err *e);  // fills centroids
int kmeans_stage_labels(struct kmeans_stage *j, struct err *e); // writes --labels-dir
// The same for inputs that are opened one by one: labels that are there and belong are passed over,
// an input that fails is named and the next one taken. 0, or -1 when one failed.
int kmeans_stage_each(struct kmeans_stage *j, const char *const *paths, size_t n, struct err *e);
// Reads the centroids of --assign, for the files that are open, and opens the device. 0 or -1.
int kmeans_stage_take_centroids(struct kmeans_stage *j, struct err *e);
// Is there memory for labels against so many centroids? 0 or -1.
int kmeans_stage_label_memory(const struct kmeans_stage *j, size_t centroids, struct err *e);

#endif
