// SPDX-License-Identifier: Apache-2.0
// Against a plain float64 evaluation of the rules, for many shapes, cells, memories and threads.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "balance/balance.h"
#include "base/half.h"
#include "formats/npy.h"
#include "base/rng.h"
#include "unit/rows.h"
#include "search/dot-block.h"
#include "unit/tap.h"

static bool good(const float *x, size_t dim)
{
    double s = 0;
    for (size_t d = 0; d < dim; d++)
        s += (double)x[d] * x[d];
    return isfinite(s) && s > 0;
}

static double cosine(const float *x, const float *y, size_t dim)
{
    double s = 0, a = 0, b = 0;
    for (size_t d = 0; d < dim; d++)
        s += (double)x[d] * y[d], a += (double)x[d] * x[d], b += (double)y[d] * y[d];
    return s / sqrt(a) / sqrt(b);
}

static uint32_t root(const uint32_t *p, uint32_t i)
{
    while (p[i] != i)
        i = p[i];
    return i;
}

// The member nearest the mean of its group, lowest within 1e-6.
static uint32_t center(const float *x, uint32_t n, size_t dim, const uint32_t *p, uint32_t of)
{
    double *mean = calloc(dim, sizeof *mean), best = INFINITY;
    uint32_t size = 0, kept = of;
    for (int turn = 0; turn < 3; turn++)
        for (uint32_t i = 0; i < n; i++) {
            if (root(p, i) != of || !good(x + i * dim, dim))
                continue;
            double norm = sqrt(dot_exact(x + i * dim, x + i * dim, dim)), d2 = 0;
            size += turn == 0;
            for (size_t d = 0; d < dim; d++) {
                double u = x[i * dim + d] / norm;
                if (turn == 0)
                    mean[d] += u;
                d2 += pow(u - mean[d] / size, 2);
            }
            if (turn == 1 && d2 < best)
                best = d2;
            if (turn == 2 && d2 <= best + 1e-6) {
                free(mean);
                return i;
            }
        }
    free(mean);
    return kept;
}

static void plain_union(const float *x, uint32_t n, size_t dim, double distance, uint32_t *group,
                        uint64_t *pairs)
{
    uint32_t *p = malloc(n * sizeof *p);
    *pairs = 0;
    for (uint32_t i = 0; i < n; i++)
        p[i] = i;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = i + 1; j < n; j++) {
            if (!good(x + i * dim, dim) || !good(x + j * dim, dim) ||
                !(1 - cosine(x + i * dim, x + j * dim, dim) < distance))
                continue;
            uint32_t a = root(p, i), b = root(p, j);
            p[a > b ? a : b] = a > b ? b : a;
            ++*pairs;
        }
    for (uint32_t i = 0; i < n; i++)
        group[i] =
            good(x + i * dim, dim) && root(p, i) == i ? center(x, n, dim, p, i) : BALANCE_NONE;
    for (uint32_t i = 0; i < n; i++)
        p[i] = root(p, i);
    for (uint32_t i = n; i-- > 0;)
        group[i] = good(x + i * dim, dim) ? group[p[i]] : BALANCE_NONE;
    free(p);
}

static struct balance_options options(double distance)
{
    return (struct balance_options){
        .distance = distance, .remove = -1, .mem = 1u << 30, .threads = 2};
}

static void check_union(uint32_t n, size_t dim, double spread, double distance, int threads,
                        uint64_t spare)
{
    struct err e = {.text = ""};
    struct balance_result r;
    struct row_memory m;
    float *x = clumps(n, dim, n, spread);
    uint32_t *want = malloc((n + 1) * sizeof *want);
    uint64_t pairs;
    plain_union(x, n, dim, distance, want, &pairs);
    struct row_source s = row_source_memory(&m, x, n, dim);
    struct balance_options o = options(distance);
    o.threads = threads;
    o.mem = spare ? balance_min_mem(n, dim, 1, 0, threads) + spare : o.mem;
    int status = balance_run(&s, &o, &r, &e);
    ok(!status && !memcmp(r.group, want, n * sizeof *want) && r.pairs == pairs,
       "%u x %zu, distance %g, %d threads, %s memory: %llu groups, %llu pairs, as a plain loop %s",
       n, dim, distance, threads, spare ? "little" : "enough", (unsigned long long)r.kept,
       (unsigned long long)r.pairs, e.text);
    size_t wrong = 0;
    for (uint32_t i = 0; !status && i < n; i++)
        wrong += r.keep[i] != (r.group[i] == i);
    ok(wrong == 0, "keep is where a row is its own group");
    balance_release(&r);
    free(x), free(want);
}

// float16 rows as a source has them.
struct halves {
    const uint16_t *rows;
    const float *same;
    size_t dim;
};

static int read_half(void *ctx, uint64_t first, uint64_t count, uint16_t *out, struct err *e)
{
    const struct halves *h = ctx;
    (void)e;
    memcpy(out, h->rows + first * h->dim, count * h->dim * sizeof *out);
    return 0;
}

static int gather_half(void *ctx, const uint64_t *rows, size_t count, uint16_t *out, struct err *e)
{
    for (size_t i = 0; i < count; i++)
        read_half(ctx, rows[i], 1, out + i * ((struct halves *)ctx)->dim, e);
    return 0;
}

static int read_same(void *ctx, uint64_t first, uint64_t count, float *out, struct err *e)
{
    const struct halves *h = ctx;
    (void)e;
    memcpy(out, h->same + first * h->dim, count * h->dim * sizeof *out);
    return 0;
}

static int gather_same(void *ctx, const uint64_t *rows, size_t count, float *out, struct err *e)
{
    for (size_t i = 0; i < count; i++)
        read_same(ctx, rows[i], 1, out + i * ((struct halves *)ctx)->dim, e);
    return 0;
}

// Rows with one value far from the others widen the bound of int8 products until they do not pay.
// kernel: NULL for the one that a processor without int8 products would take.
static void check_kernel(float far, bool half, uint64_t spare, const char *kernel)
{
    enum { N = 1500, D = 96 };
    struct err e = {.text = ""};
    struct balance_result r;
    uint32_t *want = malloc(N * sizeof *want);
    uint16_t *h = malloc(N * D * sizeof *h);
    float *x = clumps(N, D, 3, 0.25);
    uint64_t pairs;
    for (size_t i = 0; i < N; i++)
        x[i * D + 5] = far;
    half_from_f32(x, h, N * D);
    half_to_f32(h, x, N * D);
    struct halves rows = {h, x, D};
    struct row_source s = {N, D, &rows, read_same, gather_same, NULL, NULL, NULL, NULL};
    if (half) {
        s.read_half = read_half;
        s.gather_half = gather_half;
    }
    struct balance_options o = options(far > 1 ? 0.0003 : 0.1);
    plain_union(x, N, D, o.distance, want, &pairs);
    o.mem = spare ? balance_min_mem(N, D, 1, 0, 2) + spare : o.mem;
    int status = balance_run(&s, &o, &r, &e);
    ok(!status && !memcmp(r.group, want, N * sizeof *want) && r.pairs == pairs,
       "%s rows, a value of %g, %s memory: %llu pairs, as a plain loop %s",
       half ? "float16" : "float32", (double)far, spare ? "little" : "enough",
       (unsigned long long)r.pairs, e.text);
    const char *plain = dot_kernel_name(dot_best_kernel());
    if (!kernel || !dot_has_kernel(DOT_I8, D))
        kernel = plain;
    ok(!status && !strcmp(r.kernel, kernel), "by %s products", kernel);
    balance_release(&r);
    free(x), free(want), free(h);
}

// Cells: the rule of SemDeDup, all orders; and the union with a probe of all cells.
static void check_cells(uint32_t n, size_t dim, size_t cells)
{
    struct err e = {.text = ""};
    struct balance_result r, all;
    struct row_memory m;
    float *x = clumps(n, dim, n, 0.3), *c = clumps((uint32_t)cells, dim, 5, 0.1);
    uint32_t *cell = malloc(n * sizeof *cell);
    double *key = malloc(n * sizeof *key);
    for (uint32_t i = 0; i < n; i++) {
        cell[i] = 0;
        for (uint32_t k = 1; k < cells; k++)
            if (cosine(x + i * dim, c + k * dim, dim) > cosine(x + i * dim, c + cell[i] * dim, dim))
                cell[i] = k;
        key[i] = cosine(x + i * dim, c + cell[i] * dim, dim);
    }
    float *unit = malloc(cells * dim * sizeof *unit);
    memcpy(unit, c, cells * dim * sizeof *unit);
    unit_rows(unit, cells, dim, true, NULL);
    struct row_source s = row_source_memory(&m, x, n, dim);
    struct balance_options o = options(0.12);
    o.rule = BALANCE_SEMDEDUP;
    o.survivor = BALANCE_HARD;
    o.centroids = unit;
    o.n_cells = cells;
    int status = balance_run(&s, &o, &r, &e);
    size_t wrong = 0;
    for (uint32_t j = 0; !status && j < n; j++) {
        bool keep = good(x + j * dim, dim);
        for (uint32_t i = 0; keep && i < n; i++)
            if (good(x + i * dim, dim) && i != j && cell[i] == cell[j] &&
                (key[i] < key[j] || (key[i] == key[j] && i < j)) &&
                cosine(x + i * dim, x + j * dim, dim) > 1 - 0.12)
                keep = false;
        wrong += keep != r.keep[j];
    }
    ok(!status && wrong == 0, "semdedup, %u x %zu in %zu cells: %zu rows differ (%s)", n, dim,
       cells, wrong, e.text);
    balance_release(&r);
    o.rule = BALANCE_UNION;
    o.survivor = BALANCE_CENTER;
    o.probe = cells;
    status = balance_run(&s, &o, &r, &e);
    o.centroids = NULL;
    ok(!status && !balance_run(&s, &o, &all, &e) && !memcmp(r.group, all.group, n * 4) &&
           r.pairs == all.pairs,
       "a probe of all cells is exact");
    balance_release(&r), balance_release(&all);
    o.centroids = unit;
    o.probe = 2;
    status = balance_run(&s, &o, &all, &e);
    o.mem = balance_min_mem(n, dim, cells, 2, 2);
    ok(!status && !balance_run(&s, &o, &r, &e) && !memcmp(r.group, all.group, n * 4) &&
           r.pairs == all.pairs && r.blocks >= all.blocks,
       "a probe of 2, %llu pairs: the same with little memory (%llu and %llu blocks)",
       (unsigned long long)r.pairs, (unsigned long long)all.blocks, (unsigned long long)r.blocks);
    balance_release(&r), balance_release(&all);
    free(x), free(c), free(unit), free(cell), free(key);
}

static void check_search(enum balance_rule rule)
{
    struct err e = {.text = ""};
    struct balance_result r;
    struct row_memory m;
    float *x = clumps(900, 24, 3, 0.3);
    struct row_source s = row_source_memory(&m, x, 900, 24);
    struct balance_options o = options(0);
    o.rule = rule;
    o.survivor = rule == BALANCE_UNION ? BALANCE_FIRST : BALANCE_RANDOM;
    o.remove = 0.437;
    int status = balance_run(&s, &o, &r, &e);
    ok(!status && r.usable == 898 && r.usable - r.kept == 392,
       "the distance %g for a share removes %llu of %llu (%s)", r.distance,
       (unsigned long long)(r.usable - r.kept), (unsigned long long)r.usable, e.text);
    double d = r.distance;
    balance_release(&r);
    o = options(d);
    o.rule = rule;
    o.survivor = rule == BALANCE_UNION ? BALANCE_FIRST : BALANCE_RANDOM;
    o.curve_to = 0.5;
    status = balance_run(&s, &o, &r, &e);
    size_t under = 0;
    while (!status && under < r.n_merges && r.merges[under] < d)
        under++;
    ok(!status && under == 392 && r.usable - r.kept == under, "the curve has it too: %zu", under);
    balance_release(&r);
    free(x);
}

static void check_golden(void)
{
    struct err e;
    char path[4096];
    struct npy x = {0}, keep = {0}, group = {0};
    struct balance_result r = {0};
    struct row_memory m;
    const char *root_dir = getenv("CLIP_CID_SHARED") ? getenv("CLIP_CID_SHARED") : "../shared";
    const char *names[] = {"embeddings", "keep", "group"};
    struct npy *to[] = {&x, &keep, &group};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/golden/balance/%s.npy", root_dir, names[i]);
        if (npy_open(to[i], path, &e)) {
            ok(1, "golden # skip no goldens here");
            return;
        }
    }
    size_t n = x.h.rows, wrong = 0;
    float *rows = malloc(n * x.h.dim * sizeof *rows);
    int status = npy_rows_f32(&x, 0, n, rows, &e);
    struct row_source s = row_source_memory(&m, rows, n, x.h.dim);
    struct balance_options o = options(0.1);
    status = status || balance_run(&s, &o, &r, &e);
    for (size_t i = 0; i < n && !status; i++) {
        int64_t g = r.group[i] == BALANCE_NONE ? -1 : (int64_t)r.group[i];
        wrong += g != npy_item_i64(&group, i) || r.keep[i] != npy_item_i64(&keep, i);
    }
    ok(!status && wrong == 0, "golden: %zu of %zu rows differ", wrong, n);
    ok(r.usable == 5980 && r.kept == 2975 && r.largest == 8 && r.pairs == 6842,
       "golden: %llu usable, %llu kept, largest %llu, %llu pairs", (unsigned long long)r.usable,
       (unsigned long long)r.kept, (unsigned long long)r.largest, (unsigned long long)r.pairs);
    balance_release(&r);
    npy_close(&x), npy_close(&keep), npy_close(&group);
    free(rows);
}

int main(void)
{
    check_union(600, 16, 0.3, 0.1, 2, 0);
    check_union(600, 16, 0.3, 0.1, 1, 1);
    check_union(1500, 33, 0.2, 0.05, 3, 4096);
    check_union(200, 1, 0.2, 0.5, 2, 0);
    check_union(300, 5, 0, 1e-12, 2, 0);
    check_union(1, 4, 1, 0.1, 2, 0);
    check_union(0, 4, 1, 0.1, 2, 0);
    check_union(100, 7, 1, 0, 2, 0);
    check_kernel(1, false, 0, "int8");
    check_kernel(1, true, 0, "int8");
    check_kernel(1, true, 4096, "int8");
    check_kernel(100, false, 0, NULL);
    check_kernel(100, true, 0, NULL);
    check_kernel(100, true, 4096, NULL);
    check_cells(700, 20, 9);
    check_cells(300, 6, 40);
    check_cells(2600, 12, 9);
    check_search(BALANCE_UNION);
    check_search(BALANCE_SEMDEDUP);
    check_golden();
    return tap_done();
}
