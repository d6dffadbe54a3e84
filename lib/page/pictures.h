// SPDX-License-Identifier: Apache-2.0
// Samples picked for showing: their pictures out of the shards, small, as text for a page.
#ifndef PAGE_PICTURES_H
#define PAGE_PICTURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/path.h"
#include "image/thumb.h"
#include "page/html.h"
#include "shards/shard.h"

// One sample picked for showing.
struct page_pick {
    uint32_t shard; // in the names
    uint64_t ordinal;
    int set;    // which group or cluster it belongs to
    bool stays; // the one that the balance keeps
    char *data; // "image/jpeg;base64,..."; owned; NULL: could not be had
    char caption[160];
    char key[100];
};
struct page_picks {
    struct page_pick *pick;
    size_t n, cap;
    uint64_t *set_size;      // members of each set
    uint64_t *set_value;     // its number
    uint64_t size_count[33]; // sets of 2^(k - 1) to 2^k - 1 members, whether picked or not
    size_t n_sets;
};
// Reads pictures and captions out of shards/NAME.tar and makes the pictures small, so that the page
// has a bound; one that is not there or cannot be decoded stays without.
int page_picks_load(const char *shards, const struct path_names *s, struct page_picks *p,
                    struct err *e);
// Key, caption and small picture of a sample; a picture that cannot be decoded leaves data NULL. t:
// buffers. 0 or -1.
int page_pick_fill(struct page_pick *k, const struct shard_sample *s, struct thumb *t,
                   struct err *e);
void page_picks_free(struct page_picks *p);
// The picture as <img>, its caption as alternative text; a box where there is none.
void page_put_picture(struct html *h, const struct page_pick *p);

#endif
