// SPDX-License-Identifier: Apache-2.0
// The keys of rows, from the indexes of shard-read (DIR/NAME.tsv for NAME.npy: line i is row i, its
// second column the key). Of an index only the place of every 64th line is kept, so that the keys
// of any rows of many shards take little memory.
#ifndef BALANCE_KEYS_H
#define BALANCE_KEYS_H

#include "embeddings/files.h"

enum { BALANCE_KEY = 4096 }; // bytes of a key at most

struct balance_keys {
    const char *dir;
    const struct embedding_files *files;
    uint64_t **place; // [n_parts], of every 64th line; NULL: not looked into yet
};

// 0, or -1: a file has no index.
int balance_keys_check(const char *dir, const struct embedding_files *f, struct err *e);
// 0 or -1.
int balance_keys_open(struct balance_keys *k, const char *dir, const struct embedding_files *f,
                      struct err *e);
// The key of a row into key[BALANCE_KEY]. 0, or -1: there is no index, or it has other rows.
int balance_keys_get(struct balance_keys *k, uint64_t row, char *key, struct err *e);
void balance_keys_close(struct balance_keys *k); // a zeroed one too

#endif
