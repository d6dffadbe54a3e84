// SPDX-License-Identifier: Apache-2.0
// Searches with the CUDA device against those of the CPU, which must be the same byte for byte:
// labels, clusters, balance. Linked with the stand-in of tests/cuda-on-cpu it runs anywhere, in
// each order of blocks; linked with the CUDA runtime, on a GPU.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "search/nearest.h"
#include "balance/balance.h"
#include "unit/child.h"
#include "cluster/kmeans.h"
#include "base/rng.h"
#include "unit/rows.h"
#include "search/dot-block.h"
#include "search/search-device.h"
#include "unit/tap.h"

static struct dev dev;
static uint64_t digest; // of every result

static void add_digest(const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        digest = (digest ^ ((const unsigned char *)p)[i]) * 0x100000001b3u;
}

static const char *type(void)
{
    return dev.act == DEV_BF16 ? "bf16" : "f32";
}

// ---- the device's operations

static int by_hit(const void *x, const void *y)
{
    const struct dev_hit *a = x, *b = y;
    if (a->row != b->row)
        return a->row < b->row ? -1 : 1;
    return a->col < b->col ? -1 : a->col > b->col;
}

static void *sent(struct dev *d, const void *from, size_t bytes)
{
    struct err e;
    void *p = d->op->alloc(d, bytes, &e);
    if (!p) {
        printf("Bail out! %s\n", e.text);
        exit(1);
    }
    if (from)
        d->op->upload(d, p, from, bytes);
    return p;
}

struct block_test {
    size_t rows, cols, ld, n, room;
    uint32_t most;
    float *scores, *slack, *least;
};

// Two blocks side by side; the hits, sorted, and how many were counted.
static uint32_t top_hits(struct dev *d, const struct block_test *t, struct dev_hit *hits,
                         uint32_t *found)
{
    struct err e;
    float *v = sent(d, t->scores, t->rows * t->ld * sizeof *v);
    float *slack = sent(d, t->slack, t->rows * sizeof *slack);
    float *best = sent(d, NULL, t->rows * t->n * sizeof *best);
    uint32_t *there = sent(d, NULL, t->rows * sizeof *there), n = 0;
    struct dev_hits list = {sent(d, NULL, t->room * sizeof *hits), sent(d, NULL, sizeof n),
                            (uint32_t)t->room};
    size_t half = t->cols / 2;
    for (int i = 0; i < 2; i++) {
        struct dev_scores s = {.v = v + (i ? half : 0),
                               .ld = t->ld,
                               .rows = t->rows,
                               .cols = i ? t->cols - half : half,
                               .row0 = 5,
                               .col0 = i ? (uint32_t)half : 0};
        struct dev_top top = {.n = t->n,
                              .first = i == 0,
                              .most = t->most,
                              .slack = slack,
                              .best = best,
                              .found = there};
        d->op->hits_top(d, &s, &top, &list);
    }
    int r = d->op->download(d, &n, list.n, sizeof n, &e) ||
            d->op->download(d, found, there, t->rows * sizeof *found, &e) ||
            d->op->download(d, hits, list.hit, t->room * sizeof *hits, &e);
    void *all[] = {v, slack, best, there, list.hit, list.n};
    for (size_t i = 0; i < 6; i++)
        d->op->free(d, all[i]);
    qsort(hits, n < t->room ? n : t->room, sizeof *hits, by_hit);
    return r ? 0 : n;
}

static uint32_t above_hits(struct dev *d, const struct block_test *t, bool later,
                           struct dev_hit *hits)
{
    struct err e;
    float *v = sent(d, t->scores, t->rows * t->ld * sizeof *v);
    float *least = sent(d, t->least, t->rows * sizeof *least);
    uint32_t n = 0;
    struct dev_hits list = {sent(d, NULL, t->room * sizeof *hits), sent(d, NULL, sizeof n),
                            (uint32_t)t->room};
    struct dev_scores s = {
        .v = v, .ld = t->ld, .rows = t->rows, .cols = t->cols, .row0 = 300, .col0 = 290};
    d->op->hits_above(d, &s, least, later, &list);
    int r = d->op->download(d, &n, list.n, sizeof n, &e) ||
            d->op->download(d, hits, list.hit, t->room * sizeof *hits, &e);
    void *all[] = {v, least, list.hit, list.n};
    for (size_t i = 0; i < 4; i++)
        d->op->free(d, all[i]);
    qsort(hits, n < t->room ? n : t->room, sizeof *hits, by_hit);
    return r ? 0 : n;
}

// Every hit of the CPU is one of the other's; those that are more have a right to be there.
static size_t missing(const struct dev_hit *want, uint32_t n_want, const struct dev_hit *got,
                      uint32_t n_got)
{
    size_t wrong = 0;
    for (uint32_t i = 0, k = 0; i < n_want; i++) {
        while (k < n_got && by_hit(&got[k], &want[i]) < 0)
            k++;
        wrong += k == n_got || by_hit(&got[k], &want[i]) || got[k].score != want[i].score;
    }
    return wrong;
}

static void check_ops(struct dev *cpu, size_t rows, size_t cols, size_t ld, size_t n)
{
    struct block_test t = {rows, cols, ld, n, rows * cols + 1, (uint32_t)cols, NULL, NULL, NULL};
    uint32_t *found[2] = {malloc(rows * 4), malloc(rows * 4)};
    struct dev_hit *hits[2] = {malloc(t.room * sizeof(struct dev_hit)),
                               malloc(t.room * sizeof(struct dev_hit))};
    t.scores = gaussian(rows, ld, rows);
    t.slack = malloc(rows * sizeof *t.slack);
    t.least = malloc(rows * sizeof *t.least);
    for (size_t i = 0; i < rows; i++) {
        t.slack[i] = i % 7 == 6 ? -INFINITY : (float)(i % 3) * 0.25f;
        t.least[i] = (float)(i % 5) * 0.7f - 0.5f;
        for (size_t j = 0; i % 4 == 3 && j < cols; j++)
            t.scores[i * ld + j] = (float)(j % 3);
    }
    uint32_t want = top_hits(cpu, &t, hits[0], found[0]),
             got = top_hits(&dev, &t, hits[1], found[1]);
    ok(want && got >= want && missing(hits[0], want, hits[1], got) == 0,
       "search: the %zu greatest of %zu x %zu: %u hits, %u on the device, none missing", n, rows,
       cols, want, got);
    add_digest(hits[1], got * sizeof **hits);
    uint32_t sum = 0, full = 0;
    for (size_t i = 0; i < rows; i++)
        sum += found[1][i] & ~DEV_TOP_FULL, full += found[1][i] >> 31;
    ok(sum == got && !full, "search: rows count their hits");
    t.most = 3;
    got = top_hits(&dev, &t, hits[1], found[1]);
    size_t wrong = 0;
    for (size_t i = 0; i < rows; i++)
        wrong += (found[1][i] & ~DEV_TOP_FULL) > 3, full += found[1][i] >> 31;
    ok(!wrong && (cols < 12 || rows < 4 || full > 0), "search: rows with too many are marked: %u",
       full);
    for (int later = 0; later < 2; later++) {
        want = above_hits(cpu, &t, later, hits[0]);
        got = above_hits(&dev, &t, later, hits[1]);
        ok(want == got && !memcmp(hits[0], hits[1], got * sizeof **hits),
           "search: scores above, %s: %u hits", later ? "later columns" : "all", got);
    }
    t.room = got / 2;
    ok(above_hits(&dev, &t, true, hits[1]) == got,
       "search: a list without room counts all the same");
    for (int i = 0; i < 2; i++)
        free(found[i]), free(hits[i]);
    free(t.scores), free(t.slack), free(t.least);
}

// The bound holds for what the device makes of rows of very different sizes.
static void check_bound(size_t dim)
{
    enum { N = 70 };
    struct err e = {.text = ""};
    struct search_device s;
    struct search_device_need need = {.dim = dim, .right = 2 * N, .top = 1};
    float *x = gaussian(2 * N, dim, 3), *out = malloc(N * 128 * sizeof *out);
    float norm[2 * N], lost[2 * N];
    if (search_device_init(&s, &dev, &need, &e)) {
        ok(0, "%s", e.text);
        return;
    }
    for (size_t d = 0; d < dim; d++) {
        x[d] = 0;
        x[dim + d] *= 1e12f;
        x[2 * dim + d] *= 1e-30f;
        x[3 * dim + d] = x[4 * dim + d];
    }
    search_device_pack_rows(&s, x, 2 * N, 2, &e);
    memcpy(norm, s.norm, sizeof norm), memcpy(lost, s.lost, sizeof lost);
    dev.op->upload(&dev, s.right, s.act, 2 * N * s.ld * dev.act_size);
    dev.op->scores(&dev, N, s.right, N, search_device_row(&s, s.right, N), s.ld, s.scores, s.cols);
    double worst = 0;
    for (size_t i = 0; i < N; i++) {
        int r = dev.op->download(&dev, out, s.scores + i * s.cols, N * sizeof *out, &e);
        for (size_t j = 0; j < N; j++) {
            double miss = fabs(out[j] - dot_exact(x + i * dim, x + (N + j) * dim, dim));
            double bound = search_device_bound(&s, norm[i], lost[i], norm[N + j], lost[N + j]);
            worst = fmax(worst, r ? INFINITY : miss / bound);
        }
    }
    ok(worst <= 1, "%s, %zu values: the error is within the bound (%.3f of it)", type(), dim,
       worst);
    search_device_release(&s);
    free(x), free(out);
}

// ---- labels

struct shape {
    size_t rows, cols, room;
};

static void check_labels(size_t n, size_t k, size_t dim, size_t top, size_t copies, bool states,
                         struct shape shape)
{
    struct err e = {.text = ""};
    struct search_device s;
    struct nearest a[2] = {{0}};
    struct search_device_need need = {.dim = dim,
                                      .right = k,
                                      .top = top,
                                      .rows = shape.rows,
                                      .cols = shape.cols,
                                      .room = shape.room};
    float *x = gaussian(n, dim, 1), *c = gaussian(k, dim, 2);
    uint8_t *state = malloc(n);
    int32_t *labels[2] = {malloc(n * top * 4), malloc(n * top * 4)};
    double *sims[2] = {malloc(n * top * 8), malloc(n * top * 8)};
    for (size_t j = copies; copies && j < k; j++)
        memcpy(c + j * dim, c + j % copies * dim, dim * sizeof *c);
    if (n > 3)
        memset(x + 2 * dim, 0, dim * sizeof *x), x[3 * dim] = NAN;
    unit_rows(x, n, dim, true, state);
    unit_rows(c, k, dim, true, NULL);
    for (size_t i = 0; i < n * dim && !states; i++) // rows as they are, of any length
        x[i] *= (float)pow(10, (double)(i / dim % 9) * 3 - 12);
    int r = search_device_init(&s, &dev, &need, &e);
    for (int i = 0; i < 2 && !r; i++)
        r = nearest_init_on(&a[i], i ? &s : NULL, c, k, dim, 2, &e) ||
            nearest_rows(&a[i], 2, x, n, states ? state : NULL, top, labels[i], sims[i], &e);
    ok(!r && !memcmp(labels[0], labels[1], n * top * 4) && !memcmp(sims[0], sims[1], n * top * 8),
       "%s: %zu rows, %zu centroids (%zu distinct), %zu values, top %zu%s, blocks of %zu x %zu, "
       "%zu "
       "held: as the CPU %s",
       type(), n, k, copies ? copies : k, dim, top, states ? "" : ", no states", s.rows, s.cols,
       s.room, e.text);
    if (!r)
        r = nearest_rows(&a[1], 3, x, n, states ? state : NULL, top, labels[1], NULL, &e);
    ok(!r && !memcmp(labels[0], labels[1], n * top * 4), "... labels alone");
    bool many = copies && k / copies > s.most;
    ok((s.n_here > 0) == (many || !states), "... %llu rows had too many candidates",
       (unsigned long long)s.n_here);
    add_digest(labels[1], n * top * 4);
    nearest_release(&a[0]), nearest_release(&a[1]);
    search_device_release(&s);
    free(x), free(c), free(state);
    for (int i = 0; i < 2; i++)
        free(labels[i]), free(sims[i]);
}

// ---- clusters

static void check_clusters(uint64_t n, size_t dim, size_t k, int levels, uint64_t spare)
{
    struct err e = {.text = ""};
    struct search_device s;
    struct row_memory m;
    struct search_device_need need = {.dim = dim, .right = k, .top = 1, .rows = 100, .cols = 128};
    float *x = gaussian(n, dim, 9);
    struct row_source source = row_source_memory(&m, x, n, dim);
    struct kmeans_points p = {.source = &source, .n = n, .normalize = true};
    struct kmeans_options o = {.k = k,
                               .iterations = n > 10000 ? 1 : 4,
                               .levels = levels,
                               .seed = 3,
                               .normalize = true,
                               .threads = 2,
                               .mem = 1u << 30};
    struct kmeans_state state[2] = {{0}};
    memset(x + 5 * dim, 0, dim * sizeof *x), x[6 * dim] = INFINITY;
    if (spare)
        o.mem = kmeans_min_mem(n, dim, &o) + spare;
    int r = search_device_init(&s, &dev, &need, &e);
    for (int i = 0; i < 2 && !r; i++) {
        o.device = i ? &s : NULL;
        r = kmeans_train(&p, &o, &state[i], &e);
    }
    ok(!r && !memcmp(state[0].centroids, state[1].centroids, k * dim * 4),
       "%zu clusters of %llu x %zu, levels %d%s: as the CPU %s", k, (unsigned long long)n, dim,
       levels, spare ? ", little memory" : "", e.text);
    if (!r)
        add_digest(state[1].centroids, k * dim * 4);
    kmeans_state_release(&state[0]), kmeans_state_release(&state[1]);
    search_device_release(&s);
    free(x);
}

// ---- balance

static bool same_result(const struct balance_result *a, const struct balance_result *b)
{
    return a->rows == b->rows && !memcmp(a->keep, b->keep, a->rows) &&
           !memcmp(a->group, b->group, a->rows * 4) && a->pairs == b->pairs &&
           a->compared == b->compared && a->kept == b->kept && a->n_merges == b->n_merges &&
           a->distance == b->distance &&
           (!a->n_merges || !memcmp(a->merges, b->merges, a->n_merges * sizeof *a->merges));
}

static void balance_both(const float *x, uint32_t n, size_t dim, struct balance_options o,
                         struct shape shape, const char *what)
{
    struct err e = {.text = ""};
    struct search_device s;
    struct row_memory m;
    struct balance_result r[2] = {{0}};
    struct row_source source = row_source_memory(&m, x, n, dim);
    struct search_device_need need = {.dim = dim,
                                      .right = n > o.n_cells ? n : o.n_cells,
                                      .top = o.n_cells ? o.probe + 1 : 0,
                                      .pairs = true,
                                      .rows = shape.rows,
                                      .cols = shape.cols,
                                      .room = shape.room};
    int rc = search_device_init(&s, &dev, &need, &e);
    for (int i = 0; i < 2 && !rc; i++) {
        o.device = i ? &s : NULL;
        rc = balance_run(&source, &o, &r[i], &e);
    }
    if (o.distance > 1 && n > 300)
        ok(s.n_short > 0, "%llu lists were too short", (unsigned long long)s.n_short);
    ok(!rc && same_result(&r[0], &r[1]),
       "%s: %u x %zu %s, %zu held: %llu kept, %llu pairs, as the CPU %s", what, n, dim, type(),
       s.room, (unsigned long long)r[1].kept, (unsigned long long)r[1].pairs, e.text);
    if (!rc)
        add_digest(r[1].group, n * 4);
    balance_release(&r[0]), balance_release(&r[1]);
    search_device_release(&s);
}

static void check_balance(void)
{
    const struct shape tiny = {64, 128, 256}, small = {100, 128, 700}, usual = {0, 0, 0};
    struct balance_options o = {.distance = 0.1, .remove = -1, .mem = 1u << 30, .threads = 2};
    float *x = clumps(1500, 33, 1, 0.2);
    balance_both(x, 1500, 33, o, usual, "all pairs");
    balance_both(x, 1500, 33, o, tiny, "all pairs, few rows at a time");
    o.mem = balance_min_mem(1500, 33, 1, 0, 2) + 4096;
    balance_both(x, 1500, 33, o, small, "all pairs, little memory");
    o.mem = 1u << 30;
    o.curve_to = 0.4;
    balance_both(x, 1500, 33, o, small, "a curve");
    o.distance = 1.9; // nearly every pair
    o.curve_to = 0;
    balance_both(x, 700, 33, o, small, "nearly every pair");
    for (size_t i = 0; i < 300 * 33; i++)
        x[i] = x[i % 33 + 33];
    balance_both(x, 300, 33, o, usual, "equal rows");
    free(x);
    x = clumps(1, 4, 1, 1);
    balance_both(x, 0, 4, o, usual, "no rows");
    balance_both(x, 1, 1, o, usual, "one row");
    free(x);
    x = clumps(1100, 20, 2, 0.3);
    float *c = clumps(9, 20, 5, 0.1);
    unit_rows(c, 9, 20, true, NULL);
    o = (struct balance_options){.rule = BALANCE_SEMDEDUP,
                                 .survivor = BALANCE_HARD,
                                 .distance = 0.12,
                                 .remove = -1,
                                 .centroids = c,
                                 .n_cells = 8, // the last ones are usable
                                 .mem = 1u << 30,
                                 .threads = 3};
    balance_both(x, 1100, 20, o, usual, "semdedup in cells");
    balance_both(x, 1100, 20, o, tiny, "semdedup in cells, few rows at a time");
    o.curve_to = 0.5;
    balance_both(x, 1100, 20, o, tiny, "semdedup with a curve");
    o = (struct balance_options){.distance = 0.12,
                                 .remove = -1,
                                 .centroids = c,
                                 .n_cells = 8,
                                 .probe = 2,
                                 .mem = 1u << 30,
                                 .threads = 2};
    balance_both(x, 1100, 20, o, small, "a probe of 2");
    o.mem = balance_min_mem(1100, 20, 8, 2, 2);
    balance_both(x, 1100, 20, o, tiny, "a probe of 2, little memory");
    o.mem = 1u << 30;
    o.remove = 0.3;
    balance_both(x, 1100, 20, o, tiny, "the distance for a share");
    free(x), free(c);
}

// ---- runs

static uint64_t whole_run(void)
{
    const struct shape usual = {0, 0, 0}, small = {100, 128, 0}, streamed = {37, 128, 256};
    struct err e;
    struct dev cpu;
    digest = 14695981039346656037u;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        if (dev_open(&dev, "cuda", bf16 ? DEV_BF16 : DEV_F32, 1, false, &e) ||
            dev_open(&cpu, "cpu", DEV_F32, 2, false, &e)) {
            printf("Bail out! %s\n", e.text);
            return 0;
        }
        for (size_t n = 1; !bf16 && n <= 32; n = n == 1 ? 2 : n == 2 ? 7 : n == 7 ? 32 : 33) {
            check_ops(&cpu, 29, 700, 720, n);
            check_ops(&cpu, 3, 40, 41, n);
        }
        if (tap_failed) // searches that build on wrong operations say nothing more
            return 0;
        size_t dims[] = {1, 17, 100, 520, 1280};
        for (int i = 0; i < 5; i++)
            check_bound(dims[i]);
        check_labels(300, 700, 48, 1, 0, true, usual);
        check_labels(300, 700, 48, 1, 0, true, streamed);
        check_labels(127, 33, 1, 1, 0, true, small);
        check_labels(250, 600, 17, 1, 100, true, small);
        check_labels(50, 600, 17, 1, 3, true, small); // more ties than a row's list has room for
        check_labels(50, 600, 17, 7, 3, true, streamed);
        check_labels(130, 1100, 64, 10, 0, true, small);
        check_labels(130, 1100, 64, 32, 0, true, streamed);
        check_labels(5, 3, 8, 5, 0, true, usual);
        check_labels(40, 300, 8, 1, 0, false, small); // a row of zeros is as near to all
        check_labels(1, 1, 5, 1, 0, true, usual);
        if (!bf16) // so many centroids that copies wait for each other
            check_labels(20, 26000, 16, 1, 0, true, usual);
        dev_close(&cpu);
        check_balance();
        if (bf16) {
            check_clusters(900, 24, 30, 1, 0);
            check_clusters(900, 24, 30, 2, 0);
            check_clusters(3000, 7, 40, 2, 20000);
            check_clusters(16500, 4, 5, 2, 20000); // two chunks, one read ahead
        }
        ok(dev.op->sync(&dev, &e) == 0, "no failure was kept");
        dev_close(&dev);
    }
    return digest;
}

static uint64_t refused(void)
{
    struct err e = {.text = ""};
    struct search_device s;
    struct search_device_need need = {.dim = 1024, .right = 1u << 20, .top = 33};
    if (dev_open(&dev, "cuda", DEV_BF16, 1, false, &e))
        return 0;
    int r = search_device_init(&s, &dev, &need, &e);
    bool good = r && strstr(e.text, "32 nearest at most");
    need.top = 1;
    r = search_device_init(&s, &dev, &need, &e); // some of the rows
    good = good && !r && s.room >= 4096 && s.room < need.right &&
           strstr(search_device_memory(&s), " rows of 1024 bf16 values held");
    search_device_release(&s);
    need.dim = 65536; // not even a few
    r = search_device_init(&s, &dev, &need, &e);
    good = good && r && strstr(e.text, "are needed at least");
    dev_close(&dev);
    return good;
}

// The stand-in has it.
extern const char cuda_on_cpu_stand_in __attribute__((weak));

int main(void)
{
    uint64_t first, other;
    if (!&cuda_on_cpu_stand_in) {
        whole_run();
        return tap_done();
    }
    int rc = child("CUDA_ON_CPU_MEMORY", "400000000", refused, &other);
    ok(!rc && other, "memory: what is held is said, too little is refused");
    const char *const orders[] = {"reverse", "shuffle"};
    first = whole_run();
    for (int i = 0; i < 2 && !tap_failed; i++) {
        rc = child("CUDA_ON_CPU_ORDER", orders[i], whole_run, &other);
        ok(!rc && other == first, "the same with blocks in another order: %s", orders[i]);
    }
    return tap_done();
}
