// SPDX-License-Identifier: Apache-2.0
// --group: inside a window of --shuffle, samples of one label come several in a row, so that a
// batch has near ones (HELIP, arXiv 2305.05208, has a batch of random pairs and of partners that
// are near in both modalities; this form, for a stream, is ours). A window stays a permutation of
// its samples that depends on the seed, the epoch, the place and the labels alone.
#ifndef READ_GROUP_H
#define READ_GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "formats/npy.h"
#include "read/order.h"
#include "system/digest.h"

// The labels of one shard, DIR/NAME.npy, <i4 (rows,) or (rows, labels), of which the first counts.
struct read_group {
    bool open;
    struct npy labels;
    char keys[DIGEST_HEX]; // of the sidecar; "" = unknown
    char *path;
};

// For the shard NAME.tar. 0 or -1.
int read_group_open(struct read_group *g, const char *dir, const char *shard_name, struct err *e);
// The label of a row. 0, or -1: there is no such row.
int read_group_label(const struct read_group *g, uint64_t row, int32_t *label, struct err *e);
// At the end of the shard: refuses labels of another length, or made for other keys. 0 or -1.
int read_group_check(const struct read_group *g, uint64_t rows, const char *keys, struct err *e);
void read_group_close(struct read_group *g);

// turn[i]: which of the window's n samples comes as number i: `most` of one label in a row, the
// last of a label fewer, one of a label below 0 alone. 0 or -1.
int read_group_order(const struct read_order *o, uint64_t window, const int32_t *label, size_t n,
                     size_t most, uint32_t *turn, struct err *e);

#endif
