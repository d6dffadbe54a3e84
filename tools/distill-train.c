// SPDX-License-Identifier: Apache-2.0
// distill-train: trains a CLIP student from samples and a teacher's stored embeddings.
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "json.h"
#include "log.h"
#include "mem.h"
#include "sig.h"
#include "train-checkpoint.h"
#include "train-data.h"
#include "train-log.h"
#include "train-setup.h"
#include "train-step.h"

// All classes up to this many, then the laboratory's share (docs: method).
enum { ALL_CLASSES = 65536, KEPT = 2, WARMUP_MAX = 2000 };
static const double LARGE_RATE = 0.1;

static const char *student, *output, *init, *tokenizer, *teacher_image, *teacher_text, *labels;
static const char *centroids, *loss_list = "instance=1,clip=1,cluster=0.1", *command, *log_file;
static const char *every = "30m", *device = "cpu";
static uint64_t batch = 256, epochs = 1, steps, warmup, seed = 1, accumulate = 1, samples_per_epoch;
static bool epochs_given, steps_given, warmup_given, recompute, resume, skip_bad, export_hf;
static bool freeze_centroids, project;
static int dtype;
static double lr = 1e-3, weight_decay = 0.2, clip_grad = 1, sigma = 16, sample_rate, margin;
static double filter = 1;

static const struct cli_option options[] = {
    {.name = "student",
     .type = CLI_TEXT,
     .to = &student,
     .arg = "CONFIG",
     .help = "open_clip config of the student"},
    {.name = "output",
     .letter = 'o',
     .type = CLI_TEXT,
     .to = &output,
     .arg = "DIR",
     .help = "model folder to make; checkpoints and log in it"},
    {.name = "init",
     .type = CLI_TEXT,
     .to = &init,
     .arg = "MODEL",
     .help = "start from this model folder"},
    {.name = "tokenizer",
     .type = CLI_TEXT,
     .to = &tokenizer,
     .arg = "PATH",
     .no_default = true,
     .help = "vocabulary (else beside MODEL or CONFIG)"},
    {.name = "data",
     .type = CLI_TEXT,
     .to = &command,
     .arg = "'CMD'",
     .help = "command that writes the samples, once an epoch"},
    {.name = "teacher-image",
     .type = CLI_TEXT,
     .to = &teacher_image,
     .arg = "DIR",
     .help = "teacher's image embeddings, a file a shard"},
    {.name = "teacher-text",
     .type = CLI_TEXT,
     .to = &teacher_text,
     .arg = "DIR",
     .help = "teacher's text embeddings"},
    {.name = "labels", .type = CLI_TEXT, .to = &labels, .arg = "DIR", .help = "cluster labels"},
    {.name = "centroids",
     .type = CLI_TEXT,
     .to = &centroids,
     .arg = "FILE",
     .help = "cluster centroids (NPY)"},
    {.name = "loss",
     .type = CLI_TEXT,
     .to = &loss_list,
     .arg = "LIST",
     .help = "terms and weights (see the man page)"},
    {.name = "batch",
     .type = CLI_UINT,
     .to = &batch,
     .arg = "N",
     .min = 1,
     .max = 1 << 20,
     .help = "samples of a step"},
    {.name = "accumulate",
     .type = CLI_UINT,
     .to = &accumulate,
     .arg = "N",
     .min = 1,
     .max = 1 << 20,
     .help = "in N pieces, with the same result"},
    {.name = "epochs",
     .type = CLI_UINT,
     .to = &epochs,
     .arg = "N",
     .min = 1,
     .max = 1u << 30,
     .given = &epochs_given,
     .help = "times through the data"},
    {.name = "steps",
     .type = CLI_UINT,
     .to = &steps,
     .arg = "N",
     .min = 1,
     .given = &steps_given,
     .no_default = true,
     .help = "length of the run, in place of --epochs"},
    {.name = "epoch-samples",
     .type = CLI_UINT,
     .to = &samples_per_epoch,
     .arg = "N",
     .min = 1,
     .no_default = true,
     .help = "samples of an epoch, for the schedule"},
    {.name = "lr",
     .type = CLI_REAL,
     .to = &lr,
     .arg = "X",
     .min = 0,
     .max = 1e3,
     .help = "peak learning rate"},
    {.name = "warmup",
     .type = CLI_UINT,
     .to = &warmup,
     .arg = "N",
     .given = &warmup_given,
     .no_default = true,
     .help = "steps of warm-up (steps / 10, at most 2000)"},
    {.name = "weight-decay",
     .type = CLI_REAL,
     .to = &weight_decay,
     .arg = "X",
     .min = 0,
     .max = 1e3,
     .help = "on matrices"},
    {.name = "clip-grad",
     .type = CLI_REAL,
     .to = &clip_grad,
     .arg = "X",
     .min = 0,
     .max = 1e9,
     .help = "largest norm of the gradient; 0 = any"},
    {.name = "sigma",
     .type = CLI_REAL,
     .to = &sigma,
     .arg = "X",
     .min = 1e-3,
     .max = 1e4,
     .help = "scale of the cluster softmax"},
    {.name = "sample-rate",
     .type = CLI_REAL,
     .to = &sample_rate,
     .arg = "R",
     .min = 0,
     .max = 1,
     .help = "share of the clusters in a step; 0 = by their number"},
    {.name = "margin",
     .type = CLI_REAL,
     .to = &margin,
     .arg = "M",
     .min = 0,
     .max = 2,
     .help = "taken off the label's cosine"},
    {.name = "filter",
     .type = CLI_REAL,
     .to = &filter,
     .arg = "F",
     .min = -1,
     .max = 1,
     .help = "other clusters above this cosine are left out"},
    {.name = "freeze-centroids",
     .type = CLI_FLAG,
     .to = &freeze_centroids,
     .help = "the cluster rows are not trained"},
    {.name = "project",
     .type = CLI_FLAG,
     .to = &project,
     .help = "linear map to the teacher's width"},
    {.name = "seed", .type = CLI_UINT, .to = &seed, .arg = "S", .help = "of all random choices"},
    {.name = "dtype",
     .type = CLI_CHOICE,
     .to = &dtype,
     .choices = "f32|bf16",
     .help = "type of activations and products"},
    {.name = "device", .type = CLI_TEXT, .to = &device, .arg = "NAME", .help = "cpu or cuda[:N]"},
    {.name = "recompute",
     .type = CLI_FLAG,
     .to = &recompute,
     .help = "less memory: activations made twice"},
    {.name = "checkpoint-every",
     .type = CLI_TEXT,
     .to = &every,
     .arg = "N|Nm",
     .help = "steps or minutes; 0 = only when stopped"},
    {.name = "resume", .type = CLI_FLAG, .to = &resume, .help = "go on from the newest checkpoint"},
    {.name = "skip-bad-steps",
     .type = CLI_FLAG,
     .to = &skip_bad,
     .help = "pass over steps that give NaN or Inf"},
    {.name = "export-hf",
     .type = CLI_FLAG,
     .to = &export_hf,
     .help = "write Hugging Face's layout too"},
    {.name = "log",
     .type = CLI_TEXT,
     .to = &log_file,
     .arg = "FILE",
     .no_default = true,
     .help = "a line a step (else DIR/log.jsonl)"},
};

static const struct cli cli = {
    .tool = "distill-train",
    .summary = "trains a CLIP student from samples and a teacher's stored embeddings",
    .operands = "[SAMPLES]",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .max_operands = 1,
    .no_output = true,
};

struct run {
    struct log log;
    struct progress progress;
    struct dev dev;
    struct train_set set;
    struct clip_config cfg;
    struct train_core core;
    struct train_data *data;
    struct train_log lines;
    struct train_state state;
    char checkpoint[PATH_MAX]; // the last good one, "" = none
    char log_path[PATH_MAX], tok_path[PATH_MAX];
    uint64_t every_steps;
    double every_seconds, last_checkpoint;
    uint64_t bad_steps;
    int needs;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// -- the command line

// N or Nm
static int parse_every(struct run *r, struct err *e)
{
    char *end;
    unsigned long long n = strtoull(every, &end, 10);
    bool minutes = end != every && !strcmp(end, "m");
    if (end == every || *every == '-' || (*end && !minutes))
        return err_set(e, "--checkpoint-every: '%s' is neither N (steps) nor Nm (minutes)", every);
    r->every_steps = minutes ? 0 : n;
    r->every_seconds = minutes ? (double)n * 60 : 0;
    return 0;
}

static int need(bool there, const char *option, struct err *e)
{
    return there ? 0 : err_set(e, "the losses need %s", option);
}

static int check(struct run *r, struct err *e)
{
    if (!output)
        return err_set(e, "missing -o DIR");
    if (!student && !init)
        return err_set(e, "missing --student CONFIG (or --init MODEL)");
    if (losses_parse(&r->set.losses, loss_list, e))
        return err_wrap(e, "--loss");
    r->needs = losses_needs(&r->set.losses);
    if (((r->needs & LOSS_TEACHER_IMAGE) && need(teacher_image, "--teacher-image DIR", e)) ||
        ((r->needs & LOSS_TEACHER_TEXT) && need(teacher_text, "--teacher-text DIR", e)) ||
        ((r->needs & LOSS_CLUSTERS) &&
         (need(labels, "--labels DIR", e) || need(centroids, "--centroids FILE", e))))
        return -1;
    if (batch % accumulate)
        return err_set(e, "--batch %" PRIu64 " does not divide into --accumulate %" PRIu64, batch,
                       accumulate);
    return parse_every(r, e);
}

// Beside the config or in the model folder, unless named.
static int find_tokenizer(struct run *r, struct err *e)
{
    const char *from = tokenizer ? tokenizer : init ? init : student;
    if (snprintf(r->tok_path, sizeof r->tok_path, "%s", from) >= (int)sizeof r->tok_path)
        return err_set(e, "'%s': the name is too long", from);
    if (tokenizer || init)
        return 0;
    char *slash = strrchr(r->tok_path, '/');
    if (slash)
        *slash = '\0';
    else
        snprintf(r->tok_path, sizeof r->tok_path, ".");
    return 0;
}

// -- before the first step

static int open_data(struct run *r, const char *path, struct err *e)
{
    struct train_data_set s = {.path = path, .command = command, .seed = seed, .batch = batch};
    s.epochs = steps_given && !epochs_given ? UINT64_MAX : epochs;
    s.teacher_image = r->needs & LOSS_TEACHER_IMAGE ? teacher_image : NULL;
    s.teacher_text = r->needs & LOSS_TEACHER_TEXT ? teacher_text : NULL;
    s.labels = r->needs & LOSS_CLUSTERS ? labels : NULL;
    s.tokenizer = r->tok_path;
    r->data = train_data_open(&s, &r->state.pos, &r->state.counts, e);
    return r->data ? 0 : -1;
}

// The length of the run, for the schedule.
static int plan_steps(struct run *r, struct err *e)
{
    struct optim_set *o = &r->set.optim;
    uint64_t epoch = samples_per_epoch ? samples_per_epoch : train_data_teacher_rows(r->data);
    optim_set_default(o);
    o->lr = (float)lr;
    o->weight_decay = (float)weight_decay;
    o->clip = (float)clip_grad;
    if (!steps_given && !epoch)
        return err_set(e, "the schedule needs the length of the run: --steps or --epoch-samples");
    o->steps = steps_given ? steps : epoch * epochs / batch;
    if (!o->steps)
        return err_set(e, "%" PRIu64 " samples do not fill a batch of %" PRIu64, epoch * epochs,
                       batch);
    o->warmup = warmup_given ? warmup : o->steps / 10 < WARMUP_MAX ? o->steps / 10 : WARMUP_MAX;
    return 0;
}

static void cluster_options(struct run *r)
{
    struct cluster_set *c = &r->set.cluster;
    c->sigma = (float)sigma;
    c->rate = sample_rate > 0 ? sample_rate : r->set.k <= ALL_CLASSES ? 1 : LARGE_RATE;
    c->margin = (float)margin;
    c->filter = (float)filter;
    c->frozen = freeze_centroids;
}

// Says what memory the run takes, and refuses what cannot be.
static int plan_memory(struct run *r, struct err *e)
{
    struct clip_table t;
    struct train_memory m;
    char text[256];
    if (clip_table_init(&t, &r->cfg, e))
        return -1;
    train_memory(&t, &r->set, r->dev.act_size, &m);
    clip_table_release(&t);
    uint64_t host = train_data_bytes(&r->cfg, batch, r->set.dim_t, r->set.n_label);
    uint64_t left = train_setup_memory_free();
    train_setup_memory_text(&m, text, sizeof text);
    log_note(&r->log, "memory: %s, data %.2f GiB", text, (double)host / 1073741824.0);
    bool on_cpu = !strncmp(device, "cpu", 3);
    if (left != UINT64_MAX && (on_cpu ? m.total + host : host) > left)
        return err_set(e,
                       "this needs %s; %.2f GiB are free. --recompute, a larger --accumulate, "
                       "--dtype bf16 or a smaller --sample-rate take less",
                       text, (double)left / 1073741824.0);
    return 0;
}

static int open_core(struct run *r, struct err *e)
{
    struct train_set *s = &r->set;
    size_t dim = 0;
    float *rows = NULL;
    s->dim_t = train_data_teacher_dim(r->data);
    s->n_label = train_data_labels(r->data);
    if (r->needs & LOSS_CLUSTERS) {
        if (!(rows = train_setup_centroids(centroids, &s->k, &dim, e)))
            return -1;
        if (!s->dim_t)
            s->dim_t = dim;
        if (dim != s->dim_t) {
            free(rows);
            return err_set(e, "%s: has %zu columns, the teacher's embeddings %zu", centroids, dim,
                           s->dim_t);
        }
    }
    cluster_options(r);
    s->project = project && s->dim_t;
    int rc = plan_memory(r, e);
    if (!rc)
        rc = train_core_open(&r->core, &r->dev, &r->cfg, s, rows, e);
    free(rows);
    return rc;
}

static int load_weights(struct run *r, struct err *e)
{
    if (!r->checkpoint[0])
        return train_setup_weights(&r->core, init, seed, e);
    struct err why;
    cJSON *is =
        train_setup_options(&r->core, &r->cfg, r->needs & LOSS_CLUSTERS ? centroids : NULL, e);
    if (!is)
        return -1;
    int rc = train_options_same(r->state.options, is, &why);
    cJSON_Delete(is);
    if (rc)
        return err_set(e, "--resume: %s", why.text);
    return train_checkpoint_load(r->checkpoint, &r->core, &r->state, e);
}

static int prepare(struct run *r, const char *path, const struct cli_common *common, struct err *e)
{
    if (resume) {
        int there = train_checkpoint_latest(output, r->checkpoint, e);
        if (there < 0 || (there && train_checkpoint_state(r->checkpoint, &r->state, e)))
            return -1;
        if (!there)
            log_note(&r->log, "no checkpoint in '%s': starting from the beginning", output);
    }
    r->set.batch = batch;
    r->set.accumulate = accumulate;
    r->set.recompute = recompute;
    r->set.seed = seed;
    if (dev_open(&r->dev, device, dtype ? DEV_BF16 : DEV_F32, (int)common->threads, false, e) ||
        find_tokenizer(r, e) || open_data(r, path, e) || plan_steps(r, e) ||
        train_setup_config(&r->cfg, student, init, train_data_header(r->data), r->needs & LOSS_BIAS,
                           e) ||
        open_core(r, e) || load_weights(r, e))
        return -1;
    if (!r->state.options &&
        !(r->state.options = train_setup_options(&r->core, &r->cfg,
                                                 r->needs & LOSS_CLUSTERS ? centroids : NULL, e)))
        return -1;
    if (mkdir(output, 0777) && errno != EEXIST)
        return err_errno(e, "cannot make '%s'", output);
    const char *name = log_file ? log_file : "log.jsonl";
    snprintf(r->log_path, sizeof r->log_path, log_file ? "%s%s" : "%s/%s", log_file ? "" : output,
             name);
    if (train_log_open(&r->lines, r->log_path, r->checkpoint[0], r->state.step, e))
        return -1;
    return train_data_start(r->data, &r->cfg, e);
}

// -- the steps

static int checkpoint(struct run *r, struct err *e)
{
    char path[PATH_MAX];
    r->state.taken = r->core.optim.step;
    if (train_checkpoint_write(output, &r->core, &r->state, r->tok_path, KEPT, path, e))
        return -1;
    snprintf(r->checkpoint, sizeof r->checkpoint, "%s", path);
    r->last_checkpoint = now();
    log_detail(&r->log, "checkpoint '%s'", path);
    return 0;
}

// A step that gave NaN or Inf: an error, or passed over.
static int bad_step(struct run *r, double loss, double norm, struct err *e)
{
    const char *term = "the gradient";
    for (size_t i = 0; i < loss_count(); i++)
        if (!isfinite(r->core.set.losses.value[i]))
            term = loss_kinds[i].name;
    if (skip_bad) {
        if (!r->bad_steps++)
            log_warn(&r->log, "step %" PRIu64 ": %s is not finite; passed over", r->state.step + 1,
                     term);
        return 0;
    }
    return err_set(e,
                   "step %" PRIu64 ": %s is not finite (loss %g, gradient norm %g); last good "
                   "checkpoint: %s",
                   r->state.step + 1, term, loss, norm, r->checkpoint[0] ? r->checkpoint : "none");
}

static int one_step(struct run *r, const struct train_made *m, double wait, struct err *e)
{
    double start = now(), loss, norm = NAN, rate = optim_lr(&r->set.optim, r->core.optim.step);
    if (train_core_gradient(&r->core, &m->b, &loss, e))
        return -1;
    bool bad = !isfinite(loss);
    if (!bad && train_core_update(&r->core, &norm, e))
        return -1;
    bad = bad || !isfinite(norm);
    if (bad && bad_step(r, loss, norm, e))
        return -1;
    r->state.step++;
    r->state.samples += m->b.n;
    r->state.pos = m->pos;
    r->state.counts = m->counts;
    snprintf(r->progress.extra, sizeof r->progress.extra, "loss %.4f", loss);
    progress_to(&r->progress, r->state.step);
    struct train_line line = {&r->core, &r->state,         loss, norm, rate, now() - start + wait,
                              wait,     log_peak_memory(), bad};
    return train_log_step(&r->lines, &line, e);
}

static bool checkpoint_due(const struct run *r)
{
    if (r->every_steps && r->state.step % r->every_steps == 0)
        return true;
    return r->every_seconds > 0 && now() - r->last_checkpoint >= r->every_seconds;
}

// 0 done, 1 a signal asked for the end, -1.
static int train(struct run *r, struct err *e)
{
    uint64_t n = r->set.optim.steps;
    r->last_checkpoint = now();
    while (r->state.step < n && !sig_stop_wanted()) {
        const struct train_made *m;
        double start = now();
        int rc = train_data_next(r->data, &m, e);
        if (rc < 0)
            return -1;
        if (rc != 1) {
            if (rc == 0)
                log_warn(&r->log,
                         "the data ended after %" PRIu64 " of %" PRIu64
                         " steps; %zu samples did not fill a batch",
                         r->state.step, n, train_data_left(r->data));
            break;
        }
        if (one_step(r, m, now() - start, e))
            return -1;
        if (checkpoint_due(r) && r->state.step < n && checkpoint(r, e))
            return -1;
    }
    return sig_stop_wanted() && r->state.step < n;
}

static void footer(struct run *r)
{
    const struct train_counts *c = &r->state.counts;
    char text[256];
    snprintf(text, sizeof text,
             "%" PRIu64 " steps, %" PRIu64 " samples; passed over: %" PRIu64 " incomplete, %" PRIu64
             " without teacher row, %" PRIu64 " without label",
             r->state.step, r->state.samples, c->incomplete, c->no_teacher, c->no_label);
    if (train_data_no_sidecar(r->data))
        log_note(&r->log, "teacher files without sidecar: only their row counts were checked");
    if (r->bad_steps)
        log_warn(&r->log, "%" PRIu64 " steps were not finite and passed over", r->bad_steps);
    log_footer(&r->log, r->state.samples, text);
}

static int run(struct run *r, const char *path, const struct cli_common *common, struct err *e)
{
    if (prepare(r, path, common, e))
        return -1;
    progress_start(&r->progress, &r->log, r->set.optim.steps, "steps");
    progress_to(&r->progress, r->state.step);
    int rc = train(r, e);
    progress_end(&r->progress);
    if (rc > 0) {
        if (checkpoint(r, e))
            return -1;
        log_note(&r->log, "stopped after step %" PRIu64 "; --resume goes on from '%s'",
                 r->state.step, r->checkpoint);
        return 1;
    }
    if (rc || (strcmp(every, "0") && checkpoint(r, e)) ||
        train_export(output, &r->core, r->tok_path, export_hf, e))
        return -1;
    footer(r);
    return 0;
}

static void release(struct run *r)
{
    train_log_close(&r->lines);
    train_data_close(r->data);
    train_core_close(&r->core);
    train_state_release(&r->state);
    if (r->dev.op)
        dev_close(&r->dev);
}

int main(int argc, char **argv)
{
    static struct run r; // static: a thread that hangs in a read still sees it
    struct cli_common common = CLI_COMMON_INIT;
    struct err e;
    int status;
    if (!cli_start(&cli, &common, argc, argv, &status))
        return status;
    log_init(&r.log, stderr, &cli, &common);
    r.lines.fd = -1;
    if (check(&r, &e)) {
        log_error(&r.log, "%s; try --help", e.text);
        cli_release(&cli);
        return CLI_WRONG_USAGE;
    }
    sig_catch_stop();
    int rc = run(&r, common.n_operands ? common.operands[0] : "-", &common, &e);
    if (rc < 0)
        log_error(&r.log, "%s", e.text);
    release(&r);
    cli_release(&cli);
    if (rc > 0)
        sig_die_of_stop();
    return rc ? CLI_FAILED : CLI_OK;
}
