// SPDX-License-Identifier: Apache-2.0
// The state of one shard of a run (struct read_shard of read.h).
#ifndef READ_SHARD_H
#define READ_SHARD_H

#include "read/read.h"

// Sets path and name: the path as it stands, of a URL what may be shown of it. 0 or -1.
int read_shard_name(struct read_shard *to, const char *path, struct err *e);
void read_shard_free(struct read_shard *s);

#endif
