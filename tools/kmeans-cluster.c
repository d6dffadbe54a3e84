// SPDX-License-Identifier: Apache-2.0
// kmeans-cluster: spherical k-means over the embeddings of many shards, and the label of each row.
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "assign.h"
#include "cli.h"
#include "digest.h"
#include "kmeans.h"
#include "io.h"
#include "ledger.h"
#include "log.h"
#include "mem.h"
#include "memory-budget.h"
#include "sig.h"
#include "simblock-files.h"
#include "simblock.h"
#include "simdev.h"

enum { CHUNK = 16384 };

static uint64_t k, top = 1, iterations = 20, seed = 1, coarse, coarse_points, max_points;
static uint64_t mem = (uint64_t)4 << 30;
static int levels, engine;
static const char *labels_dir, *init_from = "random", *checkpoint, *assign_to, *keep_dir;
static const char *files_from, *ledger, *device = "cpu";
static bool normalize = true, mem_given;

static const struct cli_option options[] = {
    {.name = "clusters",
     .letter = 'k',
     .type = CLI_UINT,
     .to = &k,
     .arg = "K",
     .max = INT32_MAX,
     .no_default = true,
     .help = "how many clusters"},
    {.name = "iterations",
     .type = CLI_UINT,
     .to = &iterations,
     .arg = "N",
     .min = 1,
     .max = 65535,
     .help = "of Lloyd's algorithm"},
    {.name = "seed", .type = CLI_UINT, .to = &seed, .arg = "S", .help = "of all random choices"},
    {.name = "init",
     .type = CLI_TEXT,
     .to = &init_from,
     .arg = "random|FILE",
     .help = "first centroids: random rows, or those of FILE"},
    {.name = "levels",
     .type = CLI_CHOICE,
     .to = &levels,
     .choices = "1|2",
     .help = "2: coarse clusters first, then within each"},
    {.name = "coarse",
     .type = CLI_UINT,
     .to = &coarse,
     .arg = "K1",
     .max = INT32_MAX,
     .no_default = true,
     .help = "coarse clusters [the root of K]"},
    {.name = "coarse-points",
     .type = CLI_UINT,
     .to = &coarse_points,
     .arg = "N",
     .no_default = true,
     .help = "rows they are trained on [2048 a cluster]"},
    {.name = "max-points",
     .type = CLI_UINT,
     .to = &max_points,
     .arg = "N",
     .no_default = true,
     .help = "train on N rows at most [all]"},
    {.name = "keep-dir",
     .type = CLI_TEXT,
     .to = &keep_dir,
     .arg = "DIR",
     .help = "train on the rows that the masks in DIR keep"},
    {.name = "checkpoint",
     .type = CLI_TEXT,
     .to = &checkpoint,
     .arg = "FILE",
     .help = "save there, and continue from there"},
    {.name = "assign",
     .type = CLI_TEXT,
     .to = &assign_to,
     .arg = "CENTROIDS",
     .help = "train nothing, label against these"},
    {.name = "labels-dir",
     .type = CLI_TEXT,
     .to = &labels_dir,
     .arg = "DIR",
     .help = "write a label file for each input"},
    {.name = "top",
     .type = CLI_UINT,
     .to = &top,
     .arg = "N",
     .min = 1,
     .max = 65536,
     .help = "the N nearest centroids of each row"},
    {.name = "normalize", .type = CLI_FLAG, .to = &normalize, .help = "make rows unit rows"},
    {.name = "engine",
     .type = CLI_CHOICE,
     .to = &engine,
     .choices = "exact|faiss",
     .help = "who trains; faiss needs all rows in memory"},
    {.name = "device", .type = CLI_TEXT, .to = &device, .arg = "NAME", .help = "cpu or cuda[:N]"},
    {.name = "mem",
     .type = CLI_SIZE,
     .to = &mem,
     .arg = "SIZE",
     .given = &mem_given,
     .help = "memory to stay under"},
    {.name = "files-from",
     .type = CLI_TEXT,
     .to = &files_from,
     .arg = "FILE",
     .help = "more inputs, one a line"},
    {.name = "ledger",
     .type = CLI_TEXT,
     .to = &ledger,
     .arg = "FILE",
     .help = "add a line for each input to this ledger"},
};

static const struct cli cli = {
    .tool = "kmeans-cluster",
    .summary = "finds clusters of embeddings, and labels each row with its nearest",
    .operands = "EMB.npy...",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .min_operands = 0,
    .max_operands = SIZE_MAX,
};

struct job {
    struct log log;
    struct cli_common common;
    struct sim_files files;
    struct sim_origin origin;
    struct dev dev; // with --device
    struct sim_dev sim;
    float *centroids; // k x dim
    size_t n_centroids;
    char centroids_hex[DIGEST_HEX];
    const char *centroids_name;
    struct kmeans_tag tag;
    bool own_checkpoint; // FILE is this run's
    double saved_at, save_took;
    uint64_t trained_on, points, level2_points;
    double level2_sum;
    size_t level2_parts, level2_split;
    // of the labels
    bool made_labels_dir;
    uint64_t *counts;
    uint64_t labelled, zero, not_finite, rescaled;
    double total;
};

// ---- the device

// NULL: the processor searches.
static struct sim_dev *searcher(struct job *j)
{
    return j->dev.op ? &j->sim : NULL;
}

// For labels against n centroids. What it takes of this machine's memory goes off `mem`.
static int open_device(struct job *j, size_t n, struct err *e)
{
    struct sim_dev_need need = {.dim = j->files.set.dim, .right = n, .top = labels_dir ? top : 1};
    if (!j->dev.op)
        return 0;
    if (sim_dev_init_within(&j->sim, &j->dev, &need, &mem, e))
        return -1;
    log_note(&j->log, "%s", sim_dev_memory(&j->sim));
    return 0;
}

// ---- training

static int on_step(void *ctx, const struct kmeans_step *s, struct err *e)
{
    struct job *j = ctx;
    (void)e;
    if (s->level == 2) {
        log_detail(&j->log,
                   "coarse cluster %u, iteration %d: %zu clusters of %llu rows, objective %.6f, "
                   "imbalance %.3f, %zu split, %.2f s",
                   s->part, s->iteration, s->k, (unsigned long long)s->points, s->objective,
                   s->imbalance, s->split, s->seconds);
        j->level2_split += s->split;
        if (s->settled || s->iteration == (int)iterations) {
            j->level2_points += s->points;
            j->level2_sum += s->objective * (double)s->points;
            j->level2_parts++;
        }
        return 0;
    }
    if (s->iteration == 1 && s->failed)
        log_warn(&j->log, "%llu rows left out: zero or not finite", (unsigned long long)s->failed);
    log_note(&j->log,
             "iteration %d: %llu rows, objective %.6f, imbalance %.3f, %zu split, %.2f s%s",
             s->iteration, (unsigned long long)s->points, s->objective, s->imbalance, s->split,
             s->seconds, s->settled ? ", settled" : "");
    return 0;
}

// "after iteration 5 of 20", "with 12 of 100 coarse clusters done".
static const char *where(const struct kmeans_state *s, char *to, size_t room)
{
    size_t done = 0;
    for (size_t c = 0; s->level == 2 && c < s->k1; c++)
        done += s->done[c];
    if (s->level == 2)
        snprintf(to, room, "with %zu of %zu coarse clusters done", done, s->k1);
    else
        snprintf(to, room, "after iteration %d of %llu%s", s->iteration,
                 (unsigned long long)iterations, s->k1 ? " of the coarse level" : "");
    return to;
}

static void tell_stop(struct job *j, const struct kmeans_state *s)
{
    char at[80];
    if (checkpoint)
        log_note(&j->log, "saved in %s %s: the same command goes on from there", checkpoint,
                 where(s, at, sizeof at));
    else
        log_note(&j->log, "stopped %s; without --checkpoint FILE nothing is saved",
                 where(s, at, sizeof at));
}

// Saves at most a twentieth of the time, and always where a signal ends the training.
static int on_save(void *ctx, const struct kmeans_state *s, struct err *e)
{
    struct job *j = ctx;
    double now = log_seconds(&j->log);
    bool stop = sig_stop_wanted();
    if (s->level == 2 && j->level2_parts)
        log_note(&j->log, "%zu coarse clusters done here: objective %.6f, %zu split",
                 j->level2_parts, j->level2_points ? j->level2_sum / (double)j->level2_points : 0,
                 j->level2_split);
    if (checkpoint && (stop || now - j->saved_at >= 20 * j->save_took)) {
        if (kmeans_state_save(s, &j->tag, checkpoint, e))
            return -1;
        j->own_checkpoint = true;
        j->saved_at = log_seconds(&j->log);
        j->save_took = j->saved_at - now;
    }
    if (stop)
        tell_stop(j, s);
    return 0;
}

// A checkpoint belongs to these options, inputs and masks.
static int make_tag(struct job *j, const struct kmeans_points *p, const float *init, struct err *e)
{
    size_t dim = p->source->dim;
    uint64_t words[] = {k,          dim,  (uint64_t)levels, coarse,           coarse_points,
                        iterations, seed, normalize,        (uint64_t)engine, max_points};
    struct digest *d = digest_new(e);
    if (!d)
        return -1;
    digest_add(d, words, sizeof words);
    if (init)
        digest_add(d, init, k * dim * sizeof *init);
    digest_hex(d, j->tag.options);
    digest_reset(d);
    digest_add(d, &p->n, sizeof p->n);
    int r = sim_files_digest(&j->files, keep_dir, d, e);
    digest_hex(d, j->tag.rows);
    digest_free(d);
    return r;
}

static int load_checkpoint(struct job *j, struct kmeans_state *s, struct err *e)
{
    char at[80];
    int r = checkpoint ? kmeans_state_load(s, &j->tag, checkpoint, e) : 0;
    j->own_checkpoint = r == 1;
    if (r == 1)
        log_note(&j->log, "continuing from %s: %s", checkpoint, where(s, at, sizeof at));
    if (r == 2)
        log_warn(&j->log, "%s; starting anew", e->text);
    return r < 0 ? -1 : 0;
}

static int train_points(struct job *j, const struct kmeans_points *p, const float *init,
                        struct err *e)
{
    struct kmeans_state s = {0};
    struct kmeans_options o = {.k = k,
                               .iterations = (int)iterations,
                               .levels = levels + 1,
                               .coarse = coarse,
                               .coarse_points = coarse_points,
                               .seed = seed,
                               .normalize = normalize,
                               .init = init,
                               .engine = engine ? KMEANS_FAISS : KMEANS_EXACT,
                               .device = searcher(j),
                               .threads = (int)j->common.threads,
                               .mem = mem,
                               .step = on_step,
                               .save = on_save,
                               .ctx = j};
    uint64_t mine =
        4 * (j->files.set.rows + (uint64_t)(init ? k * p->source->dim : 0)); // row lists
    o.mem = mem > mine ? mem - mine : 0;
    if ((checkpoint && make_tag(j, p, init, e)) || load_checkpoint(j, &s, e) ||
        kmeans_train(p, &o, &s, e)) {
        kmeans_state_release(&s);
        return -1;
    }
    j->centroids = s.centroids;
    j->n_centroids = k;
    s.centroids = NULL;
    kmeans_state_release(&s);
    return 0;
}

// The rows to train on: those kept, then a sample of these.
static int choose_points(struct job *j, struct kmeans_points *p, struct err *e)
{
    uint32_t *kept = NULL, *sample = NULL;
    p->n = j->files.set.rows;
    if (keep_dir && !(kept = sim_files_kept(&j->files, keep_dir, &p->n, e)))
        return -1;
    uint64_t of = p->n;
    if (max_points && max_points < of) {
        sample = kmeans_sample(max_points, of, seed, 0, e);
        if (!sample) {
            free(kept);
            return -1;
        }
        for (uint64_t i = 0; kept && i < max_points; i++)
            sample[i] = kept[sample[i]];
        p->n = max_points;
        free(kept);
        kept = NULL;
    }
    p->rows = sample ? sample : kept;
    log_note(&j->log, "training on %llu of %llu rows of %zu values, %.1f a cluster",
             (unsigned long long)p->n, (unsigned long long)j->files.set.rows, j->files.set.dim,
             (double)p->n / (double)k);
    return 0;
}

static int train(struct job *j, struct err *e)
{
    struct kmeans_points p = {.source = &j->files.source, .normalize = normalize};
    float *init = NULL;
    size_t n;
    char hex[DIGEST_HEX];
    if (strcmp(init_from, "random") != 0) {
        init = sim_files_centroids(&j->files, init_from, &n, hex, e);
        if (!init)
            return -1;
        if (n != k) {
            free(init);
            return err_set(e, "%s has %zu centroids, not %llu", init_from, n,
                           (unsigned long long)k);
        }
    }
    int r = choose_points(j, &p, e);
    j->trained_on = p.n;
    if (!r)
        r = train_points(j, &p, init, e);
    free((void *)p.rows);
    free(init);
    int64_t same = r ? 0 : kmeans_duplicates(j->centroids, j->n_centroids, j->files.set.dim);
    if (same > 0)
        log_warn(&j->log, "%lld centroids are the same as another", (long long)same);
    return r;
}

static int write_centroids(struct job *j, struct err *e)
{
    struct npy_writer w;
    uint64_t dim = j->files.set.dim;
    if (npy_create(&w, j->common.output, NPY_F4, 1, &dim, j->n_centroids, e))
        return -1;
    if (npy_write_f32(&w, j->centroids, j->n_centroids, e)) {
        npy_abort(&w);
        return -1;
    }
    npy_writer_digest(&w, j->centroids_hex);
    j->centroids_name = j->common.output;
    return sim_files_commit_all(&j->files, j->common.output, &w, &j->origin, e);
}

// ---- labels

struct labels {
    struct job *j;
    struct assign assign;
    struct kmeans_ahead ahead;
    int32_t *labels;
    double *sims;
};

static int label_chunk(struct labels *l, uint64_t first, size_t n, struct ledger_row *line,
                       struct err *e)
{
    struct job *j = l->j;
    const float *rows;
    const uint8_t *state;
    int threads = (int)j->common.threads;
    if (kmeans_ahead_read(&l->ahead, first, n, sim_files_run(&j->files, first + n, CHUNK), &rows,
                          &state, e) ||
        assign_rows(&l->assign, threads, rows, n, state, top, l->labels, l->sims, e))
        return -1;
    for (size_t i = 0; i < n; i++) {
        j->rescaled += state[i] == SIM_RESCALED;
        line->in++;
        if (l->labels[i * top] < 0) {
            j->zero += state[i] == SIM_ZERO;
            j->not_finite += state[i] != SIM_ZERO;
            if (ledger_drop(line, state[i] == SIM_ZERO ? "zero-row" : "not-finite", 1, e))
                return -1;
            continue;
        }
        line->out++;
        j->labelled++;
        j->counts[l->labels[i * top]]++;
        j->total += l->sims[i * top];
    }
    return 0;
}

static int label_part(struct labels *l, size_t part, struct err *e)
{
    struct job *j = l->j;
    const struct npy_part *p = &j->files.set.parts[part];
    struct npy_writer w;
    struct ledger_row line = {0};
    char *path = sim_files_path(&j->files, part, labels_dir, e);
    if (!path || ledger_row_init(&line, "cluster", strrchr(path, '/') + 1, e) ||
        npy_create(&w, path, NPY_I4, top > 1, &top, p->rows, e)) {
        ledger_row_release(&line);
        free(path);
        return -1;
    }
    int r = 0;
    for (uint64_t at = 0, n; at < p->rows && !r; at += n) {
        n = sim_files_run(&j->files, p->first + at, CHUNK);
        r = label_chunk(l, p->first + at, n, &line, e) || npy_write(&w, l->labels, n, e);
        if (!r && sig_stop_wanted())
            r = err_set(e, "stopped");
    }
    if (r)
        npy_abort(&w);
    else
        r = sim_files_commit(&j->files, part, path, &w, &j->origin, e);
    if (!r && ledger)
        r = ledger_append(ledger, &line, e);
    ledger_row_release(&line);
    free(path);
    return r ? -1 : 0;
}

static int check_label_memory(const struct job *j, size_t centroids, struct err *e)
{
    double dim = (double)j->files.set.dim, n = (double)centroids;
    double need =
        n * (dim * 4 + 8) + (double)assign_bytes(centroids, j->files.set.dim) +
        CHUNK * (4 * dim + 1 + 12.0 * (double)top) + 40e6 +
        (double)j->common.threads * (double)assign_thread_bytes(j->files.set.dim, (size_t)top);
    if (need > (double)mem)
        return err_set(e, "labels against %zu centroids need at least %.0f MiB: see --mem",
                       centroids, ceil(need / 1048576));
    return 0;
}

static void tell_labels(struct job *j)
{
    uint64_t empty = 0;
    double sum = 0, n = (double)j->labelled;
    for (size_t c = 0; c < j->n_centroids; c++) {
        empty += j->counts[c] == 0;
        sum += (double)j->counts[c] * (double)j->counts[c];
    }
    log_note(&j->log,
             "%llu rows labelled, %llu without label (%llu zero, %llu not finite), %llu not unit; "
             "mean cosine %.6f, %llu of %zu clusters empty, imbalance %.3f",
             (unsigned long long)j->labelled, (unsigned long long)(j->zero + j->not_finite),
             (unsigned long long)j->zero, (unsigned long long)j->not_finite,
             (unsigned long long)j->rescaled, n > 0 ? j->total / n : 0, (unsigned long long)empty,
             j->n_centroids, n > 0 ? (double)j->n_centroids * sum / (n * n) : 1);
}

static int label_all(struct job *j, struct err *e)
{
    struct labels l = {.j = j};
    struct progress bar;
    struct kmeans_points p = {
        .source = &j->files.source, .n = j->files.set.rows, .normalize = normalize};
    int threads = (int)j->common.threads;
    l.labels = mem_alloc(CHUNK * top, sizeof *l.labels, e);
    l.sims = l.labels ? mem_alloc(CHUNK * top, sizeof *l.sims, e) : NULL;
    j->counts = l.sims ? mem_alloc(j->n_centroids, sizeof *j->counts, e) : NULL;
    int r = !j->counts || kmeans_ahead_init(&l.ahead, &p, CHUNK, threads, searcher(j), e) ||
            assign_init_on(&l.assign, searcher(j), j->centroids, j->n_centroids, j->files.set.dim,
                           threads, e);
    j->origin.with = j->centroids_name;
    j->origin.with_hex = j->centroids_hex;
    progress_start(&bar, &j->log, j->files.set.rows, "rows");
    for (size_t i = 0; i < j->files.set.n_parts && !r; i++) {
        r = label_part(&l, i, e);
        progress_to(&bar, j->files.set.parts[i].first + j->files.set.parts[i].rows);
    }
    progress_end(&bar);
    if (!r)
        tell_labels(j);
    assign_release(&l.assign);
    kmeans_ahead_release(&l.ahead);
    free(l.labels);
    free(l.sims);
    free(j->counts);
    return r ? -1 : 0;
}

// ---- the run

static void fit_memory(struct job *j)
{
    char said[160];
    bool fits = memory_budget("", &mem, mem_given, said, sizeof said);
    if (*said)
        fits ? log_note(&j->log, "%s", said) : log_warn(&j->log, "%s", said);
}

// Before any input is read: what fails here would fail after hours of training.
static int check_outputs(struct job *j, struct err *e)
{
    const char *files[] = {assign_to ? NULL : j->common.output, checkpoint, ledger};
    if (io_check_outputs(files, sizeof files / sizeof *files, e))
        return -1;
    if (!assign_to && !io_is_stream(j->common.output) && sidecar_check(j->common.output, e))
        return -1;
    return labels_dir ? io_make_folder(labels_dir, &j->made_labels_dir, e) : 0;
}

static int open_inputs(struct job *j, struct err *e)
{
    const char *files[] = {assign_to ? NULL : j->common.output};
    const char *dirs[] = {labels_dir};
    if (sim_files_open_listed(&j->files, j->common.operands, j->common.n_operands, files_from, e) ||
        sim_files_check_outputs(&j->files, files, 1, dirs, 1, e))
        return -1;
    if (j->files.n_bare)
        log_note(&j->log, "%zu of %zu inputs have no sidecar: rows are matched by number alone",
                 j->files.n_bare, j->files.set.n_parts);
    return 0;
}

static int run(struct job *j, struct err *e)
{
    int threads = (int)j->common.threads;
    if (check_outputs(j, e))
        return -1;
    fit_memory(j);
    if ((strcmp(device, "cpu") && dev_open(&j->dev, device, DEV_BF16, threads, false, e)) ||
        open_inputs(j, e))
        return -1;
    if (assign_to) {
        j->centroids =
            sim_files_centroids(&j->files, assign_to, &j->n_centroids, j->centroids_hex, e);
        j->centroids_name = assign_to;
        if (!j->centroids || check_label_memory(j, j->n_centroids, e) ||
            open_device(j, j->n_centroids, e))
            return -1;
    } else if ((labels_dir && check_label_memory(j, k, e)) || open_device(j, k, e) || train(j, e) ||
               write_centroids(j, e)) {
        return -1;
    }
    if (labels_dir && label_all(j, e))
        return -1;
    if (searcher(j))
        log_detail(&j->log, "%s", sim_dev_counts(&j->sim));
    if (j->own_checkpoint && unlink(checkpoint) && errno != ENOENT) // it has done its work
        log_warn(&j->log, "cannot remove '%s': %s", checkpoint, strerror(errno));
    return 0;
}

static int check_options(const struct cli_common *common, struct err *e)
{
    if (!assign_to && !k)
        return err_set(e, "-k is missing: how many clusters?");
    if (assign_to && (k || checkpoint || keep_dir || max_points || levels))
        return err_set(e, "--assign trains nothing: leave out the options of the training");
    if (assign_to && !labels_dir)
        return err_set(e, "--assign needs --labels-dir");
    if (levels && (engine || strcmp(init_from, "random") != 0))
        return err_set(e, "--levels 2 goes with neither --init FILE nor --engine faiss");
    if (engine && strcmp(device, "cpu"))
        return err_set(e, "--engine faiss runs on the cpu: no --device %s", device);
    if (!common->n_operands && !files_from)
        return err_set(e, "missing operand: %s", cli.operands);
    if (!assign_to && strcmp(common->output, "-") == 0 && isatty(STDOUT_FILENO))
        return err_set(e, "centroids are not written to a terminal; use -o FILE or a pipe");
    return 0;
}

int main(int argc, char **argv)
{
    struct job j = {.common = CLI_COMMON_INIT};
    struct err e;
    char **args = mem_alloc((size_t)argc + 1, sizeof *args, &e);
    int status = CLI_FAILED;
    if (args)
        memcpy(args, argv, (size_t)argc * sizeof *args); // cli_start reorders them
    if (!args)
        fprintf(stderr, "%s: %s\n", cli.tool, e.text);
    if (!args || !cli_start(&cli, &j.common, argc, argv, &status)) {
        free(args);
        return status;
    }
    log_init(&j.log, stderr, &cli, &j.common);
    j.origin = (struct sim_origin){.tool = cli.tool, .argc = argc, .argv = args, .seed = seed};
    if (check_options(&j.common, &e)) {
        log_error(&j.log, "%s; try --help", e.text);
        status = CLI_WRONG_USAGE;
    } else {
        sig_catch_stop();
        status = run(&j, &e) ? CLI_FAILED : CLI_OK;
        if (status)
            log_error(&j.log, "%s", e.text);
        else {
            char counts[64];
            snprintf(counts, sizeof counts, "%llu rows", (unsigned long long)j.files.set.rows);
            log_footer(&j.log, j.files.set.rows, counts);
        }
    }
    sim_dev_release(&j.sim);
    dev_close(&j.dev);
    sim_files_close(&j.files);
    free(j.centroids);
    free(args);
    cli_release(&cli);
    if (status && j.made_labels_dir)
        rmdir(labels_dir); // where nothing is in it
    if (status == CLI_FAILED && sig_stop_signal())
        sig_die_of_stop();
    return status;
}
