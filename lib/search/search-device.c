// SPDX-License-Identifier: Apache-2.0
#include "search/search-device.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "system/threads.h"
#include "search/dot-block.h"

enum { ROWS = 4096, COLS = 2048 }; // 32 MiB of scores: they stay in the second-level cache
enum { STREAMED = 4 };             // flights so much longer where centroids do not fit
enum { ALIGN = 8 };                // values; rows then start at 16 bytes
enum { TASK = 64, PIECE = 256 };   // rows packed by one task; values converted at once
// Device memory taken besides the arrays: staging of copies and the products' workspace, 96 MiB,
// and the code of kernels, which is loaded at their first use.
static const size_t RESERVE = (size_t)256 << 20;
static const double MIB = 1 << 20;

static size_t up_to(size_t n, size_t to)
{
    return n / to * to + (n % to ? to : 0);
}

// Sizes of everything but `right`; false on overflow.
static bool count(struct search_device *s, const struct search_device_need *n)
{
    size_t row = s->ld * s->d->act_size, labels = 0, pairs = 0, per;
    if (!mem_mul(s->flight, 2 * row + (3 + s->top) * sizeof(float), &s->bytes[1]) ||
        !mem_mul(s->rows, s->cols, &pairs) || !mem_mul(pairs, sizeof(float), &s->bytes[2]) ||
        !mem_mul(s->flight, s->most, &labels))
        return false;
    if (!s->top)
        s->bytes[1] = labels = 0;
    per = n->pairs && pairs > labels ? pairs : labels;
    if (per > UINT32_MAX)
        return false;
    s->hits.room = (uint32_t)per;
    return mem_mul(per, sizeof(struct dev_hit), &s->bytes[3]);
}

static int too_little(const struct search_device *s, size_t least, size_t free, struct err *e)
{
    return err_set(e,
                   "%s: %.1f MiB of its memory are free, %.1f MiB are needed at least (rows %.1f, "
                   "scores %.1f, candidates %.1f, copies and workspace %.1f MiB)",
                   s->d->name, (double)free / MIB, (double)least / MIB,
                   (double)(s->bytes[1] + s->bytes[0]) / MIB, (double)s->bytes[2] / MIB,
                   (double)s->bytes[3] / MIB, (double)RESERVE / MIB);
}

// Number of rows that `right` holds: all of need->right, or as many as fit.
static int plan(struct search_device *s, const struct search_device_need *n, struct err *e)
{
    size_t total, row = s->ld * s->d->act_size + (n->pairs ? sizeof(float) : 0);
    size_t want = up_to(n->right ? n->right : 1, DEV_SCORE_COLS), least = 2 * s->cols;
    if (s->d->op->memory(s->d, &s->available, &total, e))
        return -1;
    if (n->pairs && want < least)
        want = least; // two pieces
    if (n->room && want > n->room)
        want = n->room > least ? n->room : least;
    if (least > want)
        least = want;
    for (int turn = 0; turn < 2; turn++) {
        if (!count(s, n))
            return err_set(e, "%s: rows of %zu values are too long", s->d->name, s->dim);
        size_t fixed =
            RESERVE + s->bytes[1] + s->bytes[2] + s->bytes[3] + DEV_SCORE_COLS * row + 64;
        size_t left = s->available > fixed ? s->available - fixed : 0;
        s->room = left / row < want ? left / row / DEV_SCORE_COLS * DEV_SCORE_COLS : want;
        s->bytes[0] = (s->room < least ? least : s->room) * row;
        s->asked = fixed + s->bytes[0];
        if (s->room < least)
            return too_little(s, s->asked, s->available, e);
        bool small = 2 * STREAMED * s->bytes[1] < s->bytes[0];
        if (!s->top || s->room >= n->right || s->flight > s->rows || !small)
            break;
        s->flight *= STREAMED; // each one sees all centroids pass
    }
    return 0;
}

static void *room(struct search_device *s, size_t bytes, bool *good, struct err *e)
{
    void *p = *good ? s->d->op->alloc(s->d, bytes, e) : NULL;
    *good = *good && p;
    return p;
}

static int allocate(struct search_device *s, bool pairs, struct err *e)
{
    size_t row = s->ld * s->d->act_size;
    bool good = true;
    s->right = room(s, (s->room + DEV_SCORE_COLS) * row, &good, e);
    s->scores = room(s, s->rows * s->cols * sizeof *s->scores, &good, e);
    s->found = room(s, (s->flight + 1) * sizeof *s->found, &good, e);
    s->hits.hit = room(s, s->hits.room * sizeof *s->hits.hit, &good, e);
    s->hits.n = s->found + s->flight;
    if (pairs)
        s->least = room(s, s->room * sizeof *s->least, &good, e);
    for (int i = 0; i < 2 && s->top; i++) {
        s->left[i] = room(s, s->flight * row, &good, e);
        s->slack[i] = room(s, s->flight * sizeof(float), &good, e);
    }
    if (s->top)
        s->best = room(s, s->flight * s->top * sizeof *s->best, &good, e);
    s->act = good ? mem_alloc(SEARCH_DEVICE_PACK, row, e) : NULL;
    s->norm = s->act ? mem_alloc(SEARCH_DEVICE_PACK, sizeof *s->norm, e) : NULL;
    s->lost = s->norm ? mem_alloc(SEARCH_DEVICE_PACK, sizeof *s->lost, e) : NULL;
    s->listed = s->lost ? mem_alloc(SEARCH_DEVICE_LIST, sizeof *s->listed, e) : NULL;
    return s->listed ? 0 : -1;
}

int search_device_init(struct search_device *s, struct dev *d,
                       const struct search_device_need *need, struct err *e)
{
    size_t cols = up_to(need->cols ? need->cols : COLS, DEV_SCORE_COLS);
    size_t all = up_to(need->right ? need->right : 1, DEV_SCORE_COLS);
    *s = (struct search_device){.d = d, .dim = need->dim, .top = need->top};
    if (need->top > DEV_TOP_MAX)
        return err_set(e, "%s finds the %d nearest at most, not %zu: use --device cpu", d->name,
                       DEV_TOP_MAX, need->top);
    if (need->dim < 1 || need->dim > INT32_MAX / 4 || need->right > UINT32_MAX / 2)
        return err_set(e, "%s: cannot search %zu rows of %zu values", d->name, need->right,
                       need->dim);
    s->ld = up_to(need->dim, ALIGN);
    s->rows = need->rows ? need->rows : ROWS;
    s->cols = all < cols ? all : cols;
    s->flight = s->rows;
    s->most = 128 + 8 * (uint32_t)need->top;
    if (plan(s, need, e) == 0 && allocate(s, need->pairs, e) == 0)
        return 0;
    search_device_release(s);
    return -1;
}

void search_device_release(struct search_device *s)
{
    void *all[] = {s->right, s->left[0], s->left[1], s->slack[0], s->slack[1],
                   s->best,  s->scores,  s->least,   s->found,    s->hits.hit};
    for (size_t i = 0; s->d && i < sizeof all / sizeof *all; i++)
        s->d->op->free(s->d, all[i]);
    free(s->act);
    free(s->norm);
    free(s->lost);
    free(s->listed);
    *s = (struct search_device){0};
}

const char *search_device_memory(struct search_device *s)
{
    snprintf(s->text, sizeof s->text,
             "%s: %.1f MiB of %.1f free: %zu rows of %zu %s values held %.1f, %zu under way %.1f, "
             "%zu x %zu scores %.1f, candidates %.1f, copies and workspace %.1f MiB",
             s->d->name, (double)s->asked / MIB, (double)s->available / MIB, s->room, s->dim,
             s->d->act == DEV_BF16 ? "bf16" : "f32", (double)s->bytes[0] / MIB,
             s->top ? s->flight : 0, (double)s->bytes[1] / MIB, s->rows, s->cols,
             (double)s->bytes[2] / MIB, (double)s->bytes[3] / MIB, (double)RESERVE / MIB);
    return s->text;
}

const char *search_device_counts(struct search_device *s)
{
    snprintf(
        s->text, sizeof s->text,
        "%s: %.2f candidates a row for %llu labels, %llu rows searched here; %llu pairs listed, "
        "%llu lists too short",
        s->d->name, s->n_rows ? (double)s->n_candidates / (double)s->n_rows : 0.0,
        (unsigned long long)s->n_rows, (unsigned long long)s->n_here,
        (unsigned long long)s->n_pairs, (unsigned long long)s->n_short);
    return s->text;
}

// Host bytes that a search_device takes, and the searches with it.
static size_t host_bytes(const struct search_device *s)
{
    size_t passage = SEARCH_DEVICE_PACK * (s->ld * s->d->act_size + 8) + SEARCH_DEVICE_LIST * 12;
    size_t labels = s->top ? s->flight * (32 + 16 * (size_t)s->most) + 1024 * s->dim * 4 : 0;
    size_t ahead = s->top ? SEARCH_DEVICE_AHEAD * (s->dim * 4 + 1) : 0;
    size_t pairs = s->least ? s->room * 8 + ((size_t)8 << 20) : 0;
    return passage + labels + ahead + pairs;
}

int search_device_init_within(struct search_device *s, struct dev *d,
                              const struct search_device_need *need, uint64_t *mem, struct err *e)
{
    if (search_device_init(s, d, need, e))
        return -1;
    uint64_t mine = host_bytes(s);
    *mem = *mem > mine ? *mem - mine : 0;
    return 0;
}

void *search_device_row(const struct search_device *s, void *rows, size_t i)
{
    return (char *)rows + i * s->ld * s->d->act_size;
}

void search_device_pack(const struct search_device *s, const float *x, void *act, float *norm,
                        float *lost)
{
    uint16_t *to = act;
    float back[PIECE];
    double lost2 = 0;
    *norm = dot_round_up(sqrt(dot_exact(x, x, s->dim)));
    *lost = 0;
    memset((char *)act + s->dim * s->d->act_size, 0, (s->ld - s->dim) * s->d->act_size);
    if (s->d->act == DEV_F32) {
        memcpy(act, x, s->dim * sizeof *x);
        return;
    }
    for (size_t i = 0; i < s->dim; i += PIECE) {
        size_t n = s->dim - i < PIECE ? s->dim - i : PIECE;
        bf16_from_f32(x + i, to + i, n);
        bf16_to_f32(to + i, back, n);
        for (size_t k = 0; k < n; k++)
            back[k] = x[i + k] - back[k]; // exact
        lost2 += dot_exact(back, back, n);
    }
    if (lost2 > 0)
        *lost = dot_round_up(sqrt(lost2));
}

struct packing {
    struct search_device *s;
    const float *rows;
    size_t n;
};

static void pack_task(void *ctx, size_t task)
{
    const struct packing *p = ctx;
    struct search_device *s = p->s;
    size_t end = (task + 1) * TASK < p->n ? (task + 1) * TASK : p->n;
    for (size_t i = task * TASK; i < end; i++)
        search_device_pack(s, p->rows + i * s->dim, search_device_row(s, s->act, i), &s->norm[i],
                           &s->lost[i]);
}

int search_device_pack_rows(struct search_device *s, const float *rows, size_t n, int threads,
                            struct err *e)
{
    struct packing p = {s, rows, n};
    return threads_for_stop(threads, (n + TASK - 1) / TASK, pack_task, &p, e);
}

// With x', y' the packed rows, x.y - x'.y' = x.(y - y') + (x - x').y', so by Cauchy-Schwarz it is
// at most |x| lost_y + lost_x (|y| + lost_y), as in dot_bound. The sum x'.y' of n products is made
// in an order that is not known, in float32 or on tensor cores. These add b products at once, each
// and the sum so far cut to a multiple of 2^-23 of the greatest (Fasi, Higham, Mikaitis and
// Pranesh, Numerical behavior of NVIDIA tensor cores, PeerJ CS 7:e330, 2021): at most (b + 2) 2^-23
// of S, the sum of the products' sizes, each time, so ceil(n / b) (b + 2) 2^-23 S in all. For b
// from 2 to 60 that is under (n + 32) 2^-22 S, and so is Higham's bound for float32 sums in any
// order, with or without fused products; S <= |x'| |y'|. What is flushed to zero is under 2^-126 a
// value.
double search_device_bound(const struct search_device *s, double norm, double lost, double most,
                           double worst)
{
    double nu = (double)(s->ld + 32) * 0x1p-22, g = nu < 0.5 ? nu / (1 - nu) * 1.001 : 1e30;
    double x = norm + lost, y = most + worst;
    double bound = norm * worst + lost * y + g * x * y;
    return (bound + (double)s->ld * 0x1p-126 * (1 + x + y)) * (1 + 1e-6);
}
