// SPDX-License-Identifier: Apache-2.0
// Samples picked for showing: their pictures out of the shards, small, as text for a page.
#ifndef PAGE_PICTURES_H
#define PAGE_PICTURES_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/path.h"

// One sample picked for showing.
struct page_pick {
    uint32_t shard; // in the names
    uint64_t ordinal;
    int set;    // which group or cluster it belongs to
    char *data; // "image/jpeg;base64,..."; owned; NULL: could not be had
    char caption[160];
    char key[100];
};
struct page_picks {
    struct page_pick *pick;
    size_t n, cap;
    uint64_t *set_size; // members of each set
    size_t n_sets;
};
// Reads pictures and captions out of shards/NAME.tar and makes the pictures small, so that the page
// has a bound; one that is not there or cannot be decoded stays without.
int page_picks_load(const char *shards, const struct path_names *s, struct page_picks *p,
                    struct err *e);
void page_picks_free(struct page_picks *p);

#endif
