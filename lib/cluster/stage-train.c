// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cluster/stage-run.h"
#include "system/signals.h"

static int on_step(void *ctx, const struct kmeans_step *s, struct err *e)
{
    struct kmeans_stage *j = ctx;
    (void)e;
    if (s->level == 2) {
        log_detail(j->log,
                   "coarse cluster %u, iteration %d: %zu clusters of %llu rows, objective %.6f, "
                   "imbalance %.3f, %zu split, %.2f s",
                   s->part, s->iteration, s->k, (unsigned long long)s->points, s->objective,
                   s->imbalance, s->split, s->seconds);
        j->level2_split += s->split;
        if (s->settled || s->iteration == (int)j->o->iterations) {
            j->level2_points += s->points;
            j->level2_sum += s->objective * (double)s->points;
            j->level2_parts++;
        }
        return 0;
    }
    progress_to(&j->bar, s->settled ? j->bar.total : (uint64_t)s->iteration);
    if (s->iteration == 1 && s->failed)
        log_warn(j->log, "%llu rows left out: zero or not finite", (unsigned long long)s->failed);
    log_note(j->log, "iteration %d: %llu rows, objective %.6f, imbalance %.3f, %zu split, %.2f s%s",
             s->iteration, (unsigned long long)s->points, s->objective, s->imbalance, s->split,
             s->seconds, s->settled ? ", settled" : "");
    return 0;
}

static size_t parts_done(const struct kmeans_state *s)
{
    size_t done = 0;
    for (size_t c = 0; s->level == 2 && c < s->k1; c++)
        done += s->done[c];
    return done;
}

// "after iteration 5 of 20", "with 12 of 100 coarse clusters done".
static const char *where(const struct kmeans_stage *j, const struct kmeans_state *s, char *to,
                         size_t room)
{
    size_t done = parts_done(s);
    if (s->level == 2)
        snprintf(to, room, "with %zu of %zu coarse clusters done", done, s->k1);
    else
        snprintf(to, room, "after iteration %d of %llu%s", s->iteration,
                 (unsigned long long)j->o->iterations, s->k1 ? " of the coarse level" : "");
    return to;
}

static void tell_stop(struct kmeans_stage *j, const struct kmeans_state *s)
{
    char at[80];
    if (j->o->checkpoint)
        log_note(j->log, "saved in %s %s: the same command goes on from there", j->o->checkpoint,
                 where(j, s, at, sizeof at));
    else
        log_note(j->log, "stopped %s; without --checkpoint FILE nothing is saved",
                 where(j, s, at, sizeof at));
}

// Level 1 counts iterations, level 2 the coarse clusters that are cut.
static void show_state(struct kmeans_stage *j, const struct kmeans_state *s)
{
    if (s->level == 2 && strcmp(j->bar.unit, "iterations") == 0) {
        progress_end(&j->bar);
        progress_start(&j->bar, j->log, s->k1, "coarse clusters");
    }
    progress_to(&j->bar, s->level == 2 ? parts_done(s) : (uint64_t)s->iteration);
}

// Saves at most a twentieth of the time, and always where a signal ends the training.
static int on_save(void *ctx, const struct kmeans_state *s, struct err *e)
{
    struct kmeans_stage *j = ctx;
    double now = log_seconds(j->log);
    bool stop = signals_stop_wanted();
    show_state(j, s);
    if (s->level == 2 && j->level2_parts)
        log_note(j->log, "%zu coarse clusters done here: objective %.6f, %zu split",
                 j->level2_parts, j->level2_points ? j->level2_sum / (double)j->level2_points : 0,
                 j->level2_split);
    if (j->o->checkpoint && j->comm->rank == 0 &&
        (stop || now - j->saved_at >= 20 * j->save_took)) {
        if (kmeans_state_save(s, &j->tag, j->o->checkpoint, e))
            return -1;
        j->own_checkpoint = true;
        j->saved_at = log_seconds(j->log);
        j->save_took = j->saved_at - now;
    }
    if (stop)
        tell_stop(j, s);
    return 0;
}

// A checkpoint belongs to these options, inputs and masks.
static int make_tag(struct kmeans_stage *j, const struct kmeans_points *p, const float *init,
                    struct err *e)
{
    size_t dim = p->source->dim;
    uint64_t words[] = {j->o->k,
                        dim,
                        (uint64_t)j->o->levels,
                        j->o->coarse,
                        j->o->coarse_points,
                        j->o->iterations,
                        j->o->seed,
                        j->o->normalize,
                        (uint64_t)j->o->engine,
                        j->o->max_points};
    struct digest *d = digest_new(e);
    if (!d)
        return -1;
    digest_add(d, words, sizeof words);
    if (init)
        digest_add(d, init, j->o->k * dim * sizeof *init);
    digest_hex(d, j->tag.options);
    digest_reset(d);
    digest_add(d, &p->n, sizeof p->n);
    int r = embedding_files_digest(&j->files, j->o->keep_dir, d, e);
    digest_hex(d, j->tag.rows);
    digest_free(d);
    return r;
}

static int load_checkpoint(struct kmeans_stage *j, struct kmeans_state *s, struct err *e)
{
    char at[80];
    int r = j->o->checkpoint ? kmeans_state_load(s, &j->tag, j->o->checkpoint, e) : 0;
    j->own_checkpoint = r == 1 && j->comm->rank == 0;
    if (r == 1)
        log_note(j->log, "continuing from %s: %s", j->o->checkpoint, where(j, s, at, sizeof at));
    if (r == 2)
        log_warn(j->log, "%s; starting anew", e->text);
    return r < 0 ? -1 : 0;
}

// All ranks go on from one state: a file system may show them two.
static int same_state(struct kmeans_stage *j, const struct kmeans_state *s, struct err *e)
{
    char hex[DIGEST_HEX];
    struct digest *d = digest_new(e);
    char *all = d ? mem_alloc((size_t)j->comm->size, DIGEST_HEX, e) : NULL;
    int words[] = {s->level, s->iteration}, r = all ? 0 : -1;
    if (d) {
        digest_add(d, words, sizeof words);
        if (s->coarse)
            digest_add(d, s->coarse, s->k1 * s->dim * sizeof *s->coarse);
        if (s->done)
            digest_add(d, s->done, s->k1);
        if (s->level == 1 && !s->k1)
            digest_add(d, s->centroids, s->k * s->dim * sizeof *s->centroids);
        digest_hex(d, hex);
        digest_free(d);
    }
    if (!r)
        r = comm_gather(j->comm, "states", hex, DIGEST_HEX, all, e);
    for (int i = 1; i < j->comm->size && !r; i++)
        if (strcmp(all, all + i * DIGEST_HEX))
            r = err_set(e, "%s is not the same for all ranks", j->o->checkpoint);
    free(all);
    return r;
}

// s: what a checkpoint has, the same on all ranks.
static int start(struct kmeans_stage *j, const struct kmeans_points *p, const float *init,
                 struct kmeans_state *s, struct err *e)
{
    int r = (j->o->checkpoint && make_tag(j, p, init, e)) || load_checkpoint(j, s, e) ? -1 : 0;
    if (comm_agree(j->comm, r, e))
        return -1;
    return j->o->checkpoint && j->comm->size > 1 ? same_state(j, s, e) : 0;
}

static int train_points(struct kmeans_stage *j, const struct kmeans_points *p, const float *init,
                        struct err *e)
{
    struct kmeans_state s = {0};
    struct kmeans_options o = {.k = j->o->k,
                               .iterations = (int)j->o->iterations,
                               .levels = j->o->levels + 1,
                               .coarse = j->o->coarse,
                               .coarse_points = j->o->coarse_points,
                               .seed = j->o->seed,
                               .normalize = j->o->normalize,
                               .init = init,
                               .engine = j->o->engine ? KMEANS_FAISS : KMEANS_EXACT,
                               .device = kmeans_stage_searcher(j),
                               .threads = (int)j->common->threads,
                               .mem = j->mem,
                               .comm = j->comm,
                               .step = on_step,
                               .save = on_save,
                               .ctx = j};
    uint64_t mine =
        4 * (j->files.set.rows + (uint64_t)(init ? j->o->k * p->source->dim : 0)); // row lists
    o.mem = j->mem > mine ? j->mem - mine : 0;
    progress_start(&j->bar, j->log, j->o->iterations, "iterations");
    int r = start(j, p, init, &s, e);
    if (!r && s.level == 1)
        progress_from(&j->bar, (uint64_t)s.iteration);
    r = r || kmeans_train(p, &o, &s, e) ? -1 : 0;
    progress_end(&j->bar);
    if (r) {
        kmeans_state_release(&s);
        return -1;
    }
    j->centroids = s.centroids;
    j->n_centroids = j->o->k;
    s.centroids = NULL;
    kmeans_state_release(&s);
    return 0;
}

// The rows to train on: those kept, then a sample of these.
static int choose_points(struct kmeans_stage *j, struct kmeans_points *p, struct err *e)
{
    uint32_t *kept = NULL, *sample = NULL;
    p->n = j->files.set.rows;
    if (j->o->keep_dir && !(kept = embedding_files_kept(&j->files, j->o->keep_dir, &p->n, e)))
        return -1;
    uint64_t of = p->n;
    if (j->o->max_points && j->o->max_points < of) {
        sample = kmeans_sample(j->o->max_points, of, j->o->seed, 0, e);
        if (!sample) {
            free(kept);
            return -1;
        }
        for (uint64_t i = 0; kept && i < j->o->max_points; i++)
            sample[i] = kept[sample[i]];
        p->n = j->o->max_points;
        free(kept);
        kept = NULL;
    }
    p->rows = sample ? sample : kept;
    log_note(j->log, "training on %llu of %llu rows of %zu values, %.1f a cluster",
             (unsigned long long)p->n, (unsigned long long)j->files.set.rows, j->files.set.dim,
             (double)p->n / (double)j->o->k);
    return 0;
}

int kmeans_stage_train(struct kmeans_stage *j, struct err *e)
{
    struct kmeans_points p = {.source = &j->files.source, .normalize = j->o->normalize};
    float *init = NULL;
    size_t n;
    char hex[DIGEST_HEX];
    if (strcmp(j->o->init, "random") != 0) {
        init = embedding_files_centroids(&j->files, j->o->init, &n, hex, e);
        if (!init)
            return -1;
        if (n != j->o->k) {
            free(init);
            return err_set(e, "%s has %zu centroids, not %llu", j->o->init, n,
                           (unsigned long long)j->o->k);
        }
    }
    int r = comm_agree(j->comm, choose_points(j, &p, e), e);
    if (!r)
        r = train_points(j, &p, init, e);
    free((void *)p.rows);
    free(init);
    int64_t same = r ? 0 : kmeans_duplicates(j->centroids, j->n_centroids, j->files.set.dim);
    if (same > 0)
        log_warn(j->log, "%lld centroids are the same as another", (long long)same);
    return r;
}
