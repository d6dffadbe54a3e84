// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/path.h"
#include "comm/tree.h"
#include "search/nearest.h"
#include "cluster/stage-run.h"
#include "formats/ledger.h"
#include "formats/npy.h"
#include "base/mem.h"
#include "system/signals.h"
#include "search/dot-block.h"

enum { CHUNK = 16384 };

struct labels {
    struct kmeans_stage *j;
    struct nearest assign;
    struct kmeans_prefetch ahead;
    int32_t *labels;
    double *sims;
};

static int label_chunk(struct labels *l, uint64_t first, size_t n, struct ledger_row *line,
                       struct err *e)
{
    struct kmeans_stage *j = l->j;
    const float *rows;
    const uint8_t *state;
    int threads = (int)j->common->threads;
    if (kmeans_prefetch_read(&l->ahead, first, n, embedding_files_run(&j->files, first + n, CHUNK),
                             &rows, &state, e) ||
        nearest_rows(&l->assign, threads, rows, n, state, j->o->top, l->labels, l->sims, e))
        return -1;
    for (size_t i = 0; i < n; i++) {
        j->rescaled += state[i] == ROW_RESCALED;
        line->in++;
        if (l->labels[i * j->o->top] < 0) {
            j->zero += state[i] == ROW_ZERO;
            j->not_finite += state[i] != ROW_ZERO;
            if (ledger_drop(line, state[i] == ROW_ZERO ? "zero-row" : "not-finite", 1, e))
                return -1;
            continue;
        }
        line->out++;
        j->labelled++;
        j->counts[l->labels[i * j->o->top]]++;
        j->total += l->sims[i * j->o->top];
    }
    return 0;
}

static int label_part(struct labels *l, size_t part, struct err *e)
{
    struct kmeans_stage *j = l->j;
    const struct npy_part *p = &j->files.set.parts[part];
    struct npy_writer w;
    struct ledger_row line = {0};
    char *path = embedding_files_path(&j->files, part, j->o->labels_dir, e);
    if (!path || ledger_row_init(&line, "cluster", path_base(path), e) ||
        npy_create(&w, path, NPY_I4, j->o->top > 1, &j->o->top, p->rows, e)) {
        ledger_row_release(&line);
        free(path);
        return -1;
    }
    int r = 0;
    for (uint64_t at = 0, n; at < p->rows && !r; at += n) {
        n = embedding_files_run(&j->files, p->first + at, CHUNK);
        r = label_chunk(l, p->first + at, n, &line, e) || npy_write(&w, l->labels, n, e);
        if (!r && signals_stop_wanted())
            r = err_set(e, "stopped");
    }
    if (r)
        npy_abort(&w);
    else
        r = embedding_files_commit(&j->files, part, path, &w, &j->origin, e);
    if (!r && j->o->ledger)
        r = ledger_append(j->o->ledger, &line, e);
    ledger_row_release(&line);
    free(path);
    return r ? -1 : 0;
}

int kmeans_stage_label_memory(const struct kmeans_stage *j, size_t centroids, struct err *e)
{
    double dim = (double)j->files.set.dim, n = (double)centroids;
    double need = n * (dim * 4 + 8) + (double)nearest_bytes(centroids, j->files.set.dim) +
                  CHUNK * (4 * dim + 1 + 12.0 * (double)j->o->top) + 40e6 +
                  (double)j->common->threads *
                      (double)nearest_thread_bytes(j->files.set.dim, (size_t)j->o->top);
    if (need > (double)j->mem)
        return err_set(e, "labels against %zu centroids need at least %.0f MiB: see --mem",
                       centroids, ceil(need / 1048576));
    return 0;
}

static void tell_labels(struct kmeans_stage *j)
{
    uint64_t empty = 0;
    double sum = 0, n = (double)j->labelled;
    for (size_t c = 0; c < j->n_centroids; c++) {
        empty += j->counts[c] == 0;
        sum += (double)j->counts[c] * (double)j->counts[c];
    }
    log_note(j->log,
             "%llu rows labelled, %llu without label (%llu zero, %llu not finite), %llu not unit; "
             "mean cosine %.6f, %llu of %zu clusters empty, imbalance %.3f",
             (unsigned long long)j->labelled, (unsigned long long)(j->zero + j->not_finite),
             (unsigned long long)j->zero, (unsigned long long)j->not_finite,
             (unsigned long long)j->rescaled, n > 0 ? j->total / n : 0, (unsigned long long)empty,
             j->n_centroids, n > 0 ? (double)j->n_centroids * sum / (n * n) : 1);
}

static int begin_labels(struct labels *l, struct err *e)
{
    struct kmeans_stage *j = l->j;
    l->labels = mem_alloc(CHUNK * j->o->top, sizeof *l->labels, e);
    l->sims = l->labels ? mem_alloc(CHUNK * j->o->top, sizeof *l->sims, e) : NULL;
    j->counts = l->sims ? mem_alloc(j->n_centroids, sizeof *j->counts, e) : NULL;
    if (!j->counts || nearest_init_on(&l->assign, kmeans_stage_searcher(j), j->centroids,
                                      j->n_centroids, j->files.set.dim, (int)j->common->threads, e))
        return -1;
    j->origin.with = j->centroids_name;
    j->origin.with_hex = j->centroids_hex;
    return 0;
}

// Labels all files that are open, or this rank's share of them. `before`: rows that were labelled
// before them.
static int label_files(struct labels *l, struct progress *bar, uint64_t before, struct err *e)
{
    struct kmeans_stage *j = l->j;
    struct kmeans_points p = {
        .source = &j->files.source, .n = j->files.set.rows, .normalize = j->o->normalize};
    int r = kmeans_prefetch_init(&l->ahead, &p, CHUNK, (int)j->common->threads,
                                 kmeans_stage_searcher(j), e);
    size_t end = comm_share(j->comm, j->files.set.n_parts, j->comm->rank + 1);
    for (size_t i = comm_share(j->comm, j->files.set.n_parts, j->comm->rank); i < end && !r; i++) {
        r = label_part(l, i, e);
        progress_to(bar, before + j->files.set.parts[i].first + j->files.set.parts[i].rows);
    }
    kmeans_prefetch_release(&l->ahead);
    return r ? -1 : 0;
}

static void end_labels(struct labels *l)
{
    nearest_release(&l->assign);
    free(l->labels);
    free(l->sims);
    free(l->j->counts);
}

// What all ranks have labelled, for the last line.
static int sum_labels(struct kmeans_stage *j, struct err *e)
{
    uint64_t *mine[] = {&j->labelled, &j->zero, &j->not_finite, &j->rescaled};
    double *total = mem_alloc((size_t)j->comm->size, sizeof *total, e);
    void *room = total ? mem_alloc(1, comm_tree_room(j->comm, j->n_centroids, 8), e) : NULL;
    int r = room ? comm_tree_all(j->comm, "counts", j->counts, j->n_centroids, 8, comm_add_i64,
                                 NULL, room, e)
                 : -1;
    for (size_t i = 0; i < sizeof mine / sizeof *mine && !r; i++)
        r = comm_tree_all(j->comm, "counts", mine[i], 1, 8, comm_add_i64, NULL, room, e);
    if (!r)
        r = comm_gather(j->comm, "cosines", &j->total, sizeof j->total, total, e);
    j->total = 0;
    for (int i = 0; i < j->comm->size && !r; i++)
        j->total += total[i];
    free(total);
    free(room);
    return r;
}

int kmeans_stage_labels(struct kmeans_stage *j, struct err *e)
{
    struct labels l = {.j = j};
    struct progress bar;
    progress_start(&bar, j->log, j->files.set.rows, "rows");
    int r = begin_labels(&l, e) || label_files(&l, &bar, 0, e) ? -1 : 0;
    progress_end(&bar);
    r = comm_agree(j->comm, r, e);
    if (!r && j->comm->size > 1)
        r = sum_labels(j, e);
    if (!r)
        tell_labels(j);
    end_labels(&l);
    return r;
}

// ---- each input by itself

// Are the labels of the file that is open there, as this run would make them?
static bool labels_belong(struct kmeans_stage *j, struct err *ignored)
{
    struct sidecar made = {0}, want = {0};
    struct npy a;
    char *path = embedding_files_path(&j->files, 0, j->o->labels_dir, ignored);
    bool yes = false;
    if (path && access(path, R_OK) == 0 && npy_open(&a, path, ignored) == 0) {
        yes = a.h.rows == j->files.set.rows && sidecar_open(path, a.h.rows, &made, ignored) == 1 &&
              embedding_files_sidecar(&j->files, 0, &j->origin, &want, ignored) == 0 &&
              sidecar_same_command(&made, &want) && sidecar_same_inputs(&made, &want) &&
              !strcmp(made.keys, want.keys) && !strcmp(made.model, want.model);
        npy_close(&a);
    }
    sidecar_release(&made);
    sidecar_release(&want);
    free(path);
    return yes;
}

// The first file that can be opened brings the centroids.
static int ready(struct labels *l, struct err *e)
{
    struct kmeans_stage *j = l->j;
    if (!j->centroids)
        return kmeans_stage_take_centroids(j, e) || begin_labels(l, e) ? -1 : 0;
    return embedding_files_fit(&j->files, j->o->assign, j->dim, &j->centroids_sidecar, e);
}

struct each {
    struct labels l;
    struct progress bar;
    uint64_t rows;
    size_t made, passed, failed;
    struct err first; // of the failures
    bool fatal;       // not the input's fault
};

static int label_one(struct each *s, const char *path, struct err *e)
{
    struct kmeans_stage *j = s->l.j;
    struct err ignored;
    const char *dirs[] = {j->o->labels_dir};
    if (embedding_files_open(&j->files, &path, 1, e) ||
        embedding_files_check_outputs(&j->files, NULL, 0, dirs, 1, e))
        return -1;
    bool first = !j->centroids;
    if (ready(&s->l, e)) {
        s->fatal = first;
        return -1;
    }
    if (j->o->resume && labels_belong(j, &ignored)) {
        s->passed++;
        progress_from(&s->bar, s->bar.before + j->files.set.rows);
        return 0;
    }
    if (label_files(&s->l, &s->bar, s->bar.before + s->rows, e)) {
        s->fatal = signals_stop_wanted();
        return -1;
    }
    s->rows += j->files.set.rows;
    s->made++;
    return 0;
}

// Of all inputs together, or 0 where one does not tell.
static uint64_t rows_of(const char *const *paths, size_t n)
{
    struct err ignored; // told when its turn comes
    struct npy a;
    uint64_t rows = 0;
    for (size_t i = 0; i < n; i++) {
        if (npy_open(&a, paths[i], &ignored))
            return 0;
        rows += a.h.rows;
        npy_close(&a);
    }
    return rows;
}

int kmeans_stage_each(struct kmeans_stage *j, const char *const *paths, size_t n, struct err *e)
{
    struct each s = {.l = {.j = j}};
    int r = 0;
    progress_start(&s.bar, j->log, rows_of(paths, n), "rows");
    for (size_t i = 0; i < n && !r; i++) {
        if (label_one(&s, paths[i], e)) {
            if (!s.failed++)
                s.first = *e;
            r = s.fatal ? -1 : 0;
            if (!r)
                log_error(j->log, "%s", e->text);
        }
        embedding_files_close(&j->files);
    }
    progress_end(&s.bar);
    if (j->centroids && !r)
        tell_labels(j);
    log_note(j->log, "%zu inputs labelled, %zu were", s.made, s.passed);
    end_labels(&s.l);
    j->each_rows = s.rows;
    if (!r && s.failed)
        r = err_set(e, "%zu of %zu inputs failed, the first: %s", s.failed, n, s.first.text);
    return r;
}
