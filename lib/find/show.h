// SPDX-License-Identifier: Apache-2.0
// What was found, as lines and as a page of pictures.
#ifndef FIND_SHOW_H
#define FIND_SHOW_H

#include "find/set.h"
#include "find/top.h"

// A table, TAB between the columns: cosine, shard, row, key, cluster, kept, caption; with `pairs`
// also the row that each is compared with: shard, row, key, caption. `-` is not known. Captions are
// read from SHARDS/NAME.tar; `shards` NULL: none. With `page`, a file, the pictures too, under the
// title. 0 or -1.
struct find_show {
    const struct find_set *set;
    const char *shards, *page, *title;
    bool pairs;
};
int find_show(const struct find_show *o, const struct find_top *top, const char *output,
              struct err *e);

#endif
