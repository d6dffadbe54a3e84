// SPDX-License-Identifier: Apache-2.0
#include "cluster/stage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "system/io.h"
#include "system/lines.h"
#include "cluster/stage-run.h"
#include "base/mem.h"
#include "formats/npy-write.h"
#include "embeddings/stage.h"

// For labels against n centroids.
static int open_device(struct kmeans_stage *j, size_t n, struct err *e)
{
    struct search_device_need need = {
        .dim = j->files.set.dim, .right = n, .top = j->o->labels_dir ? j->o->top : 1};
    return embeddings_stage_search(&j->sim, &j->dev, &need, &j->mem, j->log, e);
}

static int write_centroids(struct kmeans_stage *j, struct err *e)
{
    struct npy_writer w;
    uint64_t dim = j->files.set.dim;
    digest_bytes(j->centroids, j->n_centroids * dim * sizeof *j->centroids, j->centroids_hex);
    j->centroids_name = j->common->output;
    if (j->comm->rank > 0)
        return 0; // rank 0 has the same
    if (npy_create(&w, j->common->output, NPY_F4, 1, &dim, j->n_centroids, e))
        return -1;
    if (npy_write_f32(&w, j->centroids, j->n_centroids, e)) {
        npy_abort(&w);
        return -1;
    }
    return embedding_files_commit_all(&j->files, j->common->output, &w, &j->origin, e);
}

// Before any input is read: what fails here would fail after hours of training.
static int check_outputs(struct kmeans_stage *j, struct err *e)
{
    const char *files[] = {j->o->assign ? NULL : j->common->output, j->o->checkpoint, j->o->ledger};
    if (io_check_outputs(files, sizeof files / sizeof *files, e))
        return -1;
    if (!j->o->assign && !io_is_stream(j->common->output) && sidecar_check(j->common->output, e))
        return -1;
    return j->o->labels_dir ? io_make_folder(j->o->labels_dir, &j->made_labels_dir, e) : 0;
}

static int open_inputs(struct kmeans_stage *j, struct err *e)
{
    const char *files[] = {j->o->assign ? NULL : j->common->output, j->o->checkpoint, j->o->ledger};
    const char *dirs[] = {j->o->labels_dir};
    return embeddings_stage_open(&j->files, j->common, j->o->files_from, files, 3, dirs, 1, j->log,
                                 e);
}

int kmeans_stage_take_centroids(struct kmeans_stage *j, struct err *e)
{
    j->centroids =
        embedding_files_centroids(&j->files, j->o->assign, &j->n_centroids, j->centroids_hex, e);
    j->centroids_name = j->o->assign;
    j->dim = j->files.set.dim;
    if (!j->centroids || sidecar_open(j->o->assign, j->n_centroids, &j->centroids_sidecar, e) < 0 ||
        kmeans_stage_label_memory(j, j->n_centroids, e))
        return -1;
    return open_device(j, j->n_centroids, e);
}

// --each, --resume: a list, of which each input is opened by itself.
static int run_each(struct kmeans_stage *j, struct err *e)
{
    struct lines more = {0};
    if (j->o->files_from && lines_read(&more, j->o->files_from, e))
        return -1;
    size_t n = j->common->n_operands + more.n;
    const char **paths = mem_alloc(n, sizeof *paths, e);
    int r = paths ? 0 : -1;
    for (size_t i = 0; i < n && !r; i++)
        paths[i] = i < j->common->n_operands ? j->common->operands[i]
                                             : more.line[i - j->common->n_operands];
    if (!r)
        r = embeddings_check_names(paths, n, e) || kmeans_stage_each(j, paths, n, e) ? -1 : 0;
    free(paths);
    lines_release(&more);
    return r;
}

// What is done by one rank only.
static int check_ranks(const struct kmeans_stage *j, struct err *e)
{
    if (j->comm->size == 1)
        return 0;
    if (!j->o->assign && j->o->engine)
        return err_set(e, "%d ranks: --engine faiss is for one", j->comm->size);
    if (j->o->each || j->o->resume || j->o->ledger ||
        (!j->o->assign && io_is_stream(j->common->output)))
        return err_set(e, "%d ranks go with none of --each, --resume, --ledger and -o -",
                       j->comm->size);
    return 0;
}

static int begin(struct kmeans_stage *j, struct err *e)
{
    int threads = (int)j->common->threads;
    if (check_ranks(j, e) || check_outputs(j, e))
        return -1;
    return embeddings_stage_begin(&j->dev, j->o->device, threads, &j->mem, j->o->mem_given, j->log,
                                  e);
}

static int open_all(struct kmeans_stage *j, struct err *e)
{
    if (open_inputs(j, e))
        return -1;
    if (j->o->assign)
        return kmeans_stage_take_centroids(j, e);
    return (j->o->labels_dir && kmeans_stage_label_memory(j, j->o->k, e)) ||
                   open_device(j, j->o->k, e)
               ? -1
               : 0;
}

static int run(struct kmeans_stage *j, struct err *e)
{
    struct comm *c = j->comm;
    if (comm_agree(c, begin(j, e), e))
        return -1;
    if (j->o->each || j->o->resume)
        return run_each(j, e);
    if (comm_agree(c, open_all(j, e), e))
        return -1;
    if (!j->o->assign && (kmeans_stage_train(j, e) || comm_agree(c, write_centroids(j, e), e)))
        return -1;
    if (j->o->labels_dir && kmeans_stage_labels(j, e))
        return -1;
    if (kmeans_stage_searcher(j))
        log_detail(j->log, "%s", search_device_counts(&j->sim));
    if (j->own_checkpoint && unlink(j->o->checkpoint) && errno != ENOENT) // it has done its work
        log_warn(j->log, "cannot remove '%s': %s", j->o->checkpoint, strerror(errno));
    return 0;
}

int kmeans_stage_check(const struct kmeans_stage_options *o, const struct cli_common *common,
                       struct err *e)
{
    if (!o->assign && !o->k)
        return err_set(e, "-k is missing: how many clusters?");
    if (o->assign && (o->k || o->checkpoint || o->keep_dir || o->max_points || o->levels))
        return err_set(e, "--assign trains nothing: leave out the options of the training");
    if (o->assign && !o->labels_dir)
        return err_set(e, "--assign needs --labels-dir");
    if ((o->each || o->resume) && (!o->assign || o->ledger))
        return err_set(e, "%s goes with --assign, and without --ledger",
                       o->each ? "--each" : "--resume");
    if (o->levels && (o->engine || strcmp(o->init, "random") != 0))
        return err_set(e, "--levels 2 goes with neither --init FILE nor --engine faiss");
    if (o->engine && !kmeans_has_faiss())
        return err_set(e, "--engine faiss: this program was built without FAISS (make FAISS=1, "
                          "with libfaiss-dev)");
    if (o->engine && strcmp(o->device, "cpu"))
        return err_set(e, "--engine faiss runs on the cpu: no --device %s", o->device);
    if (!common->n_operands && !o->files_from)
        return err_set(e, "missing operand: EMB.npy...");
    if (!o->assign && strcmp(common->output, "-") == 0 && isatty(STDOUT_FILENO))
        return err_set(e, "centroids are not written to a terminal; use -o FILE or a pipe");
    return 0;
}

int kmeans_stage_run(const struct kmeans_stage_options *o, const struct cli_common *common,
                     int argc, char *const *argv, struct comm *c, struct log *l, uint64_t *rows,
                     struct err *e)
{
    struct kmeans_stage *j = mem_alloc(1, sizeof *j, e);
    if (!j)
        return -1;
    j->o = o;
    j->common = common;
    j->log = l;
    j->comm = c;
    j->mem = o->mem;
    j->origin = (struct embeddings_origin){
        .tool = "kmeans-cluster", .argc = argc, .argv = argv, .seed = o->seed};
    int r = run(j, e);
    *rows = o->each || o->resume ? j->each_rows : j->files.set.rows;
    search_device_release(&j->sim);
    dev_close(&j->dev);
    embedding_files_close(&j->files);
    sidecar_release(&j->centroids_sidecar);
    free(j->centroids);
    if (r && j->made_labels_dir)
        rmdir(o->labels_dir); // where nothing is in it
    free(j);
    return r;
}
