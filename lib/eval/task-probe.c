// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "eval/work.h"
#include "base/mem.h"
#include "eval/linear-probe.h"
#include "base/rng.h"

enum { VALIDATION_FIFTHS = 5 };

// Rows go to the device through a buffer of this many.
enum { UPLOAD_ROWS = 4096 };

// Rows of a split on the device, the failed ones left out.
struct probe_rows {
    float *x; // device [n, dim]
    int32_t *label;
    size_t n;
};

static void rows_release(struct probe_rows *r, struct dev *d)
{
    d->op->free(d, r->x);
    free(r->label);
    *r = (struct probe_rows){0};
}

// Gathers rows row[0..n) of f into buffers of UPLOAD_ROWS and sends them to x, device [n, dim].
static int upload_rows(struct dev *d, float *x, const struct eval_features *f, const size_t *row,
                       size_t n, struct err *e)
{
    size_t dim = f->dim, most = n < UPLOAD_ROWS ? n : UPLOAD_ROWS;
    float *host = mem_alloc(most * dim, sizeof *host, e);
    int rc = host ? 0 : -1;
    for (size_t at = 0; rc == 0 && at < n; at += most) {
        size_t rows = n - at < most ? n - at : most;
        for (size_t i = 0; i < rows; i++)
            memcpy(host + i * dim, f->x + row[at + i] * dim, dim * sizeof *host);
        d->op->upload(d, x + at * dim, host, rows * dim * sizeof(float));
        rc = d->op->sync(d, e); // the buffer is filled again
    }
    free(host);
    return rc;
}

// Those rows i of f for which take(i) holds.
static int rows_take(struct probe_rows *r, struct dev *d, const struct eval_features *f,
                     const uint8_t *take, struct err *e)
{
    *r = (struct probe_rows){0};
    size_t *row = mem_alloc(f->n, sizeof *row, e);
    r->label = row ? mem_alloc(f->n, sizeof *r->label, e) : NULL;
    for (size_t i = 0; r->label && i < f->n; i++)
        if (take[i] && !eval_row_failed(f, i)) {
            row[r->n] = i;
            r->label[r->n++] = f->label[i];
        }
    r->x = r->label ? d->op->alloc(d, r->n * f->dim * sizeof(float), e) : NULL;
    int rc = r->x ? upload_rows(d, r->x, f, row, r->n, e) : -1;
    free(row);
    if (rc)
        rows_release(r, d);
    return rc;
}

struct c_search {
    struct dev *d;
    struct probe_rows fit, validation;
    size_t dim, classes;
    int max_iterations;
    struct probe probe; // each fit starts where the last one ended
    float *scores;      // [validation.n, classes]
};

static int score_at(void *user, double c, double *share, struct err *e)
{
    struct c_search *s = user;
    const struct probe_data data = {s->fit.x, s->fit.label, s->fit.n, s->dim, s->classes};
    if (probe_fit(s->d, &data, c, s->max_iterations, false, &s->probe, e) ||
        probe_scores(s->d, &s->probe, s->validation.x, s->validation.n, s->scores, e))
        return -1;
    size_t hits = 0;
    for (size_t i = 0; i < s->validation.n; i++) {
        struct metric_top top;
        metric_top_of(s->scores + i * s->classes, s->classes, &top);
        hits += top.index[0] == s->validation.label[i];
    }
    *share = s->validation.n ? (double)hits / (double)s->validation.n : 0;
    return 0;
}

static int search_c(struct c_search *s, const struct eval_features *train, uint64_t seed, double *c,
                    struct err *e)
{
    int best, rc = -1;
    uint8_t *take = mem_alloc(train->n, 1, e);
    if (!take)
        return -1;
    for (size_t i = 0; i < train->n; i++)
        take[i] = rng_permute(seed, 0, train->n, i) % VALIDATION_FIFTHS == 0;
    rc = rows_take(&s->validation, s->d, train, take, e);
    for (size_t i = 0; i < train->n; i++)
        take[i] = !take[i];
    if (rc == 0)
        rc = rows_take(&s->fit, s->d, train, take, e);
    free(take);
    if (rc == 0 && (s->fit.n == 0 || s->validation.n == 0))
        rc = err_set(e, "too few training pictures to choose C on");
    if (rc == 0) {
        s->scores = mem_alloc(s->validation.n * s->classes, sizeof *s->scores, e);
        rc = s->scores ? probe_search(score_at, s, &best, e) : -1;
    }
    if (rc == 0)
        *c = probe_grid_c(best);
    free(s->scores);
    rows_release(&s->fit, s->d);
    rows_release(&s->validation, s->d);
    return rc;
}

// The figures of a fitted probe on the test rows.
static int judge(struct dev *d, const struct probe *p, const struct eval_features *test,
                 struct eval_result *r, struct err *e)
{
    enum { ROWS = 1024 };
    float *scores = mem_alloc(ROWS * p->classes, sizeof *scores, e);
    float *x = scores ? d->op->alloc(d, ROWS * test->dim * sizeof(float), e) : NULL;
    int rc = x ? eval_classify_begin(r, test, p->classes, e) : -1;
    for (size_t at = 0; rc == 0 && at < test->n; at += ROWS) {
        size_t n = test->n - at < ROWS ? test->n - at : ROWS;
        d->op->upload(d, x, test->x + at * test->dim, n * test->dim * sizeof(float));
        rc = probe_scores(d, p, x, n, scores, e);
        for (size_t i = 0; rc == 0 && i < n; i++)
            rc = eval_classify_row(r, test, at + i, scores + i * p->classes, e);
    }
    d->op->free(d, x);
    free(scores);
    return rc;
}

int eval_linear_probe(const struct eval_model *m, const struct eval_set *s,
                      const struct eval_features *train, const struct eval_features *test, double c,
                      int max_iterations, uint64_t seed, struct eval_result *r, struct err *e)
{
    struct c_search search = {.d = m->clip->dev,
                              .dim = train->dim,
                              .classes = s->classes.n,
                              .max_iterations = max_iterations};
    *r = (struct eval_result){.task = "linear_probe"};
    int rc = c > 0 ? 0 : search_c(&search, train, seed, &c, e);
    struct probe_rows all = {0};
    uint8_t *take = rc == 0 ? mem_alloc(train->n, 1, e) : NULL;
    if (take) {
        memset(take, 1, train->n);
        rc = rows_take(&all, search.d, train, take, e);
        free(take);
        if (rc == 0 && all.n == 0)
            rc = err_set(e, "'%s' has no training picture that can be decoded", s->folder);
    } else {
        rc = -1;
    }
    if (rc == 0) {
        const struct probe_data data = {all.x, all.label, all.n, train->dim, s->classes.n};
        rc = probe_fit(search.d, &data, c, max_iterations, true, &search.probe, e);
    }
    if (rc == 0)
        rc = judge(search.d, &search.probe, test, r, e);
    if (rc == 0) {
        eval_classify_end(r, "lp_");
        r->probe_c = c;
        r->probe_iterations = search.probe.iterations;
        r->probe_converged = search.probe.converged;
    }
    rows_release(&all, search.d);
    probe_release(&search.probe);
    if (rc)
        eval_result_release(r);
    return rc;
}
