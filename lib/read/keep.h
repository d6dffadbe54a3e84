// SPDX-License-Identifier: Apache-2.0
// The keep mask of one shard.
#ifndef READ_KEEP_H
#define READ_KEEP_H

#include <stdbool.h>
#include <stdint.h>

#include "system/digest.h"
#include "base/err.h"
#include "formats/npy.h"

struct read_keep {
    bool open;
    struct npy mask;       // |u1 (rows,)
    char keys[DIGEST_HEX]; // of the sidecar; "" = unknown
    char *path;
};

// Opens FOLDER/NAME.npy for the shard NAME.tar (.tar.gz, .tgz ...). A sidecar beside it gives the
// digest of the keys it was made for. 0 or -1.
int read_keep_open(struct read_keep *k, const char *folder, const char *shard_name, struct err *e);
// 1 kept, 0 dropped, -1: the mask has no such row.
int read_keep_row(const struct read_keep *k, uint64_t row, struct err *e);
// At the end of the shard: refuses a mask of another length, or made for other keys.
int read_keep_check(const struct read_keep *k, uint64_t rows, const char *keys, struct err *e);
void read_keep_close(struct read_keep *k);

#endif
