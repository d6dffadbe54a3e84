// SPDX-License-Identifier: Apache-2.0
// teacher-embed: samples in, CLIP embeddings out. Row i of every output is sample i of the input; a
// sample without a usable picture or caption has a row of zeros there.
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device/dev.h"
#include "system/cli.h"
#include "model/model.h"
#include "model/tokenizer-check.h"
#include "embed/memory.h"
#include "embed/run.h"
#include "embed/shards.h"
#include "system/io.h"
#include "system/lines.h"
#include "system/log.h"
#include "model/describe.h"
#include "model/digest.h"
#include "shards/shard-list.h"
#include "shards/select.h"
#include "shards/shard-remote.h"
#include "system/signals.h"

static const char stdout_name[] = "-";
static bool images = true;
static const char *model_dir, *image_out, *text_out, *tokens_out, *tokenizer_path, *describe;
static const char *device = "cpu";
static uint64_t size; // 0: not told
static uint64_t batch = 64, max_pixels = 89478485;
static int dtype, out_dtype;
static int alpha; // enum image_alpha
static bool batch_given, normalize = true, shortcuts = true, emulate, partial;
static bool resume = true;
static struct cli_list shard_specs;
static struct remote_options remote = REMOTE_DEFAULTS;
static const char *select_text;
static const char *shards_from, *image_dir, *text_dir, *index_dir;

static const struct cli_option options[] = {
    {.name = "model",
     .letter = 'm',
     .type = CLI_TEXT,
     .to = &model_dir,
     .arg = "DIR",
     .help = "model folder, of open_clip or Hugging Face (required)"},
    {.name = "image-out",
     .type = CLI_TEXT,
     .to = &image_out,
     .arg = "FILE",
     .help = "image embeddings, in place of -o"},
    {.name = "text-out",
     .type = CLI_TEXT,
     .to = &text_out,
     .arg = "FILE",
     .help = "text embeddings"},
    {.name = "tokens-out",
     .type = CLI_TEXT,
     .to = &tokens_out,
     .arg = "FILE",
     .help = "token ids of the captions"},
    {.name = "images", .type = CLI_FLAG, .to = &images, .help = "run the image tower"},
    {.name = "shards",
     .type = CLI_LIST,
     .to = &shard_specs,
     .arg = "SHARD",
     .help = "read this tar file, and all operands, directly"},
    {.name = "shards-from",
     .type = CLI_TEXT,
     .to = &shards_from,
     .arg = "FILE",
     .help = "read the tar files named in FILE, one a line"},
    {.name = "image-dir",
     .type = CLI_TEXT,
     .to = &image_dir,
     .arg = "DIR",
     .help = "with --shards-from: image embeddings, a file a shard"},
    {.name = "text-dir",
     .type = CLI_TEXT,
     .to = &text_dir,
     .arg = "DIR",
     .help = "the same for text embeddings"},
    {.name = "index-dir",
     .type = CLI_TEXT,
     .to = &index_dir,
     .arg = "DIR",
     .help = "refuse shards whose keys are not those of their index in DIR"},
    {.name = "resume",
     .type = CLI_FLAG,
     .to = &resume,
     .help = "pass over shards whose files are there and belong"},
    {.name = "tokenizer",
     .type = CLI_TEXT,
     .to = &tokenizer_path,
     .arg = "PATH",
     .help = "vocabulary file or folder, when the model folder has none"},
    {.name = "size",
     .type = CLI_UINT,
     .to = &size,
     .arg = "N",
     .no_default = true,
     .help = "refuse a model whose pictures are not N x N pixels"},
    {.name = "batch",
     .type = CLI_UINT,
     .to = &batch,
     .given = &batch_given,
     .arg = "N",
     .min = 1,
     .max = 65536,
     .help = "samples handed on at a time"},
    {.name = "dtype",
     .type = CLI_CHOICE,
     .to = &dtype,
     .choices = "f32|bf16|auto",
     .help = "numbers to compute with"},
    {.name = "emulate",
     .type = CLI_FLAG,
     .to = &emulate,
     .help = "allow bf16 where the processor has none (slow)"},
    {.name = "device",
     .type = CLI_TEXT,
     .to = &device,
     .arg = "NAME",
     .check = dev_name_check,
     .help = "cpu or cuda[:N]"},
    {.name = "out-dtype",
     .type = CLI_CHOICE,
     .to = &out_dtype,
     .choices = "f16|f32",
     .help = "numbers of the embeddings"},
    {.name = "normalize", .type = CLI_FLAG, .to = &normalize, .help = "unit rows"},
    {.name = "shortcuts",
     .type = CLI_FLAG,
     .to = &shortcuts,
     .help = "leave out what does not change the result"},
    {.name = "partial",
     .type = CLI_FLAG,
     .to = &partial,
     .help = "embed what is left of a damaged shard"},
    {.name = "alpha",
     .type = CLI_CHOICE,
     .to = &alpha,
     .choices = "drop|white",
     .help = "with --shards: transparent pictures"},
    {.name = "select",
     .type = CLI_TEXT,
     .to = &select_text,
     .arg = "CONDITIONS",
     .help = "with --shards: leave out samples by their json"},
    {.name = "max-pixels",
     .type = CLI_UINT,
     .to = &max_pixels,
     .arg = "N",
     .min = 1,
     .help = "with --shards: refuse larger pictures"},
    {.name = "describe",
     .type = CLI_TEXT,
     .to = &describe,
     .arg = "CONFIG",
     .help = "say what a config or model folder is, and do nothing else"},
    SHARD_REMOTE_OPTIONS(remote),
};

static const struct cli cli = {
    .tool = "teacher-embed",
    .summary = "embeds the pictures and captions of a samples stream with a CLIP model",
    .operands = "[SAMPLES | SHARD...]",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .max_operands = SIZE_MAX,
};

// Everything that is open.
struct job {
    struct log log;
    struct progress progress;
    struct shard_list shards;
    struct lines list; // of --shards-from
    struct select *select;
    struct clip_weights weights;
    struct dev dev;
    struct clip_model model;
    struct tokenizer *tokenizer;
    struct embed_source source;
    struct embed_output output; // its paths
    bool captions;              // are read
    struct sidecar sidecar;
    struct embed_shards many; // with --image-dir or --text-dir
    struct embed_run run;
};

static bool in_folders(void)
{
    return image_dir || text_dir;
}

// Where image embeddings go: where they are told to; else to standard output, unless another output
// goes there, or it is a terminal and there are others.
static const char *image_path(const struct cli_common *common)
{
    bool others = text_out || tokens_out;
    bool taken = (text_out && !strcmp(text_out, "-")) || (tokens_out && !strcmp(tokens_out, "-"));
    if (!images)
        return NULL;
    if (image_out || common->output != stdout_name)
        return image_out ? image_out : common->output;
    return taken || (others && isatty(STDOUT_FILENO)) ? NULL : common->output;
}

// A file a shard.
static int plan_folders(struct job *job, const struct cli_common *common, struct err *e)
{
    if (!shards_from || shard_specs.n || common->n_operands)
        return err_set(e, "--image-dir and --text-dir take their shards from --shards-from alone");
    if (image_out || text_out || tokens_out || common->output != stdout_name)
        return err_set(e, "--image-dir and --text-dir go with no other output");
    if (!images && image_dir)
        return err_set(e, "--no-images leaves nothing for --image-dir");
    job->output.image_path = image_dir;
    job->output.text_path = text_dir;
    return 0;
}

static int plan_files(struct job *job, const struct cli_common *common, struct err *e)
{
    bool output_given = common->output != stdout_name;
    struct embed_output *o = &job->output;
    if (index_dir)
        return err_set(e, "--index-dir goes with --image-dir and --text-dir");
    if (image_out && output_given)
        return err_set(e, "--image-out and -o both name the image embeddings");
    if (!shard_specs.n && !shards_from && common->n_operands > 1)
        return err_set(e, "more than one samples stream (tar files need --shards)");
    o->text_path = text_out;
    o->tokens_path = tokens_out;
    if (!images && (image_out || output_given))
        return err_set(e, "--no-images leaves nothing for %s", image_out ? "--image-out" : "-o");
    o->image_path = image_path(common);
    if (!o->image_path && !text_out && !tokens_out)
        return err_set(e, "nothing to do: --no-images without --text-out or --tokens-out");
    const char *all[] = {o->image_path, o->text_path, o->tokens_path};
    int to_stdout = 0;
    for (int i = 0; i < 3; i++)
        to_stdout += all[i] && !strcmp(all[i], "-");
    if (to_stdout && isatty(STDOUT_FILENO))
        return err_set(e, "arrays are not written to a terminal; use -o FILE or a pipe");
    return 0;
}

// The shards, in the order of the command line, then those of the list.
static int list_shards(struct job *job, const struct cli_common *common, struct err *e)
{
    for (size_t i = 0; i < shard_specs.n; i++)
        if (shard_list_add(&job->shards, shard_specs.items[i], e))
            return -1;
    // What the shell made of a pattern behind --shards.
    for (size_t i = 0; (shard_specs.n || shards_from) && i < common->n_operands; i++)
        if (shard_list_add(&job->shards, common->operands[i], e))
            return -1;
    for (size_t i = 0; i < job->list.n; i++)
        if (shard_list_add_name(&job->shards, job->list.line[i], e))
            return -1;
    return in_folders() ? shard_list_check_names(&job->shards, e) : 0;
}

// What goes where; usage errors.
static int plan(struct job *job, const struct cli_common *common, struct err *e)
{
    struct embed_output *o = &job->output;
    if (!model_dir)
        return err_set(e, "no model: -m DIR");
    if (in_folders() ? plan_folders(job, common, e) : plan_files(job, common, e))
        return -1;
    job->captions = o->text_path || o->tokens_path;
    if (select_text && !shard_specs.n && !shards_from)
        return err_set(e, "--select goes with --shards; a stream is selected by shard-read");
    if (select_text && !(job->select = select_new(select_text, e)))
        return -1;
    if (shards_from && lines_read(&job->list, shards_from, e)) {
        e->machine = true;
        return -1;
    }
    if (list_shards(job, common, e))
        return -1;
    if (in_folders())
        return 0;
    bool direct = shard_specs.n || shards_from;
    const char *all[] = {o->image_path, o->text_path, o->tokens_path};
    char **inputs = direct ? job->shards.names : common->operands;
    return io_check_apart(all, 3, inputs, direct ? job->shards.n : common->n_operands, e);
}

static int open_tokenizer(struct job *job, struct err *e)
{
    const struct clip_config *c = &job->weights.table.cfg;
    job->tokenizer = clip_tokenizer_open(tokenizer_path ? tokenizer_path : model_dir, c, e);
    return job->tokenizer ? 0 : -1;
}

// A stream of captions only, and no word about image embeddings: none are wanted.
static void drop_images(struct job *job, const struct cli_common *common)
{
    bool asked = image_out || common->output != stdout_name || (!text_out && !tokens_out);
    if (asked || samples_header(job->source.stream)->images != SAMPLES_NO_IMAGES)
        return;
    job->source.images = false;
    job->output.image_path = NULL;
}

static int open_input(struct job *job, const struct cli_common *common, struct err *e)
{
    struct err warning;
    struct embed_source *s = &job->source;
    *s = (struct embed_source){.cfg = &job->weights.table.cfg,
                               .images = job->output.image_path != NULL,
                               .captions = job->captions,
                               .alpha = (enum image_alpha)alpha,
                               .max_pixels = max_pixels,
                               .select = job->select,
                               .partial = partial,
                               .threads = (int)common->threads};
    static const struct shard_list none = {0};
    if (in_folders()) {
        s->shards = &none; // set for each
        if (shard_remote_open(&job->shards, &remote, &s->remote, e))
            return -1;
    } else if (shard_specs.n || shards_from) {
        s->shards = &job->shards;
        if (shard_remote_open(&job->shards, &remote, &s->remote, e))
            return -1;
    } else {
        s->stream = samples_open(common->n_operands ? common->operands[0] : "-", e);
        if (!s->stream)
            return -1;
        drop_images(job, common);
    }
    if (embed_source_check(s, &warning, e))
        return -1;
    if (warning.text[0])
        log_warn(&job->log, "%s", warning.text);
    return 0;
}

// Says what a GPU's memory is for, before the model is loaded, and refuses what does not fit.
static int check_memory(struct job *job, const struct clip_model_options *o, struct err *e)
{
    const struct clip_config *c = &job->weights.table.cfg;
    size_t side = o->vision ? (size_t)c->image_size : 0;
    size_t context = job->captions ? (size_t)c->context : 0;
    struct embed_shape shape = {batch, 3 * side * side, context, (size_t)c->embed_dim};
    char text[EMBED_MEMORY_TEXT];
    if (embed_check_memory(&job->weights.table, o, &job->dev, &shape, text, e))
        return -1;
    if (job->dev.reserve && (o->vision || o->text))
        log_note(&job->log, "memory: %s", text);
    return 0;
}

// Enough samples to fill the device, where the user says nothing.
static void choose_batch(struct job *job)
{
    const struct clip_config *c = &job->weights.table.cfg;
    size_t rows = (size_t)clip_config_positions(c), pass = job->dev.pass_rows;
    if (!batch_given && pass / rows > batch)
        batch = pass / rows;
}

static int open_model(struct job *job, const struct cli_common *common, struct err *e)
{
    struct clip_model_options o = {.vision = job->output.image_path != NULL,
                                   .text = job->output.text_path != NULL,
                                   .whole = !shortcuts};
    if (dev_open(&job->dev, device, (enum dev_type)dtype, (int)common->threads, emulate, e))
        return -1;
    choose_batch(job);
    if (check_memory(job, &o, e))
        return -1;
    double start = log_seconds(&job->log);
    if (clip_model_load(&job->model, &job->dev, &job->weights, &o, e))
        return err_wrap(e, "%s", model_dir);
    log_detail(&job->log, "model loaded in %.1f s", log_seconds(&job->log) - start);
    return 0;
}

static atomic_ullong written; // samples, for the line at a signal

static void on_progress(void *ctx, uint64_t samples)
{
    atomic_store(&written, samples);
    progress_to(ctx, samples);
}

// The one item of a run without folders.
static int only_item(void *ctx, struct embed_item *item, struct err *e)
{
    struct job *job = ctx;
    if (job->many.at++)
        return 0;
    item->source = job->source;
    item->output = job->output;
    item->sidecar = job->sidecar; // the run's from now on
    job->sidecar = (struct sidecar){0};
    (void)e;
    return 1;
}

static int only_done(void *ctx, struct embed_item *item, struct err *e)
{
    (void)ctx;
    if (item->failed)
        *e = item->err;
    return item->failed ? -1 : 0;
}

static void tell_shard(void *ctx, const char *path, const struct err *failed)
{
    struct job *job = ctx;
    if (failed)
        log_error(&job->log, "%s", failed->text);
    else
        log_detail(&job->log, "%s: done", path);
}

// Where samples come from, item by item, and what happens when one is done.
static void choose_items(struct job *job)
{
    struct embed_run *r = &job->run;
    r->ctx = job;
    r->next = only_item;
    r->done = only_done;
    if (!in_folders())
        return;
    job->many = (struct embed_shards){.list = &job->shards,
                                      .image_dir = image_dir,
                                      .text_dir = text_dir,
                                      .index_dir = index_dir,
                                      .source = &job->source,
                                      .like = &job->sidecar,
                                      .resume = resume,
                                      .tell = tell_shard,
                                      .ctx = job};
    r->ctx = &job->many;
    r->next = embed_shards_next;
    r->check = embed_shards_check;
    r->done = embed_shards_done;
}

static int check_outputs(struct job *job, struct err *e)
{
    bool made;
    const char *outputs[] = {job->output.image_path, text_out, tokens_out};
    if (!in_folders())
        return io_check_outputs(outputs, 3, e);
    if (image_dir && io_make_folder(image_dir, &made, e))
        return -1;
    return text_dir ? io_make_folder(text_dir, &made, e) : 0;
}

static int run(struct job *job, const struct cli_common *common, int argc, char **argv,
               struct err *e)
{
    if (!common->quiet)
        signals_tell_at_death(
            &written, in_folders() ? " samples; the same command goes on at the first missing shard"
                                   : " samples; no file was written, the same command makes it");
    if (check_outputs(job, e) || clip_weights_open(&job->weights, model_dir, e))
        return -1;
    const struct clip_config *c = &job->weights.table.cfg;
    if (size && size != (uint64_t)c->image_size)
        return err_set(e, "--size is %llu, the pictures of '%s' are %d a side",
                       (unsigned long long)size, model_dir, c->image_size);
    if ((job->captions && open_tokenizer(job, e)) || open_input(job, common, e) ||
        sidecar_init(&job->sidecar, cli.tool, e) ||
        sidecar_set_args(&job->sidecar, argc, argv, e) ||
        model_digest(&job->weights, job->sidecar.model, e) || open_model(job, common, e))
        return -1;
    if (!c->preprocess.given)
        log_detail(&job->log, "the model folder names no preprocessing: CLIP's own is assumed");
    job->run = (struct embed_run){.model = &job->model,
                                  .tokenizer = job->tokenizer,
                                  .type = out_dtype ? NPY_F4 : NPY_F2,
                                  .batch = batch,
                                  .image = job->output.image_path != NULL,
                                  .text = job->output.text_path != NULL,
                                  .unit = normalize,
                                  .context = job->captions ? (size_t)c->context : 0,
                                  .progress = on_progress,
                                  .progress_ctx = &job->progress};
    choose_items(job);
    progress_start(&job->progress, &job->log, 0, "samples");
    int rc = embed_run_all(&job->run, e);
    progress_end(&job->progress);
    if (!rc && job->many.failed)
        return err_set(e, "%zu of %zu shards failed, the first: %s", job->many.failed,
                       job->shards.n, job->many.first.text);
    return rc;
}

static void release(struct job *job)
{
    clip_model_release(&job->model);
    dev_close(&job->dev);
    samples_close(job->source.stream);
    remote_free(job->source.remote);
    tokenizer_free(job->tokenizer);
    clip_weights_close(&job->weights);
    sidecar_release(&job->sidecar);
    shard_list_release(&job->shards);
    lines_release(&job->list);
    select_free(job->select);
}

static void footer(struct job *job)
{
    char text[256];
    const struct embed_run *r = &job->run;
    int n = snprintf(text, sizeof text, "%llu samples", (unsigned long long)r->samples);
    if (r->image)
        n += snprintf(text + n, sizeof text - (size_t)n, ", %llu without a picture",
                      (unsigned long long)r->no_image);
    if (r->context)
        n += snprintf(text + n, sizeof text - (size_t)n, ", %llu without a caption",
                      (unsigned long long)r->no_text);
    if (in_folders())
        n += snprintf(text + n, sizeof text - (size_t)n, "; %zu shards, %zu were there",
                      job->many.made, job->many.passed);
    snprintf(text + n, sizeof text - (size_t)n, "; waited %.1f s for samples", r->read_wait);
    log_footer(&job->log, r->samples, text);
}

// --describe: a file or a folder.
static int tell(struct err *e)
{
    static const char *const what[2] = {"picture", "text of full length"};
    struct clip_config c;
    struct clip_numbers n;
    struct stat st;
    bool folder = stat(describe, &st) == 0 && S_ISDIR(st.st_mode);
    if (folder ? clip_config_read_folder(&c, describe, e) : clip_config_read_file(&c, describe, e))
        return -1;
    if (clip_describe(&c, &n, e))
        return err_wrap(e, "%s", describe);
    for (int i = 0; i < 2; i++)
        printf("%s tower: %s\n    %zu parameters, %.2f GFLOP a %s (%.2f computed)\n",
               i ? "text" : "image", n.text[i], n.parameters[i], n.gflop[i], what[i], n.cheap[i]);
    printf("embeddings of %d columns\n", c.embed_dim);
    return fflush(stdout) ? err_errno(e, "standard output") : 0;
}

int main(int argc, char **argv)
{
    struct cli_common common = CLI_COMMON_INIT;
    static struct job job;
    struct err e;
    int status;
    common.output = stdout_name;
    // Parsing sorts argv; the sidecars show the command as it was given.
    char **given = malloc((size_t)argc * sizeof *given);
    if (!given) {
        fprintf(stderr, "%s: out of memory\n", cli.tool);
        return CLI_FAILED;
    }
    memcpy(given, argv, (size_t)argc * sizeof *given);
    if (!cli_start(&cli, &common, argc, argv, &status)) {
        free(given);
        return status;
    }
    log_init(&job.log, stderr, &cli, &common);
    bool refused = !describe && plan(&job, &common, &e);
    if (refused && !e.machine) {
        log_error(&job.log, "%s; try --help", e.text);
        status = CLI_WRONG_USAGE;
    } else if (describe ? tell(&e) : refused || run(&job, &common, argc, given, &e)) {
        log_error(&job.log, "%s", e.text);
        status = CLI_FAILED;
    } else {
        if (!describe)
            footer(&job);
        status = CLI_OK;
    }
    release(&job);
    cli_release(&cli);
    free(given);
    return status;
}
