// SPDX-License-Identifier: Apache-2.0
// Counts the results of a pipeline in work/NAME from the files themselves, and makes the page that
// shows them. No figure comes from what a stage wrote about itself: the ledger is the sum of the
// index, keep and label files.
#ifndef REPORT_REPORT_H
#define REPORT_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "system/io.h"
#include "formats/ledger.h"
#include "base/path.h"

// The stages of the ledger, in order; NULL-terminated: read, balance, cluster.
extern const char *const report_stages[];

// ---- counting

// The names of the shards with an index in `work`, "00000", sorted; freed with path_names_free.
int report_names_get(struct path_names *s, const char *work, struct err *e);

// Counts every shard and checks that rows agree between index, embeddings, masks and labels, and
// that in = out + dropped at each stage. Shards whose files are those that the ledger in `work` was
// counted from (report/seen.h) are taken from it. With `write` replaces work/ledger.tsv; without,
// nothing is written. l is released by the caller. 0 or -1.
int report_ledger(const char *work, const struct path_names *s, bool write, struct ledger *l,
                  struct err *e);

// ---- pictures

// One sample picked for showing.
struct report_pick {
    uint32_t shard; // in the names
    uint64_t ordinal;
    int set;    // which group or cluster it belongs to
    char *data; // "image/jpeg;base64,..."; owned; NULL: could not be had
    char caption[160];
    char key[100];
};
struct report_picks {
    struct report_pick *pick;
    size_t n, cap;
    uint64_t *set_size; // members of each set
    size_t n_sets;
};
// Members of the largest groups of near duplicates, at most `sets` groups and `each` pictures of
// one. `rows` is the number of rows of all shards: a group's number is below it.
int report_pick_groups(const char *work, const struct path_names *s, uint64_t rows, size_t sets,
                       size_t each, struct report_picks *p, struct err *e);
// Members of clusters: `sets` clusters spread over the sizes. A label is below the number of
// centroids in work/centroids.npy, where that is there.
int report_pick_clusters(const char *work, const struct path_names *s, uint64_t rows, size_t sets,
                         size_t each, struct report_picks *p, struct err *e);
// Reads pictures and captions out of shards/NAME.tar and makes the pictures small, so that the page
// has a bound; one that is not there or cannot be decoded stays without.
int report_pick_load(const char *shards, const struct path_names *s, struct report_picks *p,
                     struct err *e);
void report_picks_free(struct report_picks *p);

// ---- the page

// Writes the page, one file without any reference outside. `title` names the data set. 0 or -1.
int report_write(struct out *o, const char *work, const char *shards, const char *title,
                 struct err *e);

#endif
