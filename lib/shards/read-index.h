// SPDX-License-Identifier: Apache-2.0
// The index: a line for each sample, in the order they come out, TAB between the columns:
//
//     ordinal key status reason width height caption-bytes [shard]
//
// `-` is no reason; 0 a size that is not known. Control characters become '?'. The shard stands
// there when the run has several.
#ifndef SHARDS_READ_INDEX_H
#define SHARDS_READ_INDEX_H

#include <stdbool.h>

#include "system/io.h"
#include "formats/samples.h"

int read_index_line(struct out *o, const struct samples_record *r, const char *shard, // or NULL
                    struct err *e);

#endif
