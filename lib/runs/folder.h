// SPDX-License-Identifier: Apache-2.0
// The headers and sidecars of a folder of NPY files, one file a shard, read once before a run of
// training starts. The rows are not read (train/rows.h does that).
#ifndef RUNS_FOLDER_H
#define RUNS_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "system/digest.h"
#include "base/err.h"

// Digests are "" if the sidecar has none or does not exist.
struct train_folder_file {
    char *name;  // "00000.npy"
    bool common; // every folder of the run has it (runs/match.c)
    uint64_t rows;
    char of[8];             // "image", "text", or "": the embeddings of what
    char keys[DIGEST_HEX];  // of the samples
    char data[DIGEST_HEX];  // of the rows
    char model[DIGEST_HEX]; // that made the embeddings, or the embeddings that were labelled
    char with[DIGEST_HEX];  // labels: of the centroids
    char over[DIGEST_HEX];  // labels: of the embeddings that were labelled
    double scale;           // of the model's logits; 0: not told
};

struct train_folder {
    const char *dir;
    struct train_folder_file *files; // sorted by name
    size_t n, cap;
};

// Reads the folder; `labels`: its files are kmeans-cluster's. 0, or -1 if it cannot be read, an
// array is damaged, a sidecar is stale, or there is no array.
int train_folder_read(struct train_folder *f, const char *dir, bool labels, struct err *e);
void train_folder_release(struct train_folder *f);
// Drops the files that are not marked as common.
void train_folder_keep_common(struct train_folder *f);
// The file of that name, or NULL.
const struct train_folder_file *train_folder_find(const struct train_folder *f, const char *name);
// One digest for all names, rows, and digests of data and keys.
int train_folder_digest(const struct train_folder *f, char hex[DIGEST_HEX], struct err *e);

#endif
