// SPDX-License-Identifier: Apache-2.0
#include "balance/stage.h"
#include "balance/keys.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "balance/report.h"
#include "balance/stage-run.h"
#include "system/io.h"
#include "base/mem.h"
#include "system/signals.h"
#include "embeddings/stage.h"

// NULL: the processor searches.
static struct search_device *searcher(struct balance_stage *j)
{
    return j->dev.op ? &j->sim : NULL;
}

static int known_cells(void *ctx, uint64_t first, uint64_t count, size_t top, int32_t *labels,
                       struct err *e)
{
    struct balance_stage *j = ctx;
    return embedding_files_labels(&j->files, j->o->labels_dir, first, count, top, labels, e);
}

static bool on_progress(void *ctx, double done, double total)
{
    struct balance_stage *j = ctx;
    j->bar.total = (uint64_t)(total / 1e6) + 1;
    progress_to(&j->bar, (uint64_t)(done / 1e6));
    return !signals_stop_wanted();
}

// For the cells, and for pairs of as many rows as make the copies small against the products.
static int open_device(struct balance_stage *j, struct err *e)
{
    enum { AT_ONCE = 1 << 20 };
    uint64_t rows = j->files.set.rows < AT_ONCE ? j->files.set.rows : AT_ONCE;
    struct search_device_need need = {.dim = j->files.set.dim,
                                      .right = j->n_cells > rows ? j->n_cells : rows,
                                      .top = j->o->cells && !j->o->labels_dir ? j->o->probe + 1 : 0,
                                      .pairs = true};
    if (need.top > j->n_cells)
        need.top = j->n_cells; // as many as there are
    return embeddings_stage_search(&j->sim, &j->dev, &need, &j->mem, j->log, e);
}

static uint64_t may_bytes(const struct balance_stage *j)
{
    uint64_t n = j->files.set.rows;
    uint64_t bytes = (j->may ? n : 0) + balance_select_bytes(&j->select, n) +
                     n * j->o->hard * sizeof *j->result.hard;
    return bytes < j->mem ? bytes : 0;
}

// The shares at smaller distances are told where the edges that they need take little of the
// memory; they change nothing else.
static bool tells_shares(const struct balance_stage *j, const struct balance_options *o)
{
    enum { EDGES = 64, WAITING = 64 << 20 }; // bytes a row, and in all
    return !(o->curve_to > 0) && o->rule == BALANCE_UNION && !j->parts && !o->n_taken &&
           j->comm->size == 1 && EDGES * j->files.set.rows + WAITING <= j->mem / 4;
}

static int set_options(struct balance_stage *j, struct balance_options *o, struct err *e)
{
    uint64_t partners = j->files.set.rows * j->o->hard * sizeof *j->result.hard;
    if (partners >= j->mem)
        return err_set(e, "--hard %llu needs %llu MiB: see --mem", (unsigned long long)j->o->hard,
                       (unsigned long long)(partners >> 20));
    if (open_device(j, e))
        return -1;
    *o = (struct balance_options){.rule = j->o->rule ? BALANCE_SEMDEDUP : BALANCE_UNION,
                                  .survivor = (enum balance_survivor)j->survivor,
                                  .distance = j->o->distance,
                                  .centroids = j->centroids,
                                  .n_cells = j->n_cells,
                                  .probe = j->o->probe,
                                  .remove = j->o->share,
                                  .may_survive = j->may,
                                  .left_out = j->selected.why,
                                  .score = j->selected.score,
                                  .hard = j->o->hard,
                                  .texts = j->o->hard ? &j->texts.source : NULL,
                                  .cap = j->o->cap,
                                  .cap_share = j->o->cap_share,
                                  .seed = j->o->seed,
                                  .mem = j->mem - may_bytes(j),
                                  .threads = (int)j->common->threads,
                                  .device = searcher(j),
                                  .comm = j->comm,
                                  .part = j->part,
                                  .parts = j->parts,
                                  .n_taken = j->o->merge.n,
                                  .found = j->parts ? balance_stage_found : NULL,
                                  .take = balance_stage_take,
                                  .progress = on_progress,
                                  .ctx = j};
    if (j->o->labels_dir)
        o->cells = known_cells;
    if (j->o->euclidean_given)
        o->distance =
            j->o->euclidean * j->o->euclidean / 2; // of unit rows: |x - y|^2 = 2 (1 - x.y)
    o->curve_to = j->o->curve_to;
    if (j->o->curve && !(o->curve_to > 0))
        o->curve_to = fmax(0.2, o->distance);
    if (tells_shares(j, o))
        o->curve_to = o->distance;
    if ((j->parts || o->n_taken) && balance_stage_tag(j, o, e))
        return -1;
    return o->n_taken ? balance_stage_check_parts(j, e) : 0;
}

static int balance(struct balance_stage *j, const struct balance_options *o, struct err *e)
{
    progress_start(&j->bar, j->log, 0, "million pairs");
    int r = balance_run(&j->files.source, o, &j->result, e);
    if (!r)
        progress_to(&j->bar, j->bar.total);
    progress_end(&j->bar);
    if (!r && searcher(j))
        log_detail(j->log, "%s", search_device_counts(&j->sim));
    return r;
}

// Before any input is read: what fails here would fail after hours of comparing.
static int check_outputs(struct balance_stage *j, struct err *e)
{
    const char *files[] = {j->common->output, j->o->curve, j->o->pairs, j->o->ledger};
    if (io_check_outputs(files, sizeof files / sizeof *files, e))
        return -1;
    return (j->o->keep_dir && io_make_folder(j->o->keep_dir, &j->made_keep_dir, e)) ||
                   (j->o->groups_dir && io_make_folder(j->o->groups_dir, &j->made_groups_dir, e)) ||
                   (j->o->hard_dir && io_make_folder(j->o->hard_dir, &j->made_hard_dir, e))
               ? -1
               : 0;
}

// No output may replace one of the texts.
static int check_apart(struct balance_stage *j, const struct embedding_files *texts, struct err *e)
{
    const char *files[] = {j->common->output, j->o->curve, j->o->pairs, j->o->ledger};
    const char *dirs[] = {j->o->keep_dir, j->o->groups_dir, j->o->hard_dir};
    return embedding_files_check_outputs(texts, files, 4, dirs, 3, e);
}

static int open_inputs(struct balance_stage *j, struct err *e)
{
    const char *files[] = {j->common->output, j->o->curve, j->o->pairs, j->o->ledger};
    const char *dirs[] = {j->o->keep_dir, j->o->groups_dir, j->o->hard_dir};
    return embeddings_stage_open(&j->files, j->common, j->o->files_from, files, 4, dirs, 3, j->log,
                                 e);
}

static int check_ranks(const struct balance_stage *j, struct err *e)
{
    if (j->comm->size == 1)
        return 0;
    if (!j->o->cells || j->o->part || j->o->merge.n || io_is_stream(j->common->output))
        return err_set(e, "%d ranks need --cells and -o FILE, and no --part or --merge",
                       j->comm->size);
    return 0;
}

static int read_cells(struct balance_stage *j, struct err *e)
{
    size_t top;
    if (!j->o->cells)
        return 0;
    j->centroids = embedding_files_centroids(&j->files, j->o->cells, &j->n_cells, j->cells_hex, e);
    if (!j->centroids)
        return -1;
    top = j->o->probe < j->n_cells ? j->o->probe + 1 : j->n_cells;
    return j->o->labels_dir ? embedding_files_check_labels(&j->files, j->o->labels_dir, top,
                                                           j->cells_hex, j->o->cells, e)
                            : 0;
}

// Which rows take part.
static int select_rows(struct balance_stage *j, struct err *e)
{
    const struct balance_stage_options *o = j->o;
    j->select = (struct balance_select){
        .text_dir = o->text_dir,
        .min_score = o->min_score_given ? o->min_score : -2,
        .max_score = o->max_score_given ? o->max_score : 2,
        .keep_share = o->keep_score_given ? o->keep_score : -1,
        .targets = o->targets,
        .min_similarity = o->min_similarity,
        .against = o->against,
        .against_distance = o->against_distance_given ? o->against_distance : o->distance,
        .threads = (int)j->common->threads,
        .comm = j->comm,
    };
    if (!balance_selects(&j->select))
        return 0;
    if (balance_select(&j->files, &j->select, &j->selected, e))
        return -1;
    return o->text_dir && (embedding_files_open_texts(&j->texts, &j->files, o->text_dir, e) ||
                           check_apart(j, &j->texts, e))
               ? -1
               : 0;
}

// Everything before rows are read.
static int begin(struct balance_stage *j, struct err *e)
{
    int threads = (int)j->common->threads;
    if (check_ranks(j, e) || check_outputs(j, e))
        return -1;
    if (embeddings_stage_begin(&j->dev, j->o->device, threads, &j->mem, j->o->mem_given, j->log,
                               e) ||
        open_inputs(j, e) ||
        (j->o->index_dir && balance_keys_check(j->o->index_dir, &j->files, e)) || read_cells(j, e))
        return -1;
    uint64_t listing = balance_report_bytes(j->o->biggest, BALANCE_MEMBERS, j->files.set.rows);
    if (listing > j->mem)
        return err_set(e, "--list %llu may need %llu MiB: see --mem",
                       (unsigned long long)j->o->biggest, (unsigned long long)(listing >> 20));
    if (j->o->may_survive &&
        !(j->may = embedding_files_may(&j->files, j->o->may_survive, &j->barred, e)))
        return -1;
    return 0;
}

// Rank 0 has the result.
static int finish(struct balance_stage *j, struct err *e)
{
    if (j->comm->rank > 0)
        return 0;
    balance_stage_tell(j);
    return balance_stage_write(j, e);
}

static int run(struct balance_stage *j, struct err *e)
{
    struct balance_options o;
    if (comm_agree(j->comm, begin(j, e), e) || comm_agree(j->comm, select_rows(j, e), e) ||
        comm_agree(j->comm, set_options(j, &o, e), e) || comm_agree(j->comm, balance(j, &o, e), e))
        return -1;
    return j->parts ? 0 : comm_agree(j->comm, finish(j, e), e);
}

static int check_parts(const struct balance_stage_options *o, const struct cli_common *common,
                       struct err *e)
{
    uint64_t part, parts;
    bool outputs = o->keep_dir || o->groups_dir || o->pairs || o->curve || o->ledger;
    if (!o->part && !o->merge.n)
        return 0;
    if (o->hard)
        return err_set(e, "--hard goes with one run or with ranks, not with --part or --merge");
    if (o->part && !balance_part_parse(o->part, &part, &parts))
        return err_set(e, "--part needs A/B with 1 <= A <= B, not '%s'", o->part);
    if (o->part && (o->merge.n || outputs || !strcmp(common->output, "-")))
        return err_set(e, "--part writes -o FILE for --merge, and nothing else");
    if (!o->cells || o->share_given)
        return err_set(e, "%s goes with --cells, and without --remove",
                       o->part ? "--part" : "--merge");
    return 0;
}

static int check_pairs(const struct balance_stage_options *o, struct err *e)
{
    return o->index_dir && !o->pairs ? err_set(e, "--index-dir goes with --pairs") : 0;
}

static int check_selection(const struct balance_stage_options *o, struct err *e)
{
    bool limits = o->min_score_given || o->max_score_given;
    if ((limits || o->keep_score_given) && !o->text_dir)
        return err_set(e, "--%s goes with --text-dir",
                       o->min_score_given   ? "min-score"
                       : o->max_score_given ? "max-score"
                                            : "keep-score");
    if (limits && o->keep_score_given)
        return err_set(e, "--keep-score finds the least score: no --min-score or --max-score");
    if (o->survivor == BALANCE_SCORE && !o->text_dir)
        return err_set(e, "--survivor score goes with --text-dir");
    if (!o->targets != !o->min_similarity_given)
        return err_set(e, "--targets and --min-similarity go together");
    if (o->against_distance_given && !o->against)
        return err_set(e, "--against-distance goes with --against");
    if (!o->hard != !o->hard_dir || (o->hard && !o->text_dir))
        return err_set(e, "--hard, --hard-dir and --text-dir go together");
    if (o->cap_given && o->cap_share_given)
        return err_set(e, "only one of --cap and --cap-share");
    if ((o->cap_given || o->cap_share_given) && !o->cells)
        return err_set(e, "--cap%s goes with --cells", o->cap_given ? "" : "-share");
    return 0;
}

int balance_stage_check(const struct balance_stage_options *o, const struct cli_common *common,
                        struct err *e)
{
    if (o->distance_given + o->euclidean_given + o->share_given > 1)
        return err_set(e, "only one of --distance, --euclidean and --remove");
    if (o->rule && o->survivor_given && o->survivor == BALANCE_CENTER)
        return err_set(e, "--rule semdedup orders rows: --survivor hard, easy, first, random "
                          "or score");
    if (o->rule && o->probe)
        return err_set(e, "--rule semdedup looks within cells only: no --probe");
    if (o->probe && !o->cells)
        return err_set(e, "--probe goes with --cells");
    if (o->labels_dir && !o->cells)
        return err_set(e, "--labels-dir goes with --cells");
    if (check_parts(o, common, e) || check_pairs(o, e) || check_selection(o, e))
        return -1;
    if (o->curve_to > 0 && !o->curve && !o->part)
        return err_set(e, "--curve-to goes with --curve");
    if (!common->n_operands && !o->files_from)
        return err_set(e, "missing operand: EMB.npy...");
    return 0;
}

int balance_stage_run(const struct balance_stage_options *o, const struct cli_common *common,
                      int argc, char *const *argv, struct comm *c, struct log *l, uint64_t *rows,
                      uint64_t *kept, struct err *e)
{
    struct balance_stage *j = mem_alloc(1, sizeof *j, e);
    if (!j)
        return -1;
    j->o = o;
    j->common = common;
    j->log = l;
    j->comm = c;
    if (o->part)
        balance_part_parse(o->part, &j->part, &j->parts); // balance_stage_check has seen it
    j->mem = o->mem;
    j->survivor = o->rule && !o->survivor_given ? BALANCE_HARD : o->survivor;
    j->origin = (struct embeddings_origin){
        .tool = "sem-balance", .argc = argc, .argv = argv, .seed = o->seed};
    int r = run(j, e);
    *rows = j->result.rows;
    *kept = j->result.kept;
    balance_release(&j->result);
    balance_joins_close(&j->joins);
    search_device_release(&j->sim);
    dev_close(&j->dev);
    embedding_files_close(&j->files);
    embedding_files_close(&j->texts);
    free(j->centroids);
    free(j->may);
    balance_selected_release(&j->selected);
    if (r && j->made_keep_dir)
        rmdir(o->keep_dir); // where nothing is in it
    if (r && j->made_groups_dir)
        rmdir(o->groups_dir);
    if (r && j->made_hard_dir)
        rmdir(o->hard_dir);
    free(j);
    return r;
}
