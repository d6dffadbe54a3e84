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
#include "page/pictures.h"
#include "system/log.h"

// The stages of the ledger, in order; NULL-terminated: read, balance, cluster.
extern const char *const report_stages[];

// ---- counting

// Counts every shard and checks that rows agree between index, embeddings, masks and labels, and
// that in = out + dropped at each stage. Shards whose files are those that the ledger in `work` was
// counted from (report/seen.h) are taken from it. With `write` replaces work/ledger.tsv; without,
// nothing is written. l is released by the caller. 0 or -1.
int report_ledger(const char *work, const struct path_names *s, bool write, struct ledger *l,
                  struct err *e);

// ---- pictures

// Members of the largest groups of near duplicates, at most `sets` groups and `each` pictures of
// one. `rows` is the number of rows of all shards: a group's number is below it.
int report_pick_groups(const char *work, const struct path_names *s, uint64_t rows, size_t sets,
                       size_t each, struct page_picks *p, struct err *e);
// Members of clusters: `sets` clusters spread over the sizes. A label is below the number of
// centroids in work/centroids.npy, where that is there.
int report_pick_clusters(const char *work, const struct path_names *s, uint64_t rows, size_t sets,
                         size_t each, struct page_picks *p, struct err *e);
// ---- the page

struct report_page {
    const char *work, *title;
    const char *shards; // folder of the tar files, NULL: no pictures
    struct log *log;    // progress
    int watched;        // the page loads itself again after so many seconds; 0: it does not
};
// Writes the page, one file without any reference outside. 0 or -1.
int report_write(struct out *o, const struct report_page *p, struct err *e);
// A number that is another one after a file of the folder was made, changed or removed. Logs and
// what this page itself writes do not count.
uint64_t report_stamp(const char *work);
// The same about two runs, side by side: settings that differ, samples, training, evaluation.
int report_compare(struct out *o, const char *const works[2], const char *title, struct err *e);

#endif
