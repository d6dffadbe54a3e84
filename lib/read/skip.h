// SPDX-License-Identifier: Apache-2.0
// What a run leaves out at its start (--skip): the chained digest of those samples' keys in the
// order in which they would have come (samples.h, samples_chain). The keys of one window at a time
// are kept, as a window is put in order when all of it is known.
#ifndef READ_SKIP_H
#define READ_SKIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "system/digest.h"
#include "base/err.h"
#include "read/order.h"

struct read_skip {
    uint64_t from, to; // places of the output sequence that are skipped
    uint64_t n;        // skipped so far
    uint8_t chain[DIGEST_BYTES];
    char **keys; // of the window that is being read
    size_t n_keys, cap;
    bool done; // all that is skipped is behind
};

// The next sample's key. Nothing once it is done, or where nothing is skipped. 0 or -1.
int read_skip_key(struct read_skip *s, const char *key, struct err *e);
// The window with this number, whose first sample has place `at`, is read.
// turn: the order of its samples where they are grouped (read/group.h), or NULL.
void read_skip_window(struct read_skip *s, const struct read_order *o, uint64_t number, uint64_t at,
                      const uint32_t *turn);
void read_skip_release(struct read_skip *s);

#endif
