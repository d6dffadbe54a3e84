// SPDX-License-Identifier: Apache-2.0
// zs-eval: a model on evaluation sets in CLIP_benchmark's layout; a line of JSON for each.
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device/dev.h"
#include "system/cli.h"
#include "eval/inputs.h"
#include "eval/predictions.h"
#include "eval/results.h"
#include "model/tokenizer-check.h"
#include "eval/tasks.h"
#include "system/io.h"
#include "formats/json.h"
#include "base/mem.h"
#include "system/log.h"
#include "model/digest.h"

enum { OPTIONS_ROOM = 4608 };

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
    {.name = "device",
     .type = CLI_TEXT,
     .to = &device,
     .arg = "NAME",
     .check = dev_name_check,
     .help = "cpu or cuda[:N]"},
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
    struct eval_results results;
    struct out predictions;
    struct eval_model model;
    bool missed;    // --min-acc1
    bool cut_short; // an output failed: no further set
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

// What a result depends on beside model and set.
static int inputs_of(struct job *job, const struct eval_set *s, char hex[DIGEST_HEX], struct err *e)
{
    char text[OPTIONS_ROOM];
    int chosen = choose_task(s, e);
    int n =
        snprintf(text, sizeof text, "%s\n%d %d %.17g %llu %llu %llu %.17g %d", model_dir, chosen,
                 features, probe_c, (unsigned long long)iterations, (unsigned long long)seed,
                 (unsigned long long)confusions, max_bad.value, (int)max_bad.percent);
    if (n < 0 || (size_t)n >= sizeof text)
        return err_set(e, "path too long: '%.100s'", model_dir);
    return eval_inputs(&job->model, s, split, chosen == TASK_PROBE ? "train" : NULL, text, hex, e);
}

// The first figure as a note, and --min-acc1. A set of classes without any picture has no acc1, and
// so does not reach it.
static void judge(struct job *job, const struct eval_set *s, const cJSON *result)
{
    const char *what = "";
    struct err ignored;
    const cJSON *metrics = cJSON_GetObjectItemCaseSensitive(result, "metrics");
    const cJSON *acc1 = cJSON_GetObjectItemCaseSensitive(metrics, "acc1");
    if (!acc1)
        acc1 = cJSON_GetObjectItemCaseSensitive(metrics, "lp_acc1");
    json_string(result, "task", JSON_OPTIONAL, &what, &ignored);
    if (metrics && metrics->child)
        log_note(&job->log, "%s: %s: %s %.4f", s->name, what, metrics->child->string,
                 metrics->child->valuedouble);
    if (!min_given || s->type != EVAL_CLASSES || (acc1 && acc1->valuedouble >= min_acc1))
        return;
    if (acc1)
        log_error(&job->log, "'%s': acc1 %.4f is less than %.4f", s->folder, acc1->valuedouble,
                  min_acc1);
    else
        log_error(&job->log, "'%s': no acc1 for --min-acc1: no picture can be decoded", s->folder);
    job->missed = true;
}

// Hands a result to the output. 0, or -1: no further set can be.
static int keep_line(struct job *job, char *line, struct err *e)
{
    if (eval_results_add(&job->results, line, e) == 0)
        return 0;
    job->cut_short = true;
    return -1;
}

static int write_result(struct job *job, const struct eval_set *s, struct eval_result *r,
                        const char *inputs, struct err *e)
{
    cJSON *o = eval_result_json(r, s, model_dir, &job->model, inputs, (size_t)confusions, e);
    char *text = o ? json_text(o, false, e) : NULL;
    size_t n = text ? strlen(text) : 0;
    char *line = text ? mem_alloc(n + 2, 1, e) : NULL;
    int rc = line ? 0 : -1;
    if (line) {
        memcpy(line, text, n);
        line[n] = '\n';
        rc = keep_line(job, line, e);
    }
    if (rc == 0)
        judge(job, s, o);
    free(text);
    cJSON_Delete(o);
    return rc;
}

// The result that the output holds from an earlier run: 1, 0 there is none, -1. The lines of its
// samples are not held, so with --predictions every set runs.
static int take_result(struct job *job, const struct eval_set *s, const char *inputs, struct err *e)
{
    char *line = predictions ? NULL : eval_results_take(&job->results, inputs);
    cJSON *o = line ? json_parse(line, strlen(line), NULL, e) : NULL;
    if (!line)
        return 0;
    if (!o) {
        free(line);
        return -1;
    }
    log_note(&job->log, "%s: taken from '%s', where nothing has changed", s->name,
             job->results.path);
    int rc = keep_line(job, line, e);
    if (rc == 0)
        judge(job, s, o);
    cJSON_Delete(o);
    return rc ? -1 : 1;
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

static int evaluate(struct job *job, const struct eval_set *s, const char *inputs, struct err *e)
{
    struct eval_features f;
    struct eval_result r = {0};
    if (get_features(job, s, split, &f, e))
        return -1;
    int rc = check_failed(job, s, &f, e);
    rc = rc ? rc : run_task(job, s, &f, &r, e);
    if (rc == 0 && predictions && eval_predictions_write(&job->predictions, s, &f, &r, e)) {
        job->cut_short = true;
        rc = -1;
    }
    rc = rc ? rc : write_result(job, s, &r, inputs, e);
    eval_features_release(&f);
    eval_result_release(&r);
    return rc;
}

static int run_set(struct job *job, const char *folder, struct err *e)
{
    struct eval_set s;
    char inputs[DIGEST_HEX];
    if (eval_set_open(&s, folder, classnames, templates, e))
        return -1;
    int rc = check_set(&s, e) || inputs_of(job, &s, inputs, e) ? -1 : 0;
    int taken = rc == 0 ? take_result(job, &s, inputs, e) : -1;
    rc = taken == 0 ? evaluate(job, &s, inputs, e) : taken > 0 ? 0 : -1;
    eval_set_close(&s);
    return rc;
}

// ---- the model

static struct tokenizer *open_tokenizer(const struct clip_config *c, struct err *e)
{
    struct tokenizer *t = tokenizer_open(tokenizer_path ? tokenizer_path : model_dir, e);
    if (t && clip_check_tokenizer(t, c, e)) {
        tokenizer_free(t);
        t = NULL;
    }
    return t;
}

// Each set, the failed ones named one by one; the results of the others are kept. -1, with e about
// all of them, when any failed.
static int run_each(struct job *job, const struct cli_common *common, struct err *e)
{
    size_t n_failed = 0, n_named = 0;
    char names[400] = "";
    for (size_t i = 0; i < common->n_operands; i++) {
        if (run_set(job, common->operands[i], e) == 0)
            continue;
        if (job->cut_short || common->n_operands == 1)
            return -1;
        log_error(&job->log, "%s", e->text);
        n_failed++;
        size_t at = strlen(names);
        if (at + strlen(common->operands[i]) + 2 < sizeof names) {
            snprintf(names + at, sizeof names - at, "%s%s", n_named ? ", " : "",
                     common->operands[i]);
            n_named++;
        }
    }
    if (n_failed == 0)
        return 0;
    static const char kept[] = "; the others are done, and the same command runs these only";
    bool again = job->results.n && !job->results.stream;
    return err_set(e, "%zu of %zu sets failed: %s%s%s", n_failed, common->n_operands, names,
                   n_named < n_failed ? ", ..." : "", again ? kept : "");
}

static int finish(struct job *job, struct err *e)
{
    if (predictions && out_commit(&job->predictions, e))
        return -1;
    return eval_results_finish(&job->results, e);
}

static int run_sets(struct job *job, const struct cli_common *common, struct err *e)
{
    struct err late;
    if (eval_results_open(&job->results, common->output, job->model.digest, e))
        return -1;
    int rc = predictions ? out_open(&job->predictions, predictions, e) : 0;
    if (rc == 0 && predictions)
        rc = eval_predictions_head(&job->predictions, e);
    if (rc == 0) {
        rc = run_each(job, common, e);
        bool some = job->results.n > 0 && !job->cut_short;
        if (some && finish(job, rc ? &late : e)) {
            if (rc)
                log_error(&job->log, "%s", late.text);
            rc = -1;
        }
    }
    out_abort(&job->predictions);
    eval_results_release(&job->results);
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
        rc = eval_tokenizer_digest(tokenizer_path ? tokenizer_path : model_dir,
                                   job->model.tokenizer_digest, e);
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
    bool opened = !io_check_outputs(outputs, 2, &e) &&
                  !dev_open(&d, device, (enum dev_type)dtype, (int)common.threads, false, &e);
    int rc = opened ? with_model(&job, &common, &d, &e) : -1;
    if (opened)
        dev_close(&d);
    if (rc)
        log_error(&job.log, "%s", e.text);
    else
        log_detail(&job.log, "%.1f s", log_seconds(&job.log));
    cli_release(&cli);
    return rc || job.missed ? CLI_FAILED : CLI_OK;
}
