// SPDX-License-Identifier: Apache-2.0
// Private to lib/read: the state of a source (source.c), and the step from a shard to the window
// (source-shard.c).
#ifndef READ_SOURCE_RUN_H
#define READ_SOURCE_RUN_H

#include "read/order.h"
#include "read/group.h"
#include "read/keep.h"
#include "read/source.h"
#include "shards/shard.h"

struct read_events {
    struct read_event *at;
    size_t n, cap;
};

struct read_source {
    const struct read_options *o;
    struct read_order order;
    uint64_t first, end; // the slice of the output sequence to hand out
    size_t next_shard;   // place in the run's order
    struct shard *shard; // open, or NULL
    struct read_shard *cur;
    bool announced; // cur
    struct read_keep keep;
    struct read_group group;
    int32_t *labels; // of the samples of the window that is being read
    size_t n_labels, cap_labels, cap_turn;
    uint32_t *turn;    // [n_labels] their order, once it is read; with o->group_labels
    size_t cur_at;     // of cur in the list
    uint64_t cur_read; // bytes of cur that o->bytes has
    uint64_t *counts;  // of each shard of the list, or NULL
    struct shard_keys *keys;
    struct read_shard *shards; // all that are alive, the newest first
    uint64_t seen;             // samples of the source sequence taken or passed over
    struct read_skip skip;
    bool told_skip;
    bool stopped;

    // The window being handed out: what goes before its samples, they, and what goes after.
    struct read_events before, window, after;
    uint64_t number; // of the window
    uint64_t at;     // output place of its first sample
    size_t i_before, i_window, i_after;
};

// The place in the list of the shard that comes as number i.
size_t read_place_of(const struct read_source *s, size_t i);
// Takes the next sample of the source sequence into the window; with `pass` only counts it. 1, 0 at
// the end of the last shard, -1.
int read_take(struct read_source *s, bool pass, struct err *e);
// End of --limit or --part: closes the shard. Reads one header further: if the shard ends there, it
// was read whole. 0 or -1.
int read_stop(struct read_source *s, struct err *e);

static inline bool read_in_slice(const struct read_source *s, uint64_t place)
{
    return place >= s->first && place < s->end;
}

#endif
