// SPDX-License-Identifier: Apache-2.0
#include "train/shares.h"

// The vector's length up to the nearest place for a cut.
static size_t place(const struct clip_table *t, const struct clip_locks *l, size_t run, size_t to)
{
    size_t at = 0;
    for (size_t i = 0; i < t->n; i++) {
        size_t room = clip_locks_graded(l, t, i) ? clip_table_room(t, i) : 0;
        if (to < at + room) {
            size_t within = (to - at + run / 2) / run * run;
            return within < t->t[i].numel ? at + within : at + room;
        }
        at += room;
    }
    return at;
}

static size_t cut_of(const struct clip_table *t, const struct clip_locks *l, size_t ranks,
                     size_t run, size_t r)
{
    size_t n = clip_locks_n_grad(l, t);
    return place(t, l, run, n / ranks * r + n % ranks * r / ranks);
}

void train_shares(const struct clip_table *t, const struct clip_locks *l, size_t ranks, size_t run,
                  size_t *cut)
{
    for (size_t r = 0; r <= ranks; r++)
        cut[r] = cut_of(t, l, ranks, run, r);
}

size_t train_share_most(const struct clip_table *t, const struct clip_locks *l, size_t ranks,
                        size_t run)
{
    size_t most = 0, at = 0;
    if (ranks == 1)
        return clip_locks_n_trained(l, t);
    for (size_t r = 1; r <= ranks; r++) {
        size_t next = cut_of(t, l, ranks, run, r);
        most = next - at > most ? next - at : most;
        at = next;
    }
    return most;
}
