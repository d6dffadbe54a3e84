// SPDX-License-Identifier: Apache-2.0
// How near a student's space is to its teacher's, without labels: of the teacher's k nearest
// pictures of each picture the share that is among the student's k nearest, and the mean cosine of
// the two models' rows where they have one width. Any widths otherwise; a teacher that is only
// rotated has all neighbours in common. And instance retrieval (arXiv 2209.13832): every picture
// asks for the others of its group.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/path.h"
#include "eval/work.h"
#include "formats/json.h"
#include "formats/npy.h"
#include "formats/sidecar.h"

enum { NEAREST = 100, SHARES = 3, SHOWN = 6, EXAMPLES = 5 };
static const size_t SHARE_AT[SHARES] = {1, 10, NEAREST};

// The rows that both models have.
struct common {
    size_t n, dim[2];
    float *x[2];  // student, teacher: [n, dim]
    uint32_t *of; // [n]: the features' rows
};

struct best {
    float score;
    uint32_t row;
};

struct lists {
    size_t n, most;   // rows; neighbours of each
    uint32_t *of;     // [n, most], the teacher's
    struct best *top; // [most], of the row at hand, best first
    uint8_t *mark;    // [n]
    bool compare;     // the student's turn
    double share[SHARES];
    uint32_t *own;      // [n, SHOWN], the student's
    struct best *order; // [n]: share at 10, or at as many as there are
};

static bool better(struct best a, struct best b)
{
    return a.score > b.score || (a.score == b.score && a.row < b.row);
}

// The greatest scores of a row but its own; of equal ones the lowest rows.
static void find_top(struct lists *l, size_t row, const float *scores)
{
    size_t have = 0;
    for (size_t j = 0; j < l->n; j++) {
        struct best b = {scores[j], (uint32_t)j};
        if (j == row || (have == l->most && !better(b, l->top[have - 1])))
            continue;
        size_t at = have < l->most ? have++ : have - 1;
        for (; at && better(b, l->top[at - 1]); at--)
            l->top[at] = l->top[at - 1];
        l->top[at] = b;
    }
}

static int on_row(void *user, size_t row, const float *scores, struct err *e)
{
    struct lists *l = user;
    uint32_t *of = l->of + row * l->most;
    (void)e;
    find_top(l, row, scores);
    for (size_t i = 0; i < l->most && !l->compare; i++)
        of[i] = l->top[i].row;
    for (int s = 0; s < SHARES && l->compare; s++) {
        size_t k = SHARE_AT[s], hits = 0;
        if (k > l->most)
            break;
        for (size_t i = 0; i < k; i++)
            l->mark[of[i]] = 1;
        for (size_t i = 0; i < k; i++)
            hits += l->mark[l->top[i].row];
        for (size_t i = 0; i < k; i++)
            l->mark[of[i]] = 0;
        l->share[s] += (double)hits / (double)k;
        if (k <= 10)
            l->order[row] = (struct best){(float)hits / (float)k, (uint32_t)row};
    }
    for (size_t i = 0; i < SHOWN && i < l->most && l->compare; i++)
        l->own[row * SHOWN + i] = l->top[i].row;
    return 0;
}

static bool dead(const float *x, size_t dim)
{
    for (size_t i = 0; i < dim; i++)
        if (x[i] != 0)
            return false;
    return true;
}

static void make_unit(float *x, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)x[i] * (double)x[i];
    for (size_t i = 0; i < dim; i++)
        x[i] = (float)((double)x[i] / sqrt(sum));
}

// Rows that neither model failed at, to the front.
static void keep_common(struct common *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (dead(c->x[0] + i * c->dim[0], c->dim[0]) || dead(c->x[1] + i * c->dim[1], c->dim[1]))
            continue;
        for (int m = 0; m < 2; m++) {
            float *to = c->x[m] + n * c->dim[m];
            memmove(to, c->x[m] + i * c->dim[m], c->dim[m] * sizeof *to);
            make_unit(to, c->dim[m]);
        }
        c->of[n++] = (uint32_t)i;
    }
    c->n = n;
}

static double mean_cosine(const struct common *c)
{
    double sum = 0;
    for (size_t i = 0; i < c->n * c->dim[0]; i++)
        sum += (double)c->x[0][i] * (double)c->x[1][i];
    return sum / (double)c->n;
}

static int by_score(const void *x, const void *y)
{
    return better(*(const struct best *)x, *(const struct best *)y) ? -1 : 1;
}

static int add_names(cJSON *o, const char *name, const struct common *c,
                     const struct eval_features *f, const uint32_t *rows, size_t n, struct err *e)
{
    cJSON *list = json_add_array(o, name, e);
    int rc = list ? 0 : -1;
    for (size_t i = 0; i < n && !rc; i++) {
        cJSON *item = cJSON_CreateString(f->names[c->of[rows[i]]]);
        rc = item && cJSON_AddItemToArray(list, item) ? 0 : err_set(e, "out of memory");
    }
    return rc;
}

// Some pictures with their nearest by both models: those at the ends and quarters of the order by
// what the two have in common, which says nothing better or worse than there is.
static int add_examples(struct lists *l, const struct common *c, const struct eval_features *f,
                        struct eval_result *r, struct err *e)
{
    size_t shown = l->most < SHOWN ? l->most : SHOWN, last = c->n;
    if (!(r->nearest = cJSON_CreateArray()))
        return err_set(e, "out of memory");
    qsort(l->order, c->n, sizeof *l->order, by_score);
    for (size_t k = 0; k < EXAMPLES; k++) {
        size_t at = k * (c->n - 1) / (EXAMPLES - 1), row = l->order[at].row;
        cJSON *o = at == last ? NULL : json_add_object(r->nearest, NULL, e);
        if (at == last)
            continue;
        last = at;
        if (!o || json_add_string(o, "of", f->names[c->of[row]], e) ||
            json_add_double(o, "common", (double)l->order[at].score, e) ||
            add_names(o, "teacher", c, f, l->of + row * l->most, shown, e) ||
            add_names(o, "student", c, f, l->own + row * SHOWN, shown, e))
            return -1;
    }
    return 0;
}

static int count_common(struct dev *d, const struct common *c, const struct eval_features *f,
                        struct eval_result *r, struct err *e)
{
    struct lists l = {.n = c->n, .most = c->n - 1 < NEAREST ? c->n - 1 : NEAREST};
    l.of = mem_alloc(c->n * l.most, sizeof *l.of, e);
    l.top = l.of ? mem_alloc(l.most, sizeof *l.top, e) : NULL;
    l.mark = l.top ? mem_alloc(c->n, 1, e) : NULL;
    l.own = l.mark ? mem_alloc(c->n * SHOWN, sizeof *l.own, e) : NULL;
    l.order = l.own ? mem_alloc(c->n, sizeof *l.order, e) : NULL;
    int rc = l.order ? 0 : -1;
    for (int m = 1; m >= 0 && !rc; m--) { // the teacher first
        l.compare = m == 0;
        rc = eval_scores(d, c->x[m], c->n, c->x[m], c->n, c->dim[m], 1, on_row, &l, e);
    }
    for (int s = 0; s < SHARES && !rc && SHARE_AT[s] <= l.most; s++) {
        char name[48];
        snprintf(name, sizeof name, "neighbours@%zu", SHARE_AT[s]);
        eval_add_figure(r, name, l.share[s] / (double)c->n);
    }
    rc = rc ? rc : add_examples(&l, c, f, r, e);
    free(l.of);
    free(l.top);
    free(l.mark);
    free(l.own);
    free(l.order);
    return rc;
}

// -- the teacher's rows

// Adds the rows of one shard: *rows grown to `have` + theirs.
static int add_file(const char *path, float **rows, size_t *have, size_t *dim, struct err *e)
{
    struct npy a;
    struct sidecar s = {0};
    if (npy_open(&a, path, e))
        return -1;
    int rc = (a.h.type != NPY_F2 && a.h.type != NPY_F4) || a.h.n_dims != 2 || !a.h.dim
                 ? err_set(e, "%s: embeddings are <f2 or <f4 of two dimensions", path)
             : *dim && a.h.dim != *dim
                 ? err_set(e, "%s: has %zu columns, others have %zu", path, a.h.dim, *dim)
             : sidecar_open(path, a.h.rows, &s, e) < 0 ? -1
                                                       : 0;
    if (!rc && s.of && strcmp(s.of, "image") != 0)
        rc = err_set(e, "%s holds text embeddings, not those of pictures", path);
    *dim = rc ? *dim : a.h.dim;
    float *more = rc ? NULL : realloc(*rows, (*have + a.h.rows) * *dim * sizeof *more);
    if (!rc && !more)
        rc = err_set(e, "out of memory");
    if (!rc) {
        *rows = more;
        rc = npy_rows_f32(&a, 0, a.h.rows, more + *have * *dim, e);
        *have += a.h.rows;
    }
    sidecar_release(&s);
    npy_close(&a);
    return rc;
}

int eval_teacher_rows(const struct eval_set *s, const char *split, const char *dir, float **rows,
                      size_t *n, size_t *dim, struct err *e)
{
    size_t shards;
    *rows = NULL;
    *n = *dim = 0;
    if (eval_set_shards(s, split, &shards, e))
        return -1;
    for (size_t i = 0; i < shards; i++) {
        char shard[PATH_BYTES], path[PATH_BYTES];
        if (eval_set_shard_path(shard, s, split, i, e))
            return -1;
        const char *name = path_base(shard);
        if (path_format(path, e, "%s/%.*s.npy", dir, (int)path_stem(name), name) ||
            add_file(path, rows, n, dim, e))
            return -1;
    }
    return 0;
}

int eval_neighbours(const struct eval_model *m, const struct eval_features *f, float *rows,
                    size_t n, size_t dim, struct eval_result *r, struct err *e)
{
    struct common c = {.n = f->n, .dim = {f->dim, dim}, .x = {NULL, rows}};
    if (n != f->n)
        return err_set(e, "the teacher's files have %zu rows, the split %zu pictures", n, f->n);
    c.x[0] = mem_alloc(f->n * f->dim, sizeof **c.x, e);
    c.of = c.x[0] ? mem_alloc(f->n, sizeof *c.of, e) : NULL;
    int rc = c.of ? 0 : -1;
    if (!rc) {
        memcpy(c.x[0], f->x, f->n * f->dim * sizeof **c.x);
        keep_common(&c);
        rc = c.n > 1 ? count_common(m->clip->dev, &c, f, r, e) : 0;
    }
    if (!rc && c.n && c.dim[0] == c.dim[1])
        eval_add_figure(r, "mean_cosine", mean_cosine(&c));
    free(c.x[0]);
    free(c.of);
    return rc;
}

// -- instance retrieval

struct instance {
    const int32_t *group; // [n]
    size_t n, queries;
    struct best *order; // [n]
    double precision;
    struct recall_metrics recall;
};

double eval_average_precision(const bool *positive, size_t n)
{
    double sum = 0;
    size_t hits = 0;
    for (size_t i = 0; i < n; i++)
        if (positive[i])
            sum += (double)++hits / (double)(i + 1);
    return hits ? sum / (double)hits : 0;
}

static int ask(void *user, size_t row, const float *scores, struct err *e)
{
    struct instance *t = user;
    size_t n = 0, first = t->n;
    for (size_t j = 0; j < t->n; j++)
        if (j != row)
            t->order[n++] = (struct best){scores[j], (uint32_t)j};
    if (n)
        qsort(t->order, n, sizeof *t->order, by_score);
    bool *positive = mem_alloc(n, sizeof *positive, e);
    if (!positive)
        return -1;
    for (size_t i = 0; i < n; i++) {
        positive[i] = t->group[t->order[i].row] == t->group[row];
        first = positive[i] && first == t->n ? i : first;
    }
    if (first < t->n) { // alone in its group: no query
        t->precision += eval_average_precision(positive, n);
        t->queries++;
        recall_metrics_add(&t->recall, first);
    }
    free(positive);
    return 0;
}

int eval_instance(const struct eval_model *m, const struct eval_features *f, struct eval_result *r,
                  struct err *e)
{
    struct instance t = {0};
    *r = (struct eval_result){.task = "instance_retrieval", .n = f->n, .failed = f->failed};
    float *x = mem_alloc(f->n * f->dim, sizeof *x, e);
    int32_t *group = x ? mem_alloc(f->n, sizeof *group, e) : NULL;
    t.order = group ? mem_alloc(f->n, sizeof *t.order, e) : NULL;
    int rc = t.order ? 0 : -1;
    for (size_t i = 0; i < f->n && !rc; i++)
        if (!eval_row_failed(f, i)) {
            memcpy(x + t.n * f->dim, f->x + i * f->dim, f->dim * sizeof *x);
            group[t.n++] = f->label[i];
        }
    t.group = group;
    if (!rc && t.n > 1)
        rc = eval_scores(m->clip->dev, x, t.n, x, t.n, f->dim, 1, ask, &t, e);
    if (!rc && t.queries) {
        eval_add_figure(r, "mAP", t.precision / (double)t.queries);
        for (int k = 0; k < METRIC_RECALLS && (size_t)metric_recall_at[k] < t.n; k++) {
            char name[48];
            snprintf(name, sizeof name, "recall@%d", metric_recall_at[k]);
            eval_add_share(r, name, t.recall.hits[k], t.recall.n);
        }
    }
    free(x);
    free(group);
    free(t.order);
    return rc;
}
