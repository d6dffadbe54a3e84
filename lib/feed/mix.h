// SPDX-License-Identifier: Apache-2.0
// A mixture of data sets, --data 'NAME=WEIGHT:CMD' for each: batches have rows of all of them by
// weight. How many of each a batch has follows from how many each has had, so that the shares are
// those of the weights to a row or two at any time, and a resumed run goes on the same.
#ifndef FEED_MIX_H
#define FEED_MIX_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { MIX_MOST = 64, MIX_NAME = 64 };

struct mix_set {
    char name[MIX_NAME];
    double weight;
    const char *command; // inside the item
};

struct mix {
    size_t n; // 0: no mixture
    struct mix_set set[MIX_MOST];
};

// Of the items of --data; commands alone are no mixture, and the last one counts. 0 or -1: a wrong
// one.
int mix_parse(struct mix *m, const char *const *items, size_t n, struct err *e);
// A name with {set} replaced by the set's; heap, NULL with e set.
char *mix_name(const char *text, const char *set, struct err *e);
// "A=1,B=0.5" into text[room].
void mix_text(const struct mix *m, char *text, size_t room);
// Rows of each set in the next batch, which sum to `batch`; used: rows that each has had.
void mix_deal(const struct mix *m, const uint64_t *used, size_t batch, size_t *rows);

#endif
