// SPDX-License-Identifier: Apache-2.0
#include "eval/stage.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "eval/inputs.h"
#include "eval/predictions.h"
#include "eval/stage-run.h"
#include "model/digest.h"
#include "model/tokenizer-check.h"

static struct tokenizer *open_tokenizer(const struct eval_job *job, const struct clip_config *c,
                                        struct err *e)
{
    return clip_tokenizer_open(job->o->tokenizer ? job->o->tokenizer : job->o->model, c, e);
}

// Each set, the failed ones named one by one; the results of the others are kept. -1, with e about
// all of them, when any failed.
static int run_each(struct eval_job *job, struct err *e)
{
    size_t n_failed = 0, n_named = 0;
    char names[400] = "";
    for (size_t i = 0; i < job->common->n_operands; i++) {
        if (eval_stage_set(job, job->common->operands[i], e) == 0)
            continue;
        if (job->cut_short || job->common->n_operands == 1)
            return -1;
        log_error(job->log, "%s", e->text);
        n_failed++;
        size_t at = strlen(names);
        if (at + strlen(job->common->operands[i]) + 2 < sizeof names) {
            snprintf(names + at, sizeof names - at, "%s%s", n_named ? ", " : "",
                     job->common->operands[i]);
            n_named++;
        }
    }
    if (n_failed == 0)
        return 0;
    static const char kept[] = "; the others are done, and the same command runs these only";
    bool again = job->results.n && !job->results.stream;
    return err_set(e, "%zu of %zu sets failed: %s%s%s", n_failed, job->common->n_operands, names,
                   n_named < n_failed ? ", ..." : "", again ? kept : "");
}

static int finish(struct eval_job *job, struct err *e)
{
    if (job->o->predictions && out_commit(&job->predictions, e))
        return -1;
    if (job->o->csv && eval_table_write(&job->table, job->o->csv, e))
        return -1;
    return eval_results_finish(&job->results, e);
}

static int run_sets(struct eval_job *job, struct err *e)
{
    struct err late;
    if (eval_results_open(&job->results, job->common->output, job->model.digest, e))
        return -1;
    int rc = job->o->predictions ? out_open(&job->predictions, job->o->predictions, e) : 0;
    if (rc == 0 && job->o->predictions)
        rc = eval_predictions_head(&job->predictions, e);
    if (rc == 0) {
        rc = run_each(job, e);
        bool some = job->results.n > 0 && !job->cut_short;
        if (some && finish(job, rc ? &late : e)) {
            if (rc)
                log_error(job->log, "%s", late.text);
            rc = -1;
        }
    }
    out_abort(&job->predictions);
    eval_table_release(&job->table);
    eval_results_release(&job->results);
    return rc;
}

static int check_cache(const char *cache, struct err *e)
{
    struct stat st;
    errno = 0;
    if (!stat(cache, &st) && !S_ISDIR(st.st_mode))
        errno = ENOTDIR;
    if (errno || access(cache, W_OK | X_OK))
        return err_errno(e, "cannot write into the folder '%s'", cache);
    return 0;
}

// Pictures, then texts, of one set after another.
static void on_progress(void *ctx, const char *unit, size_t done, size_t total)
{
    struct progress *p = ctx;
    if (p->unit && (strcmp(p->unit, unit) != 0 || done < p->done)) {
        progress_end(p);
        p->unit = NULL;
    }
    if (!p->unit)
        progress_start(p, p->log, total, unit);
    progress_to(p, done);
}

// *t: the tokenizer, which is the caller's to free after -1 too.
static int load_model(struct eval_job *job, struct dev *d, struct clip_model *clip,
                      struct tokenizer **t, struct err *e)
{
    struct clip_weights w;
    struct eval_model *m = &job->model;
    const struct eval_stage_options *o = job->o;
    const struct clip_model_options parts = {true, true, !o->shortcuts,
                                             o->features == EVAL_FEATURES_TOWER};
    if (clip_weights_open(&w, o->model, e))
        return -1;
    m->tokenizer = *t = open_tokenizer(job, &w.table.cfg, e);
    int rc = !*t ||
                     eval_tokenizer_digest(o->tokenizer ? o->tokenizer : o->model,
                                           m->tokenizer_digest, e) ||
                     model_digest(&w, m->digest, e) || clip_model_load(clip, d, &w, &parts, e)
                 ? -1
                 : 0;
    clip_weights_close(&w);
    return rc;
}

static int with_model(struct eval_job *job, struct dev *d, struct err *e)
{
    struct clip_model clip = {0};
    struct tokenizer *t = NULL;
    struct eval_model *m = &job->model;
    const struct eval_stage_options *o = job->o;
    char variant[64];
    if (o->cache && check_cache(o->cache, e))
        return -1;
    int rc = load_model(job, d, &clip, &t, e);
    if (rc == 0) {
        snprintf(variant, sizeof variant, "%s %s",
                 o->features == EVAL_FEATURES_TOWER ? "tower" : "embedding", dev_dtype(d));
        m->clip = &clip;
        m->batch = (size_t)o->batch;
        m->threads = (int)job->common->threads;
        m->cache = o->cache;
        m->progress = on_progress;
        m->progress_ctx = &job->progress;
        m->variant = variant;
        rc = run_sets(job, e);
        if (job->progress.unit)
            progress_end(&job->progress);
    }
    clip_model_release(&clip);
    tokenizer_free(t);
    return rc;
}

int eval_stage_check(const struct eval_stage_options *o, const struct cli_common *common,
                     struct err *e)
{
    const char *outputs[] = {common->output, o->predictions, o->csv};
    if (!o->model)
        return err_set(e, "-m MODEL is needed");
    if (o->task == EVAL_TASK_NEIGHBOURS && !o->teacher_image)
        return err_set(e, "--task neighbours needs --teacher-image DIR");
    if (o->teacher_image && o->features == EVAL_FEATURES_TOWER)
        return err_set(e, "--teacher-image goes with embeddings: no --features tower");
    if (o->features == EVAL_FEATURES_TOWER && o->task != EVAL_TASK_PROBE)
        return err_set(e, "--features tower needs --task linear-probe");
    return io_check_apart(outputs, 3, NULL, 0, e);
}

int eval_stage_run(const struct eval_stage_options *o, const struct cli_common *common,
                   struct log *l, bool *missed, struct err *e)
{
    struct eval_job job = {.o = o, .common = common, .log = l, .progress = {.log = l}};
    const char *outputs[] = {common->output, o->predictions, o->csv};
    struct dev d;
    if (io_check_outputs(outputs, 3, e) ||
        dev_open(&d, o->device, (enum dev_type)o->dtype, (int)common->threads, false, e))
        return -1;
    if (o->dtype == DEV_AUTO)
        log_note(l, "--dtype auto: %s", dev_dtype(&d));
    int rc = with_model(&job, &d, e);
    dev_close(&d);
    *missed = job.missed;
    return rc;
}
