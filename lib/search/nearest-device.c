// SPDX-License-Identifier: Apache-2.0
// nearest_rows with the products of a device. Rows are sent in batches ("flights"): while the
// device works on a flight, the host packs and copies the next one, and decides the candidates of
// the one before by dot_exact. A row with more candidates than a flight can hold (many centroids as
// near as the nearest) is searched on the host.
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "search/nearest-run.h"
#include "base/greatest.h"
#include "base/mem.h"
#include "system/threads.h"
#include "search/search-device.h"

enum { TASK = 64, LEFT_OVER = 1024 }; // rows decided by one task; searched here at once

struct listed_row {
    uint32_t at;
    float score;
};

struct device_job {
    struct nearest *a;
    struct search_device *s;
    const float *rows;
    const uint8_t *state;
    size_t n, top;
    int32_t *labels;
    double *sims;
    int threads;
    float *slack[2]; // of the rows of a flight
    uint32_t *found; // flight + 1
    size_t *end;     // per row of the flight: the end of its candidates
    struct listed_row *candidates;
    size_t room;
    size_t first, count; // the flight that is decided
    int side;            // its half
};

// The centroids from `first` on, as many as `right` holds, and their greatest norm and loss.
static int send_right(struct nearest *a, size_t first, bool measure, int threads, struct err *e)
{
    struct search_device *s = a->device;
    size_t n = a->k - first < s->room ? a->k - first : s->room;
    for (size_t at = 0; at < n; at += SEARCH_DEVICE_PACK) {
        size_t part = n - at < SEARCH_DEVICE_PACK ? n - at : SEARCH_DEVICE_PACK;
        if (search_device_pack_rows(s, a->centroids + (first + at) * a->dim, part, threads, e))
            return -1;
        s->d->op->upload(s->d, search_device_row(s, s->right, at), s->act,
                         part * s->ld * s->d->act_size);
        for (size_t i = 0; i < part && measure; i++) {
            a->most = fmax(a->most, s->norm[i]);
            a->worst = fmax(a->worst, s->lost[i]);
        }
    }
    return 0;
}

int nearest_device_init(struct nearest *a, int threads, struct err *e)
{
    for (size_t c = 0; c < a->k; c += a->device->room)
        if (send_right(a, c, true, threads, e))
            return -1;
    return a->device->d->op->sync(a->device->d, e);
}

// Packs the rows of a flight and sends them into a half of `left`.
static int send_left(struct device_job *j, size_t first, size_t n, int side, struct err *e)
{
    struct search_device *s = j->s;
    const struct nearest *a = j->a;
    for (size_t at = 0; at < n; at += SEARCH_DEVICE_PACK) {
        size_t part = n - at < SEARCH_DEVICE_PACK ? n - at : SEARCH_DEVICE_PACK;
        if (search_device_pack_rows(s, j->rows + (first + at) * a->dim, part, j->threads, e))
            return -1;
        s->d->op->upload(s->d, search_device_row(s, s->left[side], at), s->act,
                         part * s->ld * s->d->act_size);
        for (size_t i = 0; i < part; i++) {
            double bound = search_device_bound(s, s->norm[i], s->lost[i], a->most, a->worst);
            double size = (double)s->norm[i] * (a->most + a->worst); // covers the subtraction's
            bool failed = j->state && row_failed(j->state[first + at + i]);
            j->slack[side][at + i] =
                failed ? -INFINITY : (float)((2 * bound + 0x1p-22 * size) * (1 + 1e-6));
        }
    }
    s->d->op->upload(s->d, s->slack[side], j->slack[side], n * sizeof(float));
    return 0;
}

// The blocks of scores of n rows with the centroids [first, first + k) that `right` holds.
static void search(struct device_job *j, size_t n, int side, size_t first, size_t k)
{
    struct search_device *s = j->s;
    const struct dev_ops *op = s->d->op;
    for (size_t c = 0; c < k; c += s->cols)
        for (size_t r = 0; r < n; r += s->rows) {
            struct dev_scores block = {.v = s->scores,
                                       .ld = s->cols,
                                       .rows = n - r < s->rows ? n - r : s->rows,
                                       .cols = k - c < s->cols ? k - c : s->cols,
                                       .row0 = (uint32_t)r,
                                       .col0 = (uint32_t)(first + c)};
            struct dev_top top = {.n = j->top,
                                  .first = first + c == 0,
                                  .most = s->most,
                                  .slack = s->slack[side] + r,
                                  .best = s->best + r * j->top,
                                  .found = s->found + r};
            op->scores(s->d, block.rows, search_device_row(s, s->left[side], r), block.cols,
                       search_device_row(s, s->right, c), s->ld, s->scores, s->cols);
            op->hits_top(s->d, &block, &top, &s->hits);
        }
}

static int launch(struct device_job *j, size_t n, int side, struct err *e)
{
    struct search_device *s = j->s;
    size_t k = j->a->k;
    s->d->op->zero(s->d, s->hits.n, sizeof *s->hits.n);
    for (size_t c = 0; c < k; c += s->room) {
        if (k > s->room && send_right(j->a, c, false, j->threads, e))
            return -1;
        search(j, n, side, c, k - c < s->room ? k - c : s->room);
    }
    return 0;
}

// Where each row's candidates begin; how many there are in all.
static int lay_out(struct device_job *j, size_t *all, struct err *e)
{
    *all = 0;
    for (size_t i = 0; i < j->count; i++) {
        j->end[i] = *all;
        *all += j->found[i] & ~DEV_TOP_FULL;
    }
    j->s->n_rows += j->count;
    j->s->n_candidates += *all;
    if (*all != j->found[j->s->flight])
        return err_set(e, "%s: %zu candidates, and %u in its list", j->s->d->name, *all,
                       j->found[j->s->flight]);
    return mem_grow(&j->candidates, &j->room, *all, sizeof *j->candidates, e);
}

// Waits for the flight, and sorts its candidates by rows.
static int collect(struct device_job *j, struct err *e)
{
    struct search_device *s = j->s;
    const struct dev_ops *op = s->d->op;
    size_t all, part;
    if (op->download(s->d, j->found, s->found, (s->flight + 1) * sizeof *j->found, e) ||
        lay_out(j, &all, e))
        return -1;
    for (size_t at = 0; at < all; at += part) {
        part = all - at < SEARCH_DEVICE_LIST ? all - at : SEARCH_DEVICE_LIST;
        if (op->download(s->d, s->listed, s->hits.hit + at, part * sizeof *s->listed, e))
            return -1;
        for (size_t i = 0; i < part; i++) {
            const struct dev_hit *h = &s->listed[i];
            if (h->row >= j->count || h->col >= j->a->k || j->end[h->row] >= all)
                return err_set(e, "%s: a candidate that cannot be", s->d->name);
            j->candidates[j->end[h->row]++] = (struct listed_row){h->col, h->score};
        }
    }
    return 0;
}

// The top-th greatest score; -inf where there are fewer.
static float nth(const struct listed_row *c, size_t n, size_t top)
{
    float best[DEV_TOP_MAX];
    for (size_t i = 0; i < top; i++)
        best[i] = -INFINITY;
    for (size_t i = 0; i < n; i++)
        greatest_keep(best, top, c[i].score);
    return best[top - 1];
}

static void decide(const struct device_job *j, size_t i)
{
    const struct nearest *a = j->a;
    struct nearest_pick best[DEV_TOP_MAX];
    size_t n = j->found[i], at = (j->first + i) * j->top, n_best = 0, in = 0, last = 0;
    const struct listed_row *c = n ? j->candidates + (j->end[i] - n) : NULL;
    float least = nth(c, n, j->top) - j->slack[j->side][i];
    const float *row = j->rows + (j->first + i) * a->dim;
    for (size_t k = 0; k < n; k++)
        if (c[k].score >= least) {
            in++;
            last = k;
        }
    if (in == 1 && !j->sims) // nothing to decide
        nearest_keep(best, &n_best, j->top, 0, c[last].at);
    else
        for (size_t k = 0; k < n; k++)
            if (c[k].score >= least)
                nearest_keep(best, &n_best, j->top,
                             dot_exact(row, a->centroids + c[k].at * a->dim, a->dim), c[k].at);
    nearest_write(best, n_best, j->top, j->labels + at, j->sims ? j->sims + at : NULL);
}

static void decide_task(void *ctx, size_t task)
{
    struct device_job *j = ctx;
    size_t end = (task + 1) * TASK < j->count ? (task + 1) * TASK : j->count;
    for (size_t i = task * TASK; i < end; i++)
        if (!(j->found[i] & DEV_TOP_FULL))
            decide(j, i);
}

// Searches up to LEFT_OVER listed rows of the flight here.
static int search_here(struct device_job *j, const uint32_t *list, size_t n, struct err *e)
{
    const struct nearest *a = j->a;
    float *rows = mem_alloc(n * a->dim, sizeof *rows, e);
    int32_t *labels = rows ? mem_alloc(n * j->top, sizeof *labels, e) : NULL;
    double *sims = labels ? mem_alloc(n * j->top, sizeof *sims, e) : NULL;
    int r = sims ? 0 : -1;
    for (size_t i = 0; i < n && !r; i++)
        memcpy(rows + i * a->dim, j->rows + (j->first + list[i]) * a->dim, a->dim * sizeof *rows);
    r = r || nearest_rows_here(j->a, j->threads, rows, n, NULL, j->top, labels, sims, e);
    for (size_t i = 0; i < n && !r; i++) {
        size_t at = (j->first + list[i]) * j->top;
        memcpy(j->labels + at, labels + i * j->top, j->top * sizeof *labels);
        if (j->sims)
            memcpy(j->sims + at, sims + i * j->top, j->top * sizeof *sims);
    }
    free(rows);
    free(labels);
    free(sims);
    return r ? -1 : 0;
}

static int settle(struct device_job *j, struct err *e)
{
    uint32_t list[LEFT_OVER];
    size_t n = 0;
    if (threads_for_stop(j->threads, (j->count + TASK - 1) / TASK, decide_task, j, e))
        return -1;
    for (size_t i = 0; i < j->count; i++) {
        if (j->found[i] & DEV_TOP_FULL) {
            list[n++] = (uint32_t)i;
            j->s->n_here++;
        }
        if (n == LEFT_OVER || (n && i + 1 == j->count)) {
            if (search_here(j, list, n, e))
                return -1;
            n = 0;
        }
    }
    return 0;
}

static int fly(struct device_job *j, struct err *e)
{
    size_t flight = j->s->flight, n = j->n < flight ? j->n : flight;
    int side = 0;
    if (send_left(j, 0, n, side, e) || launch(j, n, side, e))
        return -1;
    for (size_t at = 0, next; at < j->n; at += flight, n = next, side = !side) {
        size_t left = j->n - at - n;
        next = left < flight ? left : flight;
        j->first = at;
        j->count = n;
        j->side = side;
        if ((next && send_left(j, at + n, next, !side, e)) || collect(j, e) ||
            (next && launch(j, next, !side, e)) || settle(j, e))
            return -1;
    }
    return 0;
}

int nearest_rows_device(struct nearest *a, int threads, const float *rows, size_t n,
                        const uint8_t *state, size_t top, int32_t *labels, double *sims,
                        struct err *e)
{
    struct search_device *s = a->device;
    struct device_job j = {.a = a,
                           .s = s,
                           .rows = rows,
                           .state = state,
                           .n = n,
                           .top = top,
                           .labels = labels,
                           .sims = sims,
                           .threads = threads};
    if (top < 1 || top > s->top)
        return err_set(e, "%s was not made ready for %zu labels a row", s->d->name, top);
    if (!n)
        return 0;
    j.slack[0] = mem_alloc(s->flight, sizeof(float), e);
    j.slack[1] = j.slack[0] ? mem_alloc(s->flight, sizeof(float), e) : NULL;
    j.found = j.slack[1] ? mem_alloc(s->flight + 1, sizeof *j.found, e) : NULL;
    j.end = j.found ? mem_alloc(s->flight, sizeof *j.end, e) : NULL;
    int r = j.end ? fly(&j, e) : -1;
    free(j.slack[0]);
    free(j.slack[1]);
    free(j.found);
    free(j.end);
    free(j.candidates);
    return r;
}
