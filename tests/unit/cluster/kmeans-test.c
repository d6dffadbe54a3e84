// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/kmeans.h"
#include "base/rng.h"
#include "search/dot-block.h"
#include "unit/tap.h"

enum { N = 3000, D = 24, K = 40 };

static const struct kmeans_tag of_test = {"options", "rows"};

static float *mixture(size_t n, size_t dim, size_t centers, bool spoil)
{
    float *x = malloc(n * dim * sizeof *x);
    struct rng r;
    for (size_t i = 0; i < n; i++) {
        uint64_t c = i * 7919 % centers;
        rng_init(&r, 5, c);
        for (size_t d = 0; d < dim; d++)
            x[i * dim + d] = (float)rng_normal(&r);
        rng_init(&r, 6, i);
        for (size_t d = 0; d < dim; d++)
            x[i * dim + d] += (float)(0.4 * rng_normal(&r));
    }
    if (spoil)
        memset(x, 0, dim * sizeof *x), x[5 * dim + 1] = NAN, x[77 * dim] = INFINITY;
    return x;
}

struct watch {
    struct kmeans_step last;
    size_t split;                 // in all
    int steps, saves, stop_after; // stop_after saves, 0 = never
    double objective[64];
    char path[64];
};

static int step(void *ctx, const struct kmeans_step *s, struct err *e)
{
    struct watch *w = ctx;
    (void)e;
    w->last = *s;
    w->split += s->split;
    if (w->steps < 64)
        w->objective[w->steps] = s->objective;
    w->steps++;
    return 0;
}

static int save(void *ctx, const struct kmeans_state *s, struct err *e)
{
    struct watch *w = ctx;
    w->saves++;
    if (w->path[0] && kmeans_state_save(s, &of_test, w->path, e))
        return -1;
    return w->stop_after && w->saves >= w->stop_after ? err_set(e, "stopped here") : 0;
}

static struct kmeans_options options(size_t k, struct watch *w)
{
    *w = (struct watch){0};
    return (struct kmeans_options){.k = k,
                                   .iterations = 6,
                                   .levels = 1,
                                   .seed = 3,
                                   .normalize = true,
                                   .threads = 2,
                                   .mem = 1u << 30,
                                   .step = step,
                                   .save = save,
                                   .ctx = w};
}

static int train(const float *x, size_t n, size_t dim, const struct kmeans_options *o,
                 struct kmeans_state *s, struct err *e)
{
    struct row_memory m;
    struct row_source source = row_source_memory(&m, x, n, dim);
    struct kmeans_points p = {.source = &source, .n = n, .normalize = o->normalize};
    return kmeans_train(&p, o, s, e);
}

// One plain iteration from the centroids `from`, in float64. Returns the objective.
static double plain(const float *x, size_t n, const float *from, float *to)
{
    double *sum = calloc((size_t)K * D, sizeof *sum), total = 0;
    size_t used = 0;
    float *u = malloc(n * D * sizeof *u);
    uint8_t *state = malloc(n);
    memcpy(u, x, n * D * sizeof *u);
    unit_rows(u, n, D, true, state);
    for (size_t i = 0; i < n; i++) {
        size_t best = 0;
        double most = -2;
        for (size_t c = 0; c < K; c++) {
            double s = 0;
            for (size_t d = 0; d < D; d++)
                s += (double)u[i * D + d] * from[c * D + d];
            if (s > most)
                most = s, best = c;
        }
        if (row_failed(state[i]))
            continue;
        total += most, used++;
        for (size_t d = 0; d < D; d++)
            sum[best * D + d] += u[i * D + d];
    }
    for (size_t c = 0; c < K; c++) {
        double norm = 0;
        for (size_t d = 0; d < D; d++)
            norm += sum[c * D + d] * sum[c * D + d];
        for (size_t d = 0; d < D; d++)
            to[c * D + d] = norm > 0 ? (float)(sum[c * D + d] / sqrt(norm)) : from[c * D + d];
    }
    free(sum), free(u), free(state);
    return total / (double)used;
}

static double furthest(const float *a, const float *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        if (d > most)
            most = d;
    }
    return most;
}

static void check_plain(void)
{
    struct err e = {.text = ""};
    struct watch w;
    struct kmeans_state s = {0}, f = {0};
    struct kmeans_options o = options(K, &w);
    float *x = mixture(N, D, 200, true), *init = mixture(K, D, 200, false),
          *want = malloc(sizeof(float) * K * D);
    unit_rows(init, K, D, true, NULL);
    o.init = init;
    o.iterations = 1;
    int r = train(x, N, D, &o, &s, &e);
    double objective = plain(x, N, init, want);
    ok(!r && !w.split && furthest(s.centroids, want, (size_t)K * D) < 1e-6,
       "one iteration is Lloyd's (%s)", e.text);
    ok(!r && fabs(objective - w.last.objective) < 1e-12 && w.last.points == N - 3 &&
           w.last.failed == 3,
       "objective %.6f, %llu points, failed rows left out", w.last.objective,
       (unsigned long long)w.last.points);
    memcpy(x, x + D, D * sizeof *x), memcpy(x + 5 * D, x + D, D * sizeof *x);
    memcpy(x + 77 * D, x + D, D * sizeof *x);
    kmeans_state_release(&s);
    o.iterations = 4;
    r = train(x, N, D, &o, &s, &e);
    double ours = w.last.objective;
    size_t split = w.split;
    o.engine = KMEANS_FAISS;
    r = r || (kmeans_has_faiss() && train(x, N, D, &o, &f, &e));
    if (!kmeans_has_faiss())
        ok(!r, "# SKIP built without FAISS");
    else
        ok(!r && !split && furthest(s.centroids, f.centroids, (size_t)K * D) < 1e-4 &&
               fabs(ours / w.last.objective - 1) < 1e-3 && w.last.iteration == 4,
           "FAISS finds the same: objective %.6f and %.6f, furthest %g (%s)", ours,
           w.last.objective, furthest(s.centroids, f.centroids, (size_t)K * D), e.text);
    kmeans_state_release(&s), kmeans_state_release(&f);
    free(x), free(init), free(want);
}

// The same centroids for any number of threads and any memory, and after any interruption.
static void check_same(int levels, size_t k)
{
    struct err e = {.text = ""};
    struct watch w;
    struct kmeans_state s = {0}, t = {0};
    struct kmeans_options o = options(k, &w);
    float *x = mixture(N, D, 200, true);
    o.levels = levels;
    o.coarse_points = 500;
    int r = train(x, N, D, &o, &s, &e), saves = w.saves;
    size_t bytes = k * D * sizeof(float);
    ok(!r && w.last.points > 0, "%d levels, %zu clusters: objective %.5f, imbalance %.2f (%s)",
       levels, k, w.last.objective, w.last.imbalance, e.text);
    for (int threads = 1; threads < 4; threads += 2) {
        o.threads = threads;
        r = train(x, N, D, &o, &t, &e);
        ok(!r && !memcmp(s.centroids, t.centroids, bytes), "%d threads: the same", threads);
        kmeans_state_release(&t);
    }
    o.mem = kmeans_min_mem(N, D, &o);
    r = train(x, N, D, &o, &t, &e);
    ok(!r && !memcmp(s.centroids, t.centroids, bytes), "little memory: the same (%s)", e.text);
    kmeans_state_release(&t);
    o.mem--;
    ok(train(x, N, D, &o, &t, &e) && strstr(e.text, "at least"), "less is refused: %s", e.text);
    kmeans_state_release(&t);
    o.mem = 1u << 30;
    for (int stop = 1; stop < saves; stop++) {
        o = options(k, &w);
        o.levels = levels;
        o.coarse_points = 500;
        w.stop_after = stop;
        snprintf(w.path, sizeof w.path, "/tmp/kmeans-test-%d", (int)getpid());
        r = train(x, N, D, &o, &t, &e);
        kmeans_state_release(&t);
        w.stop_after = 0;
        int loaded = kmeans_state_load(&t, &of_test, w.path, &e);
        r = r != -1 || loaded != 1 || train(x, N, D, &o, &t, &e);
        ok(!r && !memcmp(s.centroids, t.centroids, bytes), "stopped after %d, continued: the same",
           stop);
        kmeans_state_release(&t);
        unlink(w.path);
    }
    ok(kmeans_duplicates(s.centroids, k, D) == 0, "no centroid twice");
    kmeans_state_release(&s);
    free(x);
}

static void check_edges(void)
{
    struct err e = {.text = ""};
    struct watch w;
    struct kmeans_state s = {0};
    struct kmeans_options o = options(7, &w);
    float *x = mixture(100, D, 100, false);
    for (size_t i = 1; i < 100; i++)
        memcpy(x + i * D, x, D * sizeof *x);
    ok(!train(x, 100, D, &o, &s, &e) && w.last.split > 0 && isfinite(s.centroids[0]),
       "equal rows: %zu clusters were split", w.last.split);
    kmeans_state_release(&s);
    memset(x, 0, 95 * D * sizeof *x);
    ok(train(x, 100, D, &o, &s, &e) && strstr(e.text, "there are 5"), "too few usable rows: %s",
       e.text);
    kmeans_state_release(&s);
    o = options(5, &w);
    o.levels = 2;
    ok(!train(x, 100, D, &o, &s, &e), "as many clusters as usable rows, two levels (%s)", e.text);
    kmeans_state_release(&s);
    o = options(1, &w);
    ok(!train(x, 100, D, &o, &s, &e) && fabs(w.last.objective - 1) < 1e-6, "one cluster");
    kmeans_state_release(&s);
    o = options(200, &w);
    ok(train(x, 100, D, &o, &s, &e), "more clusters than rows: %s", e.text);
    kmeans_state_release(&s);
    free(x);
}

static void check_damage(void)
{
    struct err e;
    char path[64];
    float c[6] = {1, 2, 3, 4, 5, 6};
    struct kmeans_state s = {.level = 1, .iteration = 3, .dim = 3, .k = 2, .centroids = c}, t;
    snprintf(path, sizeof path, "/tmp/kmeans-test-%d", (int)getpid());
    ok(kmeans_state_load(&t, &of_test, path, &e) == 0, "no checkpoint yet");
    ok(!kmeans_state_save(&s, &of_test, path, &e) &&
           kmeans_state_load(&t, &of_test, path, &e) == 1 && t.iteration == 3 &&
           !memcmp(t.centroids, c, sizeof c),
       "a checkpoint comes back");
    kmeans_state_release(&t);
    struct kmeans_tag other = of_test;
    other.rows[0] = 'x';
    ok(kmeans_state_load(&t, &other, path, &e) == 2 && strstr(e.text, "other inputs or masks"),
       "of another run: %s", e.text);
    other.options[0] = 'x';
    ok(kmeans_state_load(&t, &other, path, &e) == 2 && strstr(e.text, "options and rows"), "%s",
       e.text);
    FILE *f = fopen(path, "r+");
    long n;
    int ends = f ? fseek(f, 0, SEEK_END) : -1;
    n = ends ? 0 : ftell(f);
    int wrong = 0;
    for (long i = 0; i < n; i++) {
        fseek(f, i, SEEK_SET);
        int c0 = fgetc(f);
        fseek(f, i, SEEK_SET);
        fputc(c0 ^ 1, f);
        fflush(f);
        wrong += kmeans_state_load(&t, &of_test, path, &e) != -1;
        fseek(f, i, SEEK_SET);
        fputc(c0, f);
    }
    fclose(f);
    ok(n > 0 && !wrong, "each of %ld bytes damaged: refused", n);
    ok(!truncate(path, n - 1) && kmeans_state_load(&t, &of_test, path, &e) == -1, "cut short: %s",
       e.text);
    unlink(path);
}

struct counted {
    struct row_source of;
    int calls, unordered;
};

static int count_gather(void *ctx, const uint64_t *rows, size_t n, float *out, struct err *e)
{
    struct counted *c = ctx;
    c->calls++;
    for (size_t i = 1; i < n; i++)
        c->unordered += rows[i] <= rows[i - 1];
    return c->of.gather(c->of.ctx, rows, n, out, e);
}

static int count_read(void *ctx, uint64_t first, uint64_t n, float *out, struct err *e)
{
    struct counted *c = ctx;
    c->calls++;
    return c->of.read(c->of.ctx, first, n, out, e);
}

// The first centroids are asked for in the order of the rows, many at once.
static void check_first(void)
{
    struct err e;
    struct watch w;
    struct kmeans_state s = {0};
    float *x = mixture(N, D, K, true);
    struct row_memory m;
    struct counted c = {.of = row_source_memory(&m, x, N, D)};
    struct row_source counting = {
        .n = N, .dim = D, .ctx = &c, .read = count_read, .gather = count_gather};
    struct kmeans_points p = {.source = &counting, .n = N, .normalize = true};
    struct kmeans_options o = options(1500, &w);
    o.iterations = 1;
    o.threads = 1;
    o.mem = kmeans_min_mem(N, D, &o);
    ok(kmeans_train(&p, &o, &s, &e) == 0 && c.calls < 40 && !c.unordered,
       "1500 first centroids in %d reads", c.calls);
    kmeans_state_release(&s);
    free(x);
}

int main(void)
{
    check_first();
    check_plain();
    check_same(1, 50);
    check_same(2, 50);
    check_same(2, 300);
    check_edges();
    check_damage();
    return tap_done();
}
