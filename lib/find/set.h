// SPDX-License-Identifier: Apache-2.0
// A pipeline's folder as one set of rows that can be searched: the embeddings of its shards, one
// after another in the order of their names, and what the other files say of a row.
#ifndef FIND_SET_H
#define FIND_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/path.h"
#include "embeddings/files.h"

#define FIND_NONE UINT64_MAX

// The names of the shards with an index in `work`, "00000", sorted; freed with path_names_free.
int find_names_get(struct path_names *s, const char *work, struct err *e);

struct find_set {
    const char *work;
    struct path_names names;      // of the shards that have embeddings; part i of files is names[i]
    struct embedding_files files; // WORK/embed/image or WORK/embed/text
    int threads;
};

// `of`: "image" or "text". 0 or -1; call find_set_close after both.
int find_set_open(struct find_set *s, const char *work, const char *of, int threads, struct err *e);
void find_set_close(struct find_set *s);

// The shard of a row, and its number there.
size_t find_set_shard(const struct find_set *s, uint64_t row, uint64_t *in_shard);
// "SHARD:KEY" or "SHARD:ROW" as a row of the set. 0 or -1.
int find_set_row(const struct find_set *s, const char *name, uint64_t *row, struct err *e);
// The row's embedding as a unit row, dim values. -1 also where it is zero: a failed sample.
int find_set_vector(const struct find_set *s, uint64_t row, float *to, struct err *e);
// The key of row `in_shard` of a shard, from its index, into key[room]; "-" where there is none.
void find_set_key(const struct find_set *s, size_t shard, uint64_t in_shard, char *key,
                  size_t room);

// One number a row, of WORK/KIND/NAME.npy: the first column of labels, of groups, of masks.
// Calls fn for each row of every shard that has the file; a file of another length is refused. 0,
// or -1, which fn may return too.
typedef int find_value_fn(void *ctx, uint64_t row, int64_t value, struct err *e);
int find_set_each(const struct find_set *s, const char *kind, find_value_fn *fn, void *ctx,
                  struct err *e);
// The number of one row, or -1 where the shard has no such file.
int64_t find_set_value(const struct find_set *s, const char *kind, uint64_t row);

#endif
