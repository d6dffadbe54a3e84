// SPDX-License-Identifier: Apache-2.0
// zs-eval: a model on evaluation sets in CLIP_benchmark's layout; a line of JSON for each.
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "eval-tasks.h"
#include "io.h"
#include "json.h"
#include "log.h"
#include "model-digest.h"

enum {
    TASK_AUTO,
    TASK_ZEROSHOT,
    TASK_RETRIEVAL,
    TASK_PROBE,
    FEATURES_EMBEDDING = 0,
    FEATURES_TOWER
};

static const char *model_dir, *classnames, *templates, *predictions, *cache, *device = "cpu";
static const char *split = "test", *tokenizer_path;
static int task, dtype, features;
static uint64_t batch = 64, confusions = 20, seed = 1, iterations = 1000;
static double probe_c, min_acc1;
static bool shortcuts = true, min_given;
static struct cli_count max_bad = {0, false};

static const struct cli_option options[] = {
    {.name = "model",
     .letter = 'm',
     .type = CLI_TEXT,
     .to = &model_dir,
     .arg = "MODEL",
     .help = "model folder (needed)"},
    {.name = "task",
     .type = CLI_CHOICE,
     .to = &task,
     .choices = "auto|zeroshot|retrieval|linear-probe",
     .help = "auto: as the set's type says"},
    {.name = "split",
     .type = CLI_TEXT,
     .to = &split,
     .arg = "NAME",
     .help = "folder of the shards"},
    {.name = "tokenizer",
     .type = CLI_TEXT,
     .to = &tokenizer_path,
     .arg = "PATH",
     .help = "vocabulary file or folder, when the model folder has none"},
    {.name = "classnames",
     .type = CLI_TEXT,
     .to = &classnames,
     .arg = "FILE",
     .help = "instead of the set's own"},
    {.name = "templates",
     .type = CLI_TEXT,
     .to = &templates,
     .arg = "FILE",
     .help = "instead of the set's own"},
    {.name = "batch",
     .type = CLI_UINT,
     .to = &batch,
     .arg = "N",
     .min = 1,
     .max = 65536,
     .help = "pictures or texts at once"},
    {.name = "dtype",
     .type = CLI_CHOICE,
     .to = &dtype,
     .choices = "f32|bf16|auto",
     .help = "of the products"},
    {.name = "device", .type = CLI_TEXT, .to = &device, .arg = "NAME", .help = "cpu or cuda[:N]"},
    {.name = "shortcuts",
     .type = CLI_FLAG,
     .to = &shortcuts,
     .help = "leave out what does not change the result"},
    {.name = "features",
     .type = CLI_CHOICE,
     .to = &features,
     .choices = "embedding|tower",
     .help = "of the linear probe: after or before the projection"},
    {.name = "c",
     .type = CLI_REAL,
     .to = &probe_c,
     .arg = "C",
     .min = 0,
     .max = 1e12,
     .help = "of the linear probe; 0 = search"},
    {.name = "iterations",
     .type = CLI_UINT,
     .to = &iterations,
     .arg = "N",
     .min = 1,
     .max = 1000000,
     .help = "of the linear probe's L-BFGS, at most"},
    {.name = "seed",
     .type = CLI_UINT,
     .to = &seed,
     .arg = "S",
     .help = "chooses the rows that C is tried on"},
    {.name = "cache", .type = CLI_TEXT, .to = &cache, .arg = "DIR", .help = "keep features here"},
    {.name = "predictions",
     .type = CLI_TEXT,
     .to = &predictions,
     .arg = "FILE",
     .help = "a line for each sample"},
    {.name = "confusions",
     .type = CLI_UINT,
     .to = &confusions,
     .arg = "N",
     .max = 1000000,
     .help = "most frequent pairs to list"},
    {.name = "min-acc1",
     .type = CLI_REAL,
     .to = &min_acc1,
     .arg = "X",
     .min = 0,
     .max = 1,
     .help = "fail when any acc1 is lower",
     .given = &min_given,
     .no_default = true},
    {.name = "max-bad",
     .type = CLI_COUNT,
     .to = &max_bad,
     .arg = "N|P%",
     .help = "fail when more pictures cannot be decoded"},
};
static const struct cli cli = {
    .tool = "zs-eval",
    .summary = "evaluates a model: zero-shot classification, retrieval, linear probe",
    .operands = "WDS_DIR...",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .min_operands = 1,
    .max_operands = SIZE_MAX,
};

struct job {
    struct log log;
    struct progress progress;
    struct out out, predictions;
    struct eval_model model;
    bool missed; // --min-acc1
};

// What one set asks for: its type's task unless another was named.
static int choose_task(const struct eval_set *s, struct err *e)
{
    bool retrieval = s->type == EVAL_RETRIEVAL;
    if (task == TASK_AUTO)
        return retrieval ? TASK_RETRIEVAL : TASK_ZEROSHOT;
    if ((task == TASK_RETRIEVAL) != retrieval || (task == TASK_PROBE && s->type == EVAL_MULTILABEL))
        return err_set(e, "'%s' is not a set for this task", s->folder);
    return task;
}

// A name as one cell of a table: control characters would cut it.
static int write_cell(struct out *o, const char *name, struct err *e)
{
    for (const char *p = name; *p; p++)
        if (out_write(o, (unsigned char)*p < ' ' || *p == 127 ? "?" : p, 1, e))
            return -1;
    return out_write(o, "\t", 1, e);
}

static int write_prediction(struct out *o, const char *set, const char *sample, size_t row,
                            int32_t label, const struct metric_top *top, struct err *e)
{
    char text[256];
    int n = snprintf(text, sizeof text, "%zu\t", row);
    if (write_cell(o, set, e) || out_write(o, text, (size_t)n, e) || write_cell(o, sample, e))
        return -1;
    n = snprintf(text, sizeof text, "%d", label);
    for (int k = 0; k < METRIC_TOP && top->index[k] >= 0; k++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%c%d", k ? ',' : '\t', top->index[k]);
    if (top->index[0] >= 0)
        n += snprintf(text + n, sizeof text - (size_t)n, "\t%.6g\n", (double)top->score[0]);
    else
        n += snprintf(text + n, sizeof text - (size_t)n, "\t-\t-\n");
    return out_write(o, text, (size_t)n, e);
}

static int write_predictions(struct job *job, const struct eval_set *s,
                             const struct eval_features *f, const struct eval_result *r,
                             struct err *e)
{
    for (size_t i = 0; r->top && i < f->n; i++)
        if (write_prediction(&job->predictions, s->name, f->names[i], i, f->label[i], &r->top[i],
                             e))
            return -1;
    return 0;
}

static int check_failed(struct job *job, const struct eval_set *s, const struct eval_features *f,
                        struct err *e)
{
    if (f->failed == 0)
        return 0;
    log_warn(&job->log, "%s: %zu of %zu pictures cannot be decoded, the first: %s", s->folder,
             f->failed, f->n, f->first_failure);
    if (f->failed > cli_count_of(&max_bad, f->n))
        return err_set(e, "'%s': %zu bad pictures are more than --max-bad allows", s->folder,
                       f->failed);
    return 0;
}

static void on_progress(void *ctx, size_t samples)
{
    struct progress *p = ctx;
    progress_to(p, samples);
}

static int get_features(struct job *job, const struct eval_set *s, const char *of,
                        struct eval_features *f, struct err *e)
{
    progress_start(&job->progress, &job->log, 0, "samples");
    int rc = eval_features_get(f, &job->model, s, of, e);
    progress_end(&job->progress);
    return rc;
}

static int run_probe(struct job *job, const struct eval_set *s, const struct eval_features *test,
                     struct eval_result *r, struct err *e)
{
    struct eval_features train;
    if (get_features(job, s, "train", &train, e))
        return -1;
    int rc = check_failed(job, s, &train, e);
    if (rc == 0)
        rc = eval_linear_probe(&job->model, s, &train, test, probe_c, (int)iterations, seed, r, e);
    if (rc == 0 && !r->probe_converged)
        log_warn(&job->log,
                 "%s: the linear probe at C = %g is not at its minimum after %d iterations; "
                 "--iterations N allows more",
                 s->folder, r->probe_c, r->probe_iterations);
    eval_features_release(&train);
    return rc;
}

static int run_task(struct job *job, const struct eval_set *s, const struct eval_features *f,
                    struct eval_result *r, struct err *e)
{
    switch (choose_task(s, e)) {
    case TASK_ZEROSHOT:
        return eval_zeroshot(&job->model, s, f, r, e);
    case TASK_RETRIEVAL:
        return eval_retrieval(&job->model, f, r, e);
    case TASK_PROBE:
        return run_probe(job, s, f, r, e);
    default:
        return -1;
    }
}

static int write_result(struct job *job, const struct eval_set *s, struct eval_result *r,
                        struct err *e)
{
    cJSON *o = eval_result_json(r, s, model_dir, &job->model, (size_t)confusions, e);
    char *text = o ? json_text(o, false, e) : NULL;
    int rc = text ? out_write(&job->out, text, strlen(text), e) : -1;
    if (rc == 0)
        rc = out_write(&job->out, "\n", 1, e);
    free(text);
    cJSON_Delete(o);
    return rc;
}

static void judge(struct job *job, const struct eval_set *s, const struct eval_result *r)
{
    double acc1 = eval_result_figure(r, "acc1");
    if (isnan(acc1))
        acc1 = eval_result_figure(r, "lp_acc1");
    if (!min_given || isnan(acc1) || acc1 >= min_acc1)
        return;
    log_error(&job->log, "'%s': acc1 %.4f is less than %.4f", s->folder, acc1, min_acc1);
    job->missed = true;
}

// What can be known to be wrong before anything is embedded.
static int check_set(const struct eval_set *s, struct err *e)
{
    int chosen = choose_task(s, e);
    size_t shards = 1;
    if (chosen < 0 || (chosen == TASK_PROBE && eval_set_shards(s, "train", &shards, e)))
        return -1;
    return shards ? 0 : err_set(e, "'%s' has no split 'train'", s->folder);
}

static int run_set(struct job *job, const char *folder, struct err *e)
{
    struct eval_set s;
    struct eval_features f;
    struct eval_result r = {0};
    if (eval_set_open(&s, folder, classnames, templates, e))
        return -1;
    int rc = check_set(&s, e) ? -1 : get_features(job, &s, split, &f, e);
    if (rc == 0) {
        rc = check_failed(job, &s, &f, e);
        if (rc == 0)
            rc = run_task(job, &s, &f, &r, e);
        if (rc == 0 && predictions)
            rc = write_predictions(job, &s, &f, &r, e);
        if (rc == 0)
            rc = write_result(job, &s, &r, e);
        if (rc == 0) {
            judge(job, &s, &r);
            log_note(&job->log, "%s: %s: %s %.4f", s.name, r.task, r.figure[0].name,
                     r.figure[0].value);
        }
        eval_features_release(&f);
    }
    eval_result_release(&r);
    eval_set_close(&s);
    return rc;
}

// ---- the model

static struct tokenizer *open_tokenizer(const struct clip_config *c, struct err *e)
{
    struct tokenizer *t = tokenizer_open(tokenizer_path ? tokenizer_path : model_dir, e);
    if (!t)
        return NULL;
    if (tokenizer_vocab_size(t) <= (size_t)c->vocab)
        return t;
    err_set(e, "the tokenizer has %zu tokens, the model's table %d rows", tokenizer_vocab_size(t),
            c->vocab);
    tokenizer_free(t);
    return NULL;
}

static int run_sets(struct job *job, const struct cli_common *common, struct err *e)
{
    int rc = out_open(&job->out, common->output, e);
    if (rc == 0 && predictions) {
        static const char head[] = "set\trow\tsample\tlabel\ttop\tscore\n";
        rc = out_open(&job->predictions, predictions, e);
        if (rc == 0)
            rc = out_write(&job->predictions, head, sizeof head - 1, e);
    }
    for (size_t i = 0; rc == 0 && i < common->n_operands; i++)
        rc = run_set(job, common->operands[i], e);
    if (rc == 0 && predictions)
        rc = out_commit(&job->predictions, e);
    if (rc == 0)
        rc = out_commit(&job->out, e);
    out_abort(&job->predictions);
    out_abort(&job->out);
    return rc;
}

static int check_cache(struct err *e)
{
    struct stat st;
    errno = 0;
    if (!stat(cache, &st) && !S_ISDIR(st.st_mode))
        errno = ENOTDIR;
    if (errno || access(cache, W_OK | X_OK))
        return err_errno(e, "cannot write into the folder '%s'", cache);
    return 0;
}

static int with_model(struct job *job, const struct cli_common *common, struct dev *d,
                      struct err *e)
{
    struct clip_weights w;
    struct clip_model clip = {0};
    const struct clip_model_options o = {true, true, !shortcuts, features == FEATURES_TOWER};
    if (cache && check_cache(e))
        return -1;
    if (clip_weights_open(&w, model_dir, e))
        return -1;
    struct tokenizer *t = open_tokenizer(&w.table.cfg, e);
    int rc = t ? 0 : -1;
    if (rc == 0)
        rc = model_digest(&w, job->model.digest, e);
    if (rc == 0)
        rc = clip_model_load(&clip, d, &w, &o, e);
    clip_weights_close(&w);
    if (rc == 0) {
        char variant[64];
        snprintf(variant, sizeof variant, "%s %s", features ? "tower" : "embedding",
                 d->act == DEV_BF16 ? "bf16" : "f32");
        job->model.clip = &clip;
        job->model.tokenizer = t;
        job->model.batch = (size_t)batch;
        job->model.threads = (int)common->threads;
        job->model.cache = cache;
        job->model.progress = on_progress;
        job->model.progress_ctx = &job->progress;
        job->model.variant = variant;
        rc = run_sets(job, common, e);
    }
    clip_model_release(&clip);
    tokenizer_free(t);
    return rc;
}

int main(int argc, char **argv)
{
    struct cli_common common = CLI_COMMON_INIT;
    struct job job = {0};
    struct dev d;
    struct err e;
    int status;
    if (!cli_start(&cli, &common, argc, argv, &status))
        return status;
    log_init(&job.log, stderr, &cli, &common);
    if (!model_dir || (features == FEATURES_TOWER && task != TASK_PROBE)) {
        log_error(&job.log, "%s; try --help",
                  model_dir ? "--features tower needs --task linear-probe" : "-m MODEL is needed");
        return CLI_WRONG_USAGE;
    }
    const char *outputs[] = {common.output, predictions};
    if (io_check_apart(outputs, 2, NULL, 0, &e)) {
        log_error(&job.log, "%s; try --help", e.text);
        return CLI_WRONG_USAGE;
    }
    int rc = dev_open(&d, device, (enum dev_type)dtype, (int)common.threads, false, &e);
    if (rc == 0) {
        rc = with_model(&job, &common, &d, &e);
        dev_close(&d);
    }
    if (rc)
        log_error(&job.log, "%s", e.text);
    else
        log_detail(&job.log, "%.1f s", log_seconds(&job.log));
    cli_release(&cli);
    return rc || job.missed ? CLI_FAILED : CLI_OK;
}
