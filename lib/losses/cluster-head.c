// SPDX-License-Identifier: Apache-2.0
#include "losses/cluster-head.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "losses/loss-block.h"
#include "losses/ranks.h"
#include "base/mem.h"
#include "base/rng.h"

// Streams of the generator: classes are drawn by (seed, CLASS_STREAM + step).
#define CLASS_STREAM (UINT64_C(1) << 40)

static size_t sample_max(const struct cluster_set *set, size_t k, size_t labels)
{
    if (set->rate >= 1)
        return k;
    size_t s = (size_t)ceil(set->rate * (double)k);
    s = s > labels ? s : labels;
    return s < k ? s : k;
}

// The maximum number of classes of the sample that belong to one part.
static size_t part_sample(const struct cluster_set *set, size_t k, size_t s)
{
    size_t parts = set->parts ? set->parts : 1, most = k / parts + (k % parts != 0);
    return s < most ? s : most;
}

static size_t parts_bytes(const struct cluster_set *set, size_t dim, size_t n_max, size_t n_label)
{
    size_t p = set->parts, vectors = n_label + 2;
    if (p <= 1)
        return 0;
    return ((vectors + 2) * p + vectors + 2) * n_max * sizeof(float) +
           (1 + part_sum_levels(p / ranks_size(set->comm))) * n_max * dim * sizeof(float);
}

// The maximum number of a rank's classes in a sample of `rows`. With several parts, all of a sample
// may belong to one rank.
static size_t own_classes(const struct cluster_set *set, size_t k)
{
    return k / ranks_size(set->comm) + (k % ranks_size(set->comm) != 0);
}

// Of cluster_soft and of a prior.
static size_t choice_bytes(const struct cluster_set *set, size_t k_own, size_t own, size_t n_block,
                           size_t n_max, size_t n_label)
{
    size_t soft = n_max * n_label * 5 * sizeof(float) + 2 * n_max * sizeof(float);
    return (set->soft ? soft : 0) + (set->prior ? (k_own + own + n_block) * sizeof(float) : 0);
}

size_t cluster_head_bytes(const struct cluster_set *set, size_t k, size_t dim, size_t n_max,
                          size_t n_label)
{
    size_t s = sample_max(set, k, n_max * n_label);
    size_t k_own = own_classes(set, k), own = s < k_own ? s : k_own;
    size_t state = k_own * dim * sizeof(float) * (set->frozen ? 1 : 3);
    size_t rows = own * dim * sizeof(float) * (set->rate >= 1 ? 2 : 3) + own * 12 + s * 4;
    size_t cols = part_sample(set, k, s), n = loss_block_rows(n_max, cols, set->block);
    return state + rows + parts_bytes(set, dim, n_max, n_label) + 4 * n * cols * sizeof(float) +
           n * sizeof(int32_t) + (set->rate >= 1 ? 0 : k * sizeof(int32_t)) +
           choice_bytes(set, k_own, own, n, n_max, n_label);
}

static void *room(struct dev *d, size_t a, size_t b, size_t size, struct err *e)
{
    size_t n;
    if (!mem_mul(a, b, &n) || !mem_mul(n, size, &n)) {
        err_set(e, "the cluster head is too large");
        return NULL;
    }
    return d->op->alloc(d, n ? n : 1, e);
}

// Allocates what several parts need in addition.
static int alloc_parts(struct cluster_head *h, struct err *e)
{
    struct dev *d = h->d;
    size_t vectors = h->n_label + 2, all = h->parts * h->n_max;
    bool ok = (h->begin = mem_alloc(h->own + 1, sizeof *h->begin, e)) &&
              (h->block_host = mem_alloc(h->n_block, sizeof *h->block_host, e)) &&
              (h->turn_host = mem_alloc(all, sizeof *h->turn_host, e)) &&
              (h->turn = room(d, all, 1, sizeof *h->turn, e)) &&
              (h->sums = room(d, vectors, all, sizeof(float), e)) &&
              (h->turned = room(d, all, 1, sizeof(float), e)) &&
              (h->whole = room(d, vectors, h->n_max, sizeof(float), e)) &&
              (h->loss = room(d, h->n_max, 1, sizeof(float), e)) &&
              (h->loss2 = room(d, h->n_max, 1, sizeof(float), e)) &&
              (h->part_dv = room(d, h->n_max, h->dim, sizeof(float), e));
    return ok && !part_sum_open(&h->dv, d, h->n_max * h->dim, h->own, e) ? 0 : -1;
}

static int alloc_soft(struct cluster_head *h, struct err *e)
{
    struct dev *d = h->d;
    size_t n = h->n_max, l = h->n_label;
    return (h->soft = room(d, n, l, sizeof(float), e)) &&
                   (h->soft_x = room(d, n, l, sizeof(float), e)) &&
                   (h->soft_d = room(d, n, l, sizeof(float), e)) &&
                   (h->soft_loss = room(d, n, 2, sizeof(float), e)) &&
                   (h->pick = room(d, n, l, sizeof(int32_t), e)) &&
                   (h->pick2 = room(d, n, l, sizeof(int32_t), e)) &&
                   (h->pick_host = mem_alloc(2 * n * l, sizeof *h->pick_host, e)) &&
                   (h->soft_host = mem_alloc(n * l, sizeof *h->soft_host, e))
               ? 0
               : -1;
}

static int alloc_prior(struct cluster_head *h, struct err *e)
{
    struct dev *d = h->d;
    float one = 1;
    if (!(h->prior = room(d, h->k_own, 1, sizeof(float), e)) ||
        !(h->prior_sample = room(d, h->s_max, 1, sizeof(float), e)) ||
        !(h->ones = room(d, h->n_block, 1, sizeof(float), e)))
        return -1;
    d->op->upload(d, h->prior, h->set.prior + h->k0, h->k_own * sizeof(float));
    for (size_t i = 0; i < h->n_block; i++)
        d->op->upload(d, h->ones + i, &one, sizeof one);
    return d->op->sync(d, e);
}

static int alloc_step(struct cluster_head *h, struct err *e)
{
    struct dev *d = h->d;
    size_t s = h->s_max, all = sample_max(&h->set, h->k, h->n_max * h->n_label);
    size_t cols = part_sample(&h->set, h->k, all);
    size_t n = h->n_block = loss_block_rows(h->n_max, cols, h->set.block);
    bool ok = (h->ids_dev = room(d, s, 1, sizeof(int32_t), e)) &&
              (h->unit = room(d, s, h->dim, sizeof(float), e)) &&
              (h->norm = room(d, s, 1, sizeof(float), e)) &&
              (h->dw = room(d, s, h->dim, sizeof(float), e)) &&
              (h->cosine = room(d, n, cols, sizeof(float), e)) &&
              (h->grad = room(d, n, cols, sizeof(float), e)) &&
              (h->logits = room(d, n, cols, sizeof(float), e)) &&
              (h->teacher = room(d, n, cols, sizeof(float), e)) &&
              (h->target = room(d, n, 1, sizeof(int32_t), e)) &&
              (h->ids = mem_alloc(s, sizeof *h->ids, e)) &&
              (h->target_host = mem_alloc(h->n_max * h->n_label, sizeof *h->target_host, e));
    if (ok && !h->all)
        ok = (h->rows = room(d, s, h->dim, sizeof(float), e)) &&
             (h->drawn = mem_alloc(all, sizeof *h->drawn, e)) &&
             (h->slot = mem_alloc(h->k, sizeof *h->slot, e));
    if (!ok || (h->parts > 1 && alloc_parts(h, e)) || (h->set.soft && alloc_soft(h, e)) ||
        (h->set.prior && alloc_prior(h, e)))
        return -1;
    for (size_t i = 0; i < h->k && h->slot; i++)
        h->slot[i] = -1;
    for (size_t i = 0; i < h->k_own && h->all; i++)
        h->ids[i] = (int32_t)i;
    if (h->all)
        d->op->upload(d, h->ids_dev, h->ids, h->k_own * sizeof *h->ids);
    return 0;
}

// Copies through the sample's buffers, so that no second copy of k rows is needed.
int cluster_head_set(struct cluster_head *h, size_t first, size_t n, const float *rows,
                     struct err *e)
{
    const struct dev_ops *op = h->d->op;
    size_t at = first > h->k0 ? first : h->k0, end = h->k0 + h->k_own;
    end = first + n < end ? first + n : end;
    if (at >= end)
        return 0;
    rows += (at - first) * h->dim;
    n = end - at;
    op->upload(h->d, h->dw, rows, n * h->dim * sizeof *rows);
    op->unit(h->d, n, h->dim, h->dw, h->w + (at - h->k0) * h->dim, h->norm);
    op->zero(h->d, h->dw, n * h->dim * sizeof *rows); // where no loss uses the head
    return op->sync(h->d, e);
}

static int find_own(struct cluster_head *h, struct err *e)
{
    size_t size = ranks_size(h->set.comm), all;
    h->parts = h->set.parts ? h->set.parts : 1;
    if (h->parts % size)
        return err_set(e, "clusters in %zu parts cannot be dealt to %zu ranks", h->parts, size);
    h->own = h->parts / size;
    h->part0 = h->own * ranks_rank(h->set.comm);
    h->k0 = cluster_head_class(h, h->part0);
    h->k_own = cluster_head_class(h, h->part0 + h->own) - h->k0;
    all = sample_max(&h->set, h->k, h->n_max * h->n_label);
    h->s_max = all < h->k_own ? all : h->k_own;
    h->s_max = h->s_max ? h->s_max : 1;
    return 0;
}

int cluster_head_open(struct cluster_head *h, struct dev *d, const struct cluster_set *set,
                      const float *centroids, size_t k, size_t dim, size_t n_max, size_t n_label,
                      struct err *e)
{
    memset(h, 0, sizeof *h);
    *h = (struct cluster_head){.d = d, .set = *set, .k = k, .dim = dim};
    h->n_max = n_max;
    h->n_label = n_label ? n_label : 1;
    if (!k || k > INT32_MAX)
        return err_set(e, "%zu centroids: at least 1 and below 2^31 are needed", k);
    h->all = set->rate >= 1;
    if (find_own(h, e) || !(h->w = room(d, h->k_own, dim, sizeof(float), e)) || alloc_step(h, e)) {
        cluster_head_close(h);
        return -1;
    }
    for (size_t at = 0; at < k && centroids; at += h->s_max) {
        size_t n = k - at < h->s_max ? k - at : h->s_max;
        if (cluster_head_set(h, at, n, centroids + at * dim, e)) {
            cluster_head_close(h);
            return -1;
        }
    }
    d->op->zero(d, h->dw, h->s_max * dim * sizeof(float)); // where no loss uses the head
    if (d->op->sync(d, e)) {
        cluster_head_close(h);
        return -1;
    }
    return 0;
}

void cluster_head_close(struct cluster_head *h)
{
    if (!h->d)
        return;
    void *dev[] = {h->w,      h->ids_dev,      h->rows,   h->unit,      h->norm,   h->dw,
                   h->cosine, h->grad,         h->logits, h->teacher,   h->target, h->turn,
                   h->sums,   h->turned,       h->whole,  h->loss,      h->loss2,  h->part_dv,
                   h->soft,   h->soft_x,       h->soft_d, h->soft_loss, h->pick,   h->pick2,
                   h->prior,  h->prior_sample, h->ones};
    for (size_t i = 0; i < sizeof dev / sizeof *dev; i++)
        if (dev[i])
            h->d->op->free(h->d, dev[i]);
    free(h->slot);
    free(h->pick_host);
    free(h->soft_host);
    free(h->ids);
    free(h->drawn);
    free(h->target_host);
    free(h->begin);
    free(h->block_host);
    free(h->turn_host);
    part_sum_close(&h->dv);
    memset(h, 0, sizeof *h);
}

void cluster_head_begin(struct cluster_head *h)
{
    for (size_t i = 0; i < h->n_drawn && h->slot; i++)
        h->slot[h->drawn[i]] = -1;
    h->s = h->n_drawn = 0;
}

static int by_number(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static void take(struct cluster_head *h, int32_t id)
{
    if (h->slot[id] < 0) {
        h->slot[id] = 0;
        h->drawn[h->n_drawn++] = id;
    }
}

// The batch's classes, then others along a pseudorandom permutation of all until there are enough.
// All ranks draw the same.
static void draw(struct cluster_head *h, size_t n, const int32_t *labels, uint64_t seed,
                 uint64_t step)
{
    for (size_t i = 0; i < n; i++)
        take(h, labels[i]);
    size_t want = (size_t)ceil(h->set.rate * (double)h->k);
    for (uint64_t i = 0; h->n_drawn < want && i < h->k; i++)
        take(h, (int32_t)rng_permute(seed, CLASS_STREAM + step, h->k, i));
    qsort(h->drawn, h->n_drawn, sizeof *h->drawn, by_number);
    h->drawn0 = h->s = 0;
    for (size_t i = 0; i < h->n_drawn; i++) {
        size_t id = (size_t)h->drawn[i];
        h->slot[id] = (int32_t)i;
        h->drawn0 += id < h->k0;
        if (id >= h->k0 && id - h->k0 < h->k_own)
            h->ids[h->s++] = (int32_t)(id - h->k0);
    }
    h->d->op->upload(h->d, h->ids_dev, h->ids, h->s * sizeof *h->ids);
}

size_t cluster_head_class(const struct cluster_head *h, size_t q)
{
    return h->k / h->parts * q + h->k % h->parts * q / h->parts;
}

static void find_parts(struct cluster_head *h)
{
    size_t s = 0;
    for (size_t q = 0; h->begin && q <= h->own; q++) {
        while (s < h->s && h->k0 + (size_t)h->ids[s] < cluster_head_class(h, h->part0 + q))
            s++;
        h->begin[q] = s;
    }
}

int cluster_head_draw(struct cluster_head *h, size_t n, const int32_t *labels, uint64_t seed,
                      uint64_t step, struct err *e)
{
    const struct dev_ops *op = h->d->op;
    for (size_t i = 0; i < n * h->n_label; i++)
        if (labels[i] < 0 || (size_t)labels[i] >= h->k)
            return err_set(e, "label %d: there are %zu centroids", (int)labels[i], h->k);
    const float *rows = h->w;
    if (h->all) {
        h->s = h->k_own;
        h->drawn0 = h->k0;
    } else {
        draw(h, n * h->n_label, labels, seed, step);
        op->gather(h->d, h->s, h->dim, h->w, h->dim, h->ids_dev, h->rows);
        rows = h->rows;
    }
    // Target columns, one run of n for each of the labels.
    for (size_t l = 0; l < h->n_label; l++)
        for (size_t i = 0; i < n; i++) {
            int32_t y = labels[i * h->n_label + l];
            h->target_host[l * n + i] = h->slot ? h->slot[y] : y;
        }
    if (h->prior)
        op->gather(h->d, h->s, 1, h->prior, 1, h->ids_dev, h->prior_sample);
    find_parts(h);
    op->unit(h->d, h->s, h->dim, rows, h->unit, h->norm);
    return 0;
}

void cluster_head_prior(const struct cluster_head *h, size_t n, size_t first, size_t cols,
                        float *logits)
{
    if (h->prior)
        h->d->op->gemm(h->d, false, true, n, cols, 1, 1, h->ones, 1, h->prior_sample + first, 1, 1,
                       logits, cols);
}

void cluster_head_block(struct cluster_head *h, size_t n, const float *v)
{
    const struct dev_ops *op = h->d->op;
    op->gemm(h->d, false, true, n, h->s, h->dim, 1, v, h->dim, h->unit, h->dim, 0, h->cosine, h->s);
    op->zero(h->d, h->grad, n * h->s * sizeof(float));
}

void cluster_head_block_end(struct cluster_head *h, bool first, size_t n, const float *v, float *dv)
{
    const struct dev_ops *op = h->d->op;
    op->gemm(h->d, false, false, n, h->dim, h->s, 1, h->grad, h->s, h->unit, h->dim, 1, dv, h->dim);
    if (!h->set.frozen)
        op->gemm(h->d, true, false, h->s, h->dim, n, 1, h->grad, h->s, v, h->dim, first ? 0 : 1,
                 h->dw, h->dim);
}

void cluster_head_finish(struct cluster_head *h)
{
    if (!h->set.frozen)
        h->d->op->unit_bwd(h->d, h->s, h->dim, h->unit, h->norm, h->dw, h->dw);
}
