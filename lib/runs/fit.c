// SPDX-License-Identifier: Apache-2.0
#include "runs/fit.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "system/memory-limit.h"
#include "losses/ranks.h"
#include "feed/data.h"
#include "runs/setup.h"
#include "train/choose.h"

static const double GIB = 1024.0 * 1024 * 1024, WITH_SPARE = 0.9, ALL = 1;

struct memory_fit {
    const struct clip_table *t;
    struct train_set s;
    struct dev *d;
    bool on_cpu;              // the device's memory is the host's
    struct memory_limit host; // left is UINT64_MAX where it is not known
    size_t left, total;       // of a device of its own
    struct train_memory m;    // of s
    uint64_t data;            // batches, on the host
};

static void measure(struct memory_fit *f)
{
    const struct train_set *s = &f->s;
    train_memory(f->t, s, f->d, &f->m);
    size_t dim = s->dim_t; // of all teachers
    for (size_t i = 1; i < s->teachers; i++)
        dim += s->dim_of[i];
    f->data = train_data_bytes(&f->t->cfg, train_reads(s), ranks_size(s->comm), dim, s->n_label,
                               s->losses.towers);
    f->data *= s->held_out ? 2 : 1;
    f->data += train_choose_host(s, &f->t->cfg, dim);
}

static bool fits(struct memory_fit *f, size_t pieces, double share)
{
    f->s.accumulate = pieces;
    measure(f);
    double host = (double)f->data + (f->on_cpu ? (double)f->m.total : 0);
    if (f->host.left != UINT64_MAX && host > share * (double)f->host.left)
        return false;
    return f->on_cpu || (double)f->m.total <= share * (double)f->left;
}

// Prefers pieces of one size, which cost nothing more: the towers run twice for any number above 1.
static size_t even(const struct memory_fit *f, size_t least)
{
    for (size_t n = least; n <= least + least / 4; n++)
        if (f->s.batch % n == 0)
            return n;
    return least;
}

// The fewest pieces that fit; 0: no number fits. More pieces are smaller, but may be in more parts,
// each doubling of which needs the gradients once more (losses/part-sum.h): so it finds the first
// power of two that fits, then the fewest above half of it.
static size_t fewest(struct memory_fit *f, double share)
{
    size_t bad = 0, good = 1, most = f->s.batch;
    while (!fits(f, good, share)) {
        if (good == most)
            return 0;
        bad = good;
        good = good > most / 2 ? most : 2 * good;
    }
    if (good == 1)
        return 1;
    while (good - bad > 1) {
        size_t mid = bad + (good - bad) / 2;
        if (fits(f, mid, share))
            good = mid;
        else
            bad = mid;
    }
    return even(f, good);
}

// The same number of pieces for each rank; 0: no such number fits.
static size_t fewest_dealt(struct memory_fit *f, double share)
{
    for (size_t n = ranks_size(f->s.comm); n && f->s.batch % n == 0; n *= 2)
        if (fits(f, n, share))
            return n;
    return 0;
}

static size_t choose(struct memory_fit *f)
{
    if (ranks_size(f->s.comm) > 1)
        return fewest_dealt(f, ALL);
    size_t n = fewest(f, WITH_SPARE);
    return n ? n : fewest(f, ALL);
}

// Returns an option that would make the run fit, in the order of their cost.
static void advice(const struct memory_fit *was, char *text, size_t room)
{
    struct memory_fit f = *was;
    size_t n;
    f.s.parts_most = 0; // of a number that is given
    if ((n = choose(&f))) {
        snprintf(text, room, "--accumulate %zu fits", n);
        return;
    }
    f.s.recompute = true;
    if ((n = choose(&f))) {
        snprintf(text, room, "--recompute with --accumulate %zu fits", n);
        return;
    }
    f.s.recompute = was->s.recompute;
    while (f.s.batch /= 2)
        if ((n = choose(&f))) {
            snprintf(text, room, "--batch %zu with --accumulate %zu fits", f.s.batch, n);
            return;
        }
    f.s.batch = 1;
    f.s.cluster.frozen = true;
    if (f.s.k && choose(&f))
        snprintf(text, room, "no batch fits unless --freeze-centroids is given");
    else
        snprintf(text, room, "not even --batch 1 fits: %s",
                 f.m.clusters > f.m.parameters ? "fewer clusters, or a lower --sample-rate"
                                               : "a smaller student");
}

static int refuse(struct memory_fit *f, const char *parts, struct err *e)
{
    char hint[128], there[MEMORY_BY + 64];
    measure(f);
    if (f->on_cpu || (f->host.left != UINT64_MAX && f->data > f->host.left))
        snprintf(there, sizeof there, "%.2f GiB are free (%s)", (double)f->host.left / GIB,
                 f->host.by);
    else
        snprintf(there, sizeof there, "%.2f GiB are free of %.2f on %s", (double)f->left / GIB,
                 (double)f->total / GIB, f->d->name);
    advice(f, hint, sizeof hint);
    return err_set(e, "this needs %s; %s: %s", parts, there, hint);
}

static void describe(const struct memory_fit *f, char text[TRAIN_FIT_TEXT])
{
    char parts[256];
    train_setup_memory_text(&f->m, parts, sizeof parts);
    snprintf(text, TRAIN_FIT_TEXT, "%s, data %.2f GiB", parts, (double)f->data / GIB);
}

void train_fit_limit(struct train_set *s)
{
    struct memory_limit *m = &s->memory;
    int near = s->comm ? s->comm->near : 0;
    memory_limit_read("", m);
    if (near < 2 || m->left == UINT64_MAX)
        return;
    size_t n = strlen(m->by);
    m->left /= (uint64_t)near;
    snprintf(m->by + n, sizeof m->by - n, ", for each of %d ranks", near);
}

static int open_limits(struct memory_fit *f, struct err *e)
{
    f->on_cpu = !strncmp(f->d->name, "cpu", 3);
    if (!f->s.memory.by[0])
        train_fit_limit(&f->s);
    f->host = f->s.memory;
    return f->on_cpu ? 0 : f->d->op->memory(f->d, &f->left, &f->total, e);
}

int train_fit(const struct clip_config *cfg, struct train_set *s, struct dev *d,
              char text[TRAIN_FIT_TEXT], struct err *e)
{
    struct clip_table t;
    struct memory_fit f = {.t = &t, .s = *s, .d = d};
    if (clip_table_init(&t, cfg, e))
        return -1;
    int rc = open_limits(&f, e);
    size_t pieces = s->accumulate;
    if (!rc && !pieces) // of ranks one each, so that all have the same whatever they have free
        pieces = ranks_size(s->comm) > 1 ? ranks_size(s->comm) : choose(&f);
    bool good = !rc && fits(&f, pieces ? pieces : s->batch, ALL);
    describe(&f, text);
    if (good)
        s->accumulate = s->batch / train_piece(&f.s) + (s->batch % train_piece(&f.s) != 0);
    else if (!rc)
        rc = refuse(&f, text, e);
    clip_table_release(&t);
    if (rc)
        return -1;
    size_t n = strlen(text);
    if (!f.on_cpu)
        snprintf(text + n, TRAIN_FIT_TEXT - n, "; %.2f GiB are free of %.2f on %s",
                 (double)f.left / GIB, (double)f.total / GIB, d->name);
    else if (f.host.left != UINT64_MAX)
        snprintf(text + n, TRAIN_FIT_TEXT - n, "; %.2f GiB are free (%s)",
                 (double)f.host.left / GIB, f.host.by);
    return 0;
}
