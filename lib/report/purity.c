// SPDX-License-Identifier: Apache-2.0
// How far clusters agree with classes, where the samples have any: purity, the share of the samples
// whose class is the most frequent one of their cluster. More clusters alone make it greater, so it
// stands beside what the same clusters would have if the classes were dealt out by chance.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "formats/json.h"
#include "formats/npy.h"
#include "report/parts.h"
#include "shards/shard-link.h"
#include "shards/shard.h"

// Shards and samples of each that are looked at; samples after which one without any class is given
// up; bytes of a class.
enum { SHARDS = 8, EACH = 2500, PATIENCE = 100, CLASS = 48 };
static const double WORK_MOST = 2e10; // multiplications for one evaluation set

struct member {
    int64_t cluster;
    char class[CLASS];
};
struct purity {
    struct member *at;
    size_t n, cap;
    const char *from; // where the classes are
};

// The class of a sample, as text; NULL: it has none.
static const char *class_of(const struct shard_sample *s, char text[CLASS])
{
    static const char *const fields[] = {"cls", "class", "label", "category"};
    struct err ignored;
    for (size_t i = 0; i < s->n_members; i++)
        if (!strcmp(s->members[i].ext, "cls")) {
            snprintf(text, CLASS, "%s", (const char *)s->members[i].data);
            text[strcspn(text, "\r\n")] = '\0';
            return *text ? "cls" : NULL;
        }
    cJSON *o =
        s->json ? json_parse((const char *)s->json->data, s->json->size, NULL, &ignored) : NULL;
    const char *found = NULL;
    for (size_t k = 0; o && k < sizeof fields / sizeof *fields && !found; k++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, fields[k]);
        if (cJSON_IsString(v))
            snprintf(text, CLASS, "%s", v->valuestring);
        else if (cJSON_IsNumber(v))
            snprintf(text, CLASS, "%.17g", v->valuedouble);
        else
            continue;
        found = *text ? fields[k] : NULL;
    }
    cJSON_Delete(o);
    return found;
}

static int add(struct purity *p, int64_t cluster, const char *class, struct err *e)
{
    void *at = p->at;
    if (mem_grow(&at, &p->cap, p->n + 1, sizeof *p->at, e))
        return -1;
    p->at = at;
    struct member *m = &p->at[p->n++];
    m->cluster = cluster;
    snprintf(m->class, sizeof m->class, "%s", class);
    return 0;
}

// The rows of a shard and how the cluster of one is found: by its label, or as the nearest centroid
// of its embedding.
struct clusters {
    struct npy labels, rows;
    const float *centroid; // [k, dim] unit rows, with `rows`
    size_t k, dim;
};

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

// -1: none.
static int64_t nearest(const struct clusters *c, uint64_t row, float *x, struct err *e)
{
    double best = 0;
    int64_t at = -1;
    if (npy_rows_f32(&c->rows, row, 1, x, e) || !(dot(x, x, c->dim) > 0))
        return -1;
    for (size_t i = 0; i < c->k; i++) {
        double s = dot(x, c->centroid + i * c->dim, c->dim);
        if (at < 0 || s > best) {
            best = s;
            at = (int64_t)i;
        }
    }
    return at;
}

static int64_t cluster_of(const struct clusters *c, uint64_t row, float *x, struct err *e)
{
    return c->centroid ? nearest(c, row, x, e) : npy_item_i64(&c->labels, row * c->labels.h.dim);
}

// At most `most` samples of a shard. What cannot be read has no classes to show: other parts of the
// page tell of it.
static int look(struct purity *p, const char *path, const struct clusters *c, size_t most,
                struct err *e)
{
    struct err ignored;
    struct shard_sample s;
    uint64_t rows = c->centroid ? c->rows.h.rows : c->labels.h.rows;
    float *x = mem_alloc(c->dim + 1, sizeof *x, e);
    struct shard *shard = x ? shard_open(path, NULL, &ignored) : NULL;
    size_t had = 0;
    int rc = x ? 0 : -1;
    for (size_t i = 0; shard && !rc && i < most && (had || i < PATIENCE); i++) {
        char class[CLASS];
        if (shard_next(shard, &s, &ignored) <= 0 || s.index >= rows)
            break;
        const char *from = class_of(&s, class);
        had += from != NULL;
        p->from = from ? from : p->from;
        int64_t cluster = from ? cluster_of(c, s.index, x, &ignored) : -1;
        if (cluster >= 0)
            rc = add(p, cluster, class, e);
    }
    shard_close(shard);
    free(x);
    return rc;
}

static int by_cluster(const void *x, const void *y)
{
    const struct member *a = x, *b = y;
    return a->cluster != b->cluster ? (a->cluster > b->cluster) - (a->cluster < b->cluster)
                                    : strcmp(a->class, b->class);
}

static int by_class(const void *x, const void *y)
{
    return strcmp(((const struct member *)x)->class, ((const struct member *)y)->class);
}

static double share(struct purity *p)
{
    size_t sum = 0, most = 0, run = 0;
    qsort(p->at, p->n, sizeof *p->at, by_cluster);
    for (size_t i = 0; i < p->n; i++) {
        bool same = i && p->at[i].cluster == p->at[i - 1].cluster;
        sum += same ? 0 : most;
        most = same ? most : 0;
        run = same && !strcmp(p->at[i].class, p->at[i - 1].class) ? run + 1 : 1;
        most = run > most ? run : most;
    }
    return (double)(sum + most) / (double)p->n;
}

// The classes in another order, the clusters as they were (Fisher and Yates).
static void deal_out(struct purity *p)
{
    struct rng r;
    rng_init(&r, 1, 0);
    for (size_t i = p->n - 1; i > 0; i--) {
        size_t k = (size_t)rng_below(&r, i + 1);
        char class[CLASS];
        memcpy(class, p->at[i].class, CLASS);
        memcpy(p->at[i].class, p->at[k].class, CLASS);
        memcpy(p->at[k].class, class, CLASS);
    }
}

// Samples of the most frequent class, and how many classes there are.
static size_t most_frequent(struct purity *p, size_t *classes)
{
    size_t most = 0, run = 0;
    *classes = 0;
    qsort(p->at, p->n, sizeof *p->at, by_class);
    for (size_t i = 0; i < p->n; i++) {
        run = i && !strcmp(p->at[i].class, p->at[i - 1].class) ? run + 1 : 1;
        *classes += run == 1;
        most = run > most ? run : most;
    }
    return most;
}

static void put(struct html *h, struct purity *p, const char *set)
{
    if (p->n < 2)
        return;
    size_t classes, most = most_frequent(p, &classes);
    double is = share(p);
    deal_out(p);
    html_put(h, "<p>Purity: of %zu samples ", p->n);
    html_raw(h, set ? "of " : "of this run");
    html_text(h, set ? set : "");
    html_raw(h, " with a class (");
    html_text(h, p->from);
    html_put(h,
             ", %zu of them), %.1f&nbsp;%% have the most frequent class of their cluster; if the "
             "classes were dealt out by chance it would be %.1f&nbsp;%%, and the most frequent "
             "class of all has %.1f&nbsp;%%.</p>\n",
             classes, 100 * is, 100 * share(p), 100 * (double)most / (double)p->n);
}

static int of_samples(struct purity *p, const char *work, const char *shards,
                      const struct path_names *names, struct err *e)
{
    size_t n = names->n < SHARDS ? names->n : SHARDS;
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        const char *name = names->names[i * names->n / n];
        char path[PATH_BYTES], url[SHARD_NAME_MAX];
        struct clusters c = {.k = 0};
        if (path_format(path, e, "%s/labels/%s.npy", work, name))
            return -1;
        if (access(path, R_OK))
            continue;
        rc = npy_open(&c.labels, path, e) || path_format(path, e, "%s/%s.tar", shards, name) ? -1
                                                                                             : 0;
        // Shards of other machines are not fetched for this.
        if (!rc && !access(path, R_OK) && !shard_link_of(path, url))
            rc = look(p, path, &c, EACH, e);
        npy_close(&c.labels);
    }
    return rc;
}

// Of an evaluation set whose rows by the teacher are in WORK/eval/rows/SET.
static int of_set(struct purity *p, const char *work, const char *set, struct clusters *c,
                  struct err *e)
{
    char folder[PATH_BYTES], path[PATH_BYTES];
    int rc = 0;
    if (!report_eval_folder(folder, work, set))
        return 0;
    for (unsigned i = 0; !rc; i++) {
        if (path_format(path, e, "%s/eval/rows/%s/%u.npy", work, set, i))
            return -1;
        if (access(path, R_OK))
            break;
        if (npy_open(&c->rows, path, e))
            return -1;
        double cost = (double)c->rows.h.rows * (double)c->k * (double)c->dim;
        rc = path_format(path, e, "%s/test/%u.tar", folder, i);
        if (!rc && c->rows.h.dim == c->dim && cost < WORK_MOST)
            rc = look(p, path, c, (size_t)c->rows.h.rows, e);
        npy_close(&c->rows);
    }
    return rc;
}

static int of_sets(struct html *h, const char *work, struct err *e)
{
    char folder[PATH_BYTES], path[PATH_BYTES];
    struct path_names sets = {0};
    struct npy a = {0};
    float *rows = NULL;
    if (path_format(folder, e, "%s/eval/rows", work) ||
        path_format(path, e, "%s/centroids.npy", work))
        return -1;
    if (access(path, R_OK) || access(folder, R_OK))
        return 0;
    int rc = path_names_of(&sets, folder, ".done", e) || npy_open(&a, path, e) ? -1 : 0;
    if (!rc && sets.n && (rows = mem_alloc(a.h.rows, a.h.dim * sizeof *rows, e)))
        rc = npy_rows_f32(&a, 0, a.h.rows, rows, e);
    for (size_t i = 0; i < sets.n && rows && !rc; i++) {
        struct clusters c = {.centroid = rows, .k = a.h.rows, .dim = a.h.dim};
        struct purity p = {.n = 0};
        sets.names[i][strlen(sets.names[i]) - strlen(".done")] = '\0';
        rc = of_set(&p, work, sets.names[i], &c, e);
        if (!rc)
            put(h, &p, sets.names[i]);
        free(p.at);
    }
    path_names_free(&sets);
    npy_close(&a);
    free(rows);
    return rc;
}

int report_put_purity(struct html *h, const char *work, const char *shards,
                      const struct path_names *names, struct err *e)
{
    struct purity p = {.n = 0};
    int rc = shards ? of_samples(&p, work, shards, names, e) : 0;
    if (!rc)
        put(h, &p, NULL);
    free(p.at);
    return rc ? rc : of_sets(h, work, e);
}
