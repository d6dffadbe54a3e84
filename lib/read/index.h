// SPDX-License-Identifier: Apache-2.0
// The index: a line for each sample, in the order they come out, TAB between the columns:
//
//     ordinal key status reason width height caption-bytes [shard]
//
// `-` is no reason; 0 a size that is not known. Control characters become '?'. The shard stands
// there when the run has several.
#ifndef READ_INDEX_H
#define READ_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "system/io.h"
#include "formats/samples.h"
#include "system/digest.h"

int read_index_line(struct out *o, const struct samples_record *r, const char *shard, // or NULL
                    struct err *e);

// Adds a key to a digest as the index shows it.
void read_index_key(struct digest *d, const char *key);
// The digest of the keys in an index, in order, and their number. 0 or -1.
int read_index_keys(const char *path, char hex[DIGEST_HEX], uint64_t *rows, struct err *e);

#endif
