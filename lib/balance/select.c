// SPDX-License-Identifier: Apache-2.0
#include "balance/select.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/path.h"
#include "comm/tree.h"
#include "search/nearest.h"

enum { CHUNK = 8192 }; // rows read at once

uint64_t balance_select_bytes(const struct balance_select *s, uint64_t n)
{
    if (!balance_selects(s))
        return 0;
    return n *
           (1 + (s->text_dir ? sizeof(float) : 0) + (s->targets || s->against ? sizeof(float) : 0) +
            (s->keep_share >= 0 ? sizeof(uint64_t) : 0));
}

// Every rank has its share of `value`; the others' to it.
static int gather(const struct balance_select *s, float *value, uint64_t n, int status,
                  struct err *e)
{
    if (!s->comm || s->comm->size == 1)
        return status;
    return comm_agree(s->comm, status, e) ||
                   comm_tree_gather(s->comm, "scores", value, n, sizeof *value, e)
               ? -1
               : 0;
}

static uint64_t share(const struct balance_select *s, uint64_t n, int more)
{
    const struct comm alone = COMM_ALONE, *c = s->comm ? s->comm : &alone;
    return comm_share(c, n, c->rank + more);
}

static int scores(const struct embedding_files *f, const struct balance_select *s, float *score,
                  struct err *e)
{
    uint64_t n = f->set.rows, first = share(s, n, 0), end = share(s, n, 1);
    int r = !score
                ? -1
                : embedding_files_scores(f, s->text_dir, first, end - first, s->threads, score, e);
    return gather(s, score, n, r, e);
}

// The greatest cosine of each row with a target.
static int similarities(const struct embedding_files *f, const struct balance_select *s,
                        const float *targets, size_t k, float *to, struct err *e)
{
    struct nearest a = {0};
    size_t dim = f->set.dim;
    uint64_t first = share(s, f->set.rows, 0), end = share(s, f->set.rows, 1);
    float *rows = mem_alloc(CHUNK * dim, sizeof *rows, e);
    double *sims = rows ? mem_alloc(CHUNK, sizeof *sims, e) : NULL;
    int32_t *labels = sims ? mem_alloc(CHUNK, sizeof *labels, e) : NULL;
    int r = labels ? nearest_init_on(&a, NULL, targets, k, dim, s->threads, e) : -1;
    for (size_t n = 0; first < end && !r; first += n) {
        uint8_t state[CHUNK];
        n = end - first < CHUNK ? end - first : CHUNK;
        r = f->source.read(f->source.ctx, first, n, rows, e);
        if (!r)
            unit_rows(rows, n, dim, true, state);
        r = r || nearest_rows(&a, s->threads, rows, n, state, 1, labels, sims, e) ? -1 : 0;
        for (size_t i = 0; i < n && !r; i++)
            to[first + i] = labels[i] < 0 ? NAN : (float)sims[i];
    }
    nearest_release(&a);
    free(rows);
    free(sims);
    free(labels);
    return r;
}

static int by_target(const struct embedding_files *f, const struct balance_select *s, uint8_t *why,
                     struct err *e)
{
    char hex[DIGEST_HEX];
    size_t k;
    uint64_t n = f->set.rows;
    float *targets = embedding_files_centroids(f, s->targets, &k, hex, e);
    float *to = targets ? mem_alloc(n, sizeof *to, e) : NULL;
    if (!targets)
        err_wrap(e, "--targets");
    int r = gather(s, to, n, to ? similarities(f, s, targets, k, to, e) : -1, e);
    for (uint64_t i = 0; i < n && !r; i++)
        if (why[i] == BALANCE_IN && (double)to[i] < s->min_similarity) // a failed row stays one
            why[i] = BALANCE_FAR;
    free(targets);
    free(to);
    return r;
}

// Rows of zeros and such that are not finite, of pictures that could not be decoded, are passed
// over: they are like nothing.
static size_t usable_rows(float *rows, uint64_t n, size_t dim, const uint8_t *state)
{
    size_t to = 0;
    for (uint64_t i = 0; i < n; i++)
        if (!row_failed(state[i]))
            memmove(rows + to++ * dim, rows + i * dim, dim * sizeof *rows);
    return to;
}

// The rows of one file of the folder, appended to *all.
static int add_file(const struct embedding_files *f, const char *path, float **all, size_t *cap,
                    size_t *n, struct err *e)
{
    struct npy a;
    void *room = *all;
    size_t dim = f->set.dim;
    if (npy_open(&a, path, e))
        return -1;
    if (a.h.n_dims != 2 || (a.h.type != NPY_F4 && a.h.type != NPY_F2)) {
        npy_close(&a);
        return err_set(e, "%s: embeddings are float32 or float16 of two dimensions", path);
    }
    struct sidecar s;
    int has = sidecar_open(path, a.h.rows, &s, e);
    uint8_t *state = NULL;
    int r = has < 0 || embedding_files_fit(f, path, a.h.dim, &s, e) ||
                    mem_grow(&room, cap, *n + a.h.rows, dim * sizeof(float), e)
                ? -1
                : 0;
    *all = room;
    if (!r && (state = mem_alloc(a.h.rows, 1, e))) {
        r = npy_rows_f32(&a, 0, a.h.rows, *all + *n * dim, e);
        if (!r) {
            unit_rows(*all + *n * dim, a.h.rows, dim, true, state);
            *n += usable_rows(*all + *n * dim, a.h.rows, dim, state);
        }
    } else if (!r) {
        r = -1;
    }
    if (has >= 0)
        sidecar_release(&s);
    npy_close(&a);
    free(state);
    return r;
}

// All rows of the folder's NPY files, heap.
static float *rows_of_folder(const struct embedding_files *f, const char *dir, size_t *n,
                             struct err *e)
{
    struct path_names names = {0};
    float *all = NULL;
    size_t cap = 0;
    *n = 0;
    if (path_names_of(&names, dir, ".npy", e))
        return NULL;
    int r = 0;
    for (size_t i = 0; i < names.n && !r; i++) {
        char path[PATH_BYTES];
        r = path_format(path, e, "%s/%s", dir, names.names[i]) ||
                    add_file(f, path, &all, &cap, n, e)
                ? -1
                : 0;
    }
    path_names_free(&names);
    if (!r && (!*n || *n > INT32_MAX))
        r = err_set(e, "'%s' has no rows, or too many", dir);
    if (!r)
        return all;
    free(all);
    return NULL;
}

static int by_evaluation(const struct embedding_files *f, const struct balance_select *s,
                         uint8_t *why, struct err *e)
{
    size_t k;
    uint64_t n = f->set.rows;
    float *set = rows_of_folder(f, s->against, &k, e);
    float *to = set ? mem_alloc(n, sizeof *to, e) : NULL;
    if (!set)
        err_wrap(e, "--against");
    int r = gather(s, to, n, to ? similarities(f, s, set, k, to, e) : -1, e);
    for (uint64_t i = 0; i < n && !r; i++)
        if (why[i] == BALANCE_IN && 1 - (double)to[i] < s->against_distance)
            why[i] = BALANCE_EVALUATED;
    free(set);
    free(to);
    return r;
}

struct score_row {
    float score;
    uint32_t row;
};

static int by_score(const void *x, const void *y)
{
    const struct score_row *a = x, *b = y;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

// The greatest scores; among equal ones the lowest rows.
static int keep_best(const struct balance_select *s, uint64_t rows, struct balance_selected *to,
                     struct err *e)
{
    size_t n = 0;
    struct score_row *all = mem_alloc(rows, sizeof *all, e);
    if (!all)
        return -1;
    for (uint64_t i = 0; i < rows; i++)
        if (to->why[i] == BALANCE_IN && isfinite(to->score[i]))
            all[n++] = (struct score_row){to->score[i], (uint32_t)i};
    if (n)
        qsort(all, n, sizeof *all, by_score);
    size_t keep = (size_t)floor(s->keep_share * (double)n + 0.5);
    to->least = keep ? (double)all[keep - 1].score : 1;
    for (size_t i = keep; i < n; i++)
        to->why[all[i].row] = BALANCE_SCORE_OUT;
    free(all);
    return 0;
}

static void by_limits(const struct balance_select *s, uint64_t rows, struct balance_selected *to)
{
    for (uint64_t i = 0; i < rows; i++) {
        double x = (double)to->score[i];
        if (isnan(x))
            to->why[i] = BALANCE_NO_CAPTION;
        else if (isfinite(x) && (x < s->min_score || x > s->max_score)) // else it has failed
            to->why[i] = BALANCE_SCORE_OUT;
    }
}

int balance_select(const struct embedding_files *f, const struct balance_select *s,
                   struct balance_selected *to, struct err *e)
{
    uint64_t rows = f->set.rows;
    *to = (struct balance_selected){0};
    if (rows >= UINT32_MAX)
        return err_set(e, "too many rows: %llu", (unsigned long long)rows);
    to->why = mem_alloc(rows, sizeof *to->why, e);
    to->score = to->why && s->text_dir ? mem_alloc(rows, sizeof *to->score, e) : NULL;
    if (s->text_dir && scores(f, s, to->score, e)) // ranks meet there, whatever has failed
        return -1;
    if (!to->why)
        return -1;
    if (s->text_dir)
        by_limits(s, rows, to);
    if (s->targets && by_target(f, s, to->why, e))
        return -1;
    if (s->against && by_evaluation(f, s, to->why, e))
        return -1;
    if (s->text_dir && s->keep_share >= 0 && keep_best(s, rows, to, e))
        return -1;
    for (uint64_t i = 0; i < rows; i++)
        to->n[to->why[i]]++;
    return 0;
}

void balance_selected_release(struct balance_selected *s)
{
    free(s->why);
    free(s->score);
    *s = (struct balance_selected){0};
}
