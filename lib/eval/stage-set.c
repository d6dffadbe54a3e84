// SPDX-License-Identifier: Apache-2.0
// One set of zs-eval: its task, its features, its result.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "eval/inputs.h"
#include "eval/predictions.h"
#include "eval/stage-run.h"
#include "formats/json.h"

enum { OPTIONS_ROOM = 4608 };

// What one set asks for: its type's task unless another was named.
static int choose_task(const struct eval_job *job, const struct eval_set *s, struct err *e)
{
    bool retrieval = s->type == EVAL_RETRIEVAL;
    if (job->o->task == EVAL_TASK_AUTO)
        return retrieval ? EVAL_TASK_RETRIEVAL : EVAL_TASK_ZEROSHOT;
    if (job->o->task == EVAL_TASK_NEIGHBOURS)
        return job->o->task;
    if ((job->o->task == EVAL_TASK_RETRIEVAL) != retrieval ||
        (job->o->task == EVAL_TASK_INSTANCE && s->type != EVAL_CLASSES) ||
        (job->o->task == EVAL_TASK_PROBE && s->type == EVAL_MULTILABEL))
        return err_set(e, "'%s' is not a set for this task", s->folder);
    return job->o->task;
}

static int check_failed(struct eval_job *job, const struct eval_set *s,
                        const struct eval_features *f, struct err *e)
{
    if (f->failed == 0)
        return 0;
    log_warn(job->log, "%s: %zu of %zu pictures cannot be decoded, the first: %s", s->folder,
             f->failed, f->n, f->first_failure);
    if (f->failed > cli_count_of(&job->o->max_bad, f->n))
        return err_set(e, "'%s': %zu bad pictures are more than --max-bad allows", s->folder,
                       f->failed);
    return 0;
}

static int get_features(struct eval_job *job, const struct eval_set *s, const char *of,
                        struct eval_features *f, struct err *e)
{
    return eval_features_get(f, &job->model, s, of, e);
}

static int run_probe(struct eval_job *job, const struct eval_set *s,
                     const struct eval_features *test, struct eval_result *r, struct err *e)
{
    struct eval_features train;
    if (get_features(job, s, "train", &train, e))
        return -1;
    int rc = check_failed(job, s, &train, e);
    if (rc == 0)
        rc = eval_linear_probe(&job->model, s, &train, test, job->o->c, (int)job->o->iterations,
                               job->o->seed, r, e);
    if (rc == 0 && !r->probe_converged)
        log_warn(job->log,
                 "%s: the linear probe at C = %g is not at its minimum after %d iterations; "
                 "--iterations N allows more",
                 s->folder, r->probe_c, r->probe_iterations);
    eval_features_release(&train);
    return rc;
}

// DIR/NAME of the set, where that is there, else DIR.
static int teacher_folder(const struct eval_job *job, const struct eval_set *s,
                          char path[PATH_BYTES], struct err *e)
{
    const char *dir = job->o->teacher_image;
    if (path_join(path, dir, s->name, e))
        return -1;
    return access(path, F_OK) ? path_format(path, e, "%s", dir) : 0;
}

// Neighbours in common with the teacher, beside the task's figures.
static int add_neighbours(struct eval_job *job, const struct eval_set *s,
                          const struct eval_features *f, struct eval_result *r, struct err *e)
{
    char dir[PATH_BYTES];
    float *rows = NULL;
    size_t n, dim;
    int rc = teacher_folder(job, s, dir, e) ||
                     eval_teacher_rows(s, job->o->split, dir, &rows, &n, &dim, e) ||
                     eval_neighbours(&job->model, f, rows, n, dim, r, e)
                 ? -1
                 : 0;
    free(rows);
    return rc;
}

static int run_task(struct eval_job *job, const struct eval_set *s, const struct eval_features *f,
                    struct eval_result *r, struct err *e)
{
    int task = choose_task(job, s, e);
    if (task < 0)
        return -1;
    if (task == EVAL_TASK_NEIGHBOURS)
        *r = (struct eval_result){.task = "neighbours", .n = f->n, .failed = f->failed};
    int rc = task == EVAL_TASK_NEIGHBOURS ? 0
             : task == EVAL_TASK_PROBE    ? run_probe(job, s, f, r, e)
             : task == EVAL_TASK_INSTANCE ? eval_instance(&job->model, f, r, e)
                                          : eval_by_type(&job->model, s, f, r, e);
    return rc || !job->o->teacher_image ? rc : add_neighbours(job, s, f, r, e);
}

// A digest of the teacher's rows, as text.
static int add_teacher(const struct eval_job *job, const struct eval_set *s, char *text,
                       size_t room, struct err *e)
{
    char dir[PATH_BYTES], hex[DIGEST_HEX];
    float *rows = NULL;
    size_t n, dim;
    int rc = teacher_folder(job, s, dir, e) ||
             eval_teacher_rows(s, job->o->split, dir, &rows, &n, &dim, e);
    if (!rc) {
        digest_bytes(rows, n * dim * sizeof *rows, hex);
        snprintf(text, room, "\n%zu %s", dim, hex);
    }
    free(rows);
    return rc ? -1 : 0;
}

// What a result depends on beside model and set.
static int inputs_of(struct eval_job *job, const struct eval_set *s, char hex[DIGEST_HEX],
                     struct err *e)
{
    char text[OPTIONS_ROOM];
    int chosen = choose_task(job, s, e);
    int n = snprintf(text, sizeof text, "%s\n%d %d %.17g %llu %llu %llu %.17g %d", job->o->model,
                     chosen, job->o->features, job->o->c, (unsigned long long)job->o->iterations,
                     (unsigned long long)job->o->seed, (unsigned long long)job->o->confusions,
                     job->o->max_bad.value, (int)job->o->max_bad.percent);
    if (n < 0 || (size_t)n >= sizeof text)
        return err_set(e, "path too long: '%.100s'", job->o->model);
    if (job->o->teacher_image && add_teacher(job, s, text + n, sizeof text - (size_t)n, e))
        return -1;
    return eval_inputs(&job->model, s, job->o->split, chosen == EVAL_TASK_PROBE ? "train" : NULL,
                       text, hex, e);
}

// The first figure as a note, and --min-acc1. A set of classes without any picture has no acc1, and
// so does not reach it.
static void judge(struct eval_job *job, const struct eval_set *s, const cJSON *result)
{
    const char *what = "";
    struct err ignored;
    const cJSON *metrics = cJSON_GetObjectItemCaseSensitive(result, "metrics");
    const cJSON *acc1 = cJSON_GetObjectItemCaseSensitive(metrics, "acc1");
    if (!acc1)
        acc1 = cJSON_GetObjectItemCaseSensitive(metrics, "lp_acc1");
    json_string(result, "task", JSON_OPTIONAL, &what, &ignored);
    if (metrics && metrics->child)
        log_note(job->log, "%s: %s: %s %.4f", s->name, what, metrics->child->string,
                 metrics->child->valuedouble);
    if (!job->o->min_given || s->type != EVAL_CLASSES ||
        (acc1 && acc1->valuedouble >= job->o->min_acc1))
        return;
    if (acc1)
        log_error(job->log, "'%s': acc1 %.4f is less than %.4f", s->folder, acc1->valuedouble,
                  job->o->min_acc1);
    else
        log_error(job->log, "'%s': no acc1 for --min-acc1: no picture can be decoded", s->folder);
    job->missed = true;
}

// Hands a result to the output, and to the table. 0, or -1: no further set can be.
static int keep_line(struct eval_job *job, char *line, const cJSON *o, struct err *e)
{
    if (eval_results_add(&job->results, line, e) == 0 &&
        (!job->o->csv || eval_table_add(&job->table, o, e) == 0))
        return 0;
    job->cut_short = true;
    return -1;
}

static int write_result(struct eval_job *job, const struct eval_set *s, struct eval_result *r,
                        const char *inputs, struct err *e)
{
    cJSON *o =
        eval_result_json(r, s, job->o->model, &job->model, inputs, (size_t)job->o->confusions, e);
    char *text = o ? json_text(o, false, e) : NULL;
    size_t n = text ? strlen(text) : 0;
    char *line = text ? mem_alloc(n + 2, 1, e) : NULL;
    int rc = line ? 0 : -1;
    if (line) {
        memcpy(line, text, n);
        line[n] = '\n';
        rc = keep_line(job, line, o, e);
    }
    if (rc == 0)
        judge(job, s, o);
    free(text);
    cJSON_Delete(o);
    return rc;
}

// The result that the output holds from an earlier run: 1, 0 there is none, -1. The lines of its
// samples are not held, so with --predictions every set runs.
static int take_result(struct eval_job *job, const struct eval_set *s, const char *inputs,
                       struct err *e)
{
    char *line = job->o->predictions ? NULL : eval_results_take(&job->results, inputs);
    cJSON *o = line ? json_parse(line, strlen(line), NULL, e) : NULL;
    if (!line)
        return 0;
    if (!o) {
        free(line);
        return -1;
    }
    log_note(job->log, "%s: taken from '%s', where nothing has changed", s->name,
             job->results.path);
    int rc = keep_line(job, line, o, e);
    if (rc == 0)
        judge(job, s, o);
    cJSON_Delete(o);
    return rc ? -1 : 1;
}

// What can be known to be wrong before anything is embedded.
static int check_set(const struct eval_job *job, const struct eval_set *s, struct err *e)
{
    int chosen = choose_task(job, s, e);
    size_t shards = 1;
    if (chosen < 0 || (chosen == EVAL_TASK_PROBE && eval_set_shards(s, "train", &shards, e)))
        return -1;
    return shards ? 0 : err_set(e, "'%s' has no split 'train'", s->folder);
}

static int evaluate(struct eval_job *job, const struct eval_set *s, const char *inputs,
                    struct err *e)
{
    struct eval_features f;
    struct eval_result r = {0};
    if (get_features(job, s, job->o->split, &f, e))
        return -1;
    int rc = check_failed(job, s, &f, e);
    rc = rc ? rc : run_task(job, s, &f, &r, e);
    if (rc == 0 && job->o->predictions && eval_predictions_write(&job->predictions, s, &f, &r, e)) {
        job->cut_short = true;
        rc = -1;
    }
    rc = rc ? rc : write_result(job, s, &r, inputs, e);
    eval_features_release(&f);
    eval_result_release(&r);
    return rc;
}

int eval_stage_set(struct eval_job *job, const char *folder, struct err *e)
{
    struct eval_set s;
    char inputs[DIGEST_HEX];
    if (eval_set_open(&s, folder, job->o->classnames, job->o->templates, e))
        return -1;
    int rc = check_set(job, &s, e) || inputs_of(job, &s, inputs, e) ? -1 : 0;
    int taken = rc == 0 ? take_result(job, &s, inputs, e) : -1;
    rc = taken == 0 ? evaluate(job, &s, inputs, e) : taken > 0 ? 0 : -1;
    eval_set_close(&s);
    return rc;
}
