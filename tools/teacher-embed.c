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
#include "system/io.h"
#include "system/log.h"
#include "model/describe.h"
#include "model/digest.h"
#include "shards/shard-list.h"
#include "shards/shard-remote.h"
#include "system/signals.h"

static const char stdout_name[] = "-";
static bool images = true;
static const char *model_dir, *image_out, *text_out, *tokens_out, *tokenizer_path, *describe;
static const char *device = "cpu";
static uint64_t batch = 64, max_pixels = 89478485;
static int dtype, out_dtype;
static int alpha; // enum image_alpha
static bool batch_given, normalize = true, shortcuts = true, emulate, partial;
static struct cli_list shard_specs;
static struct remote_options remote = REMOTE_DEFAULTS;

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
    {.name = "tokenizer",
     .type = CLI_TEXT,
     .to = &tokenizer_path,
     .arg = "PATH",
     .help = "vocabulary file or folder, when the model folder has none"},
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
    struct clip_weights weights;
    struct dev dev;
    struct clip_model model;
    struct tokenizer *tokenizer;
    struct embed_source source;
    struct embed_output output;
    struct sidecar sidecar;
    struct embed_run run;
};

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

// What goes where; usage errors.
static int plan(struct job *job, const struct cli_common *common, struct err *e)
{
    bool output_given = common->output != stdout_name;
    struct embed_output *o = &job->output;
    if (!model_dir)
        return err_set(e, "no model: -m DIR");
    if (image_out && output_given)
        return err_set(e, "--image-out and -o both name the image embeddings");
    if (!shard_specs.n && common->n_operands > 1)
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
    for (size_t i = 0; i < shard_specs.n; i++)
        if (shard_list_add(&job->shards, shard_specs.items[i], e))
            return -1;
    // What the shell made of a pattern behind --shards.
    for (size_t i = 0; shard_specs.n && i < common->n_operands; i++)
        if (shard_list_add(&job->shards, common->operands[i], e))
            return -1;
    char **inputs = shard_specs.n ? job->shards.names : common->operands;
    return io_check_apart(all, 3, inputs, shard_specs.n ? job->shards.n : common->n_operands, e);
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
                               .captions = text_out || tokens_out,
                               .alpha = (enum image_alpha)alpha,
                               .max_pixels = max_pixels,
                               .partial = partial,
                               .threads = (int)common->threads};
    if (shard_specs.n) {
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
    size_t context = text_out || tokens_out ? (size_t)c->context : 0;
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
    struct clip_model_options o = {
        .vision = job->output.image_path != NULL, .text = text_out != NULL, .whole = !shortcuts};
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

static int run(struct job *job, const struct cli_common *common, int argc, char **argv,
               struct err *e)
{
    if (!common->quiet)
        signals_tell_at_death(&written, " samples; no file was written, the same command makes it");
    const char *outputs[] = {job->output.image_path, text_out, tokens_out};
    if (io_check_outputs(outputs, 3, e) || clip_weights_open(&job->weights, model_dir, e))
        return -1;
    const struct clip_config *c = &job->weights.table.cfg;
    bool captions = text_out || tokens_out;
    if ((captions && open_tokenizer(job, e)) || open_input(job, common, e) ||
        sidecar_init(&job->sidecar, cli.tool, e) ||
        sidecar_set_args(&job->sidecar, argc, argv, e) ||
        model_digest(&job->weights, job->sidecar.model, e) || open_model(job, common, e) ||
        embed_output_open(&job->output, out_dtype ? NPY_F4 : NPY_F2, (size_t)c->embed_dim,
                          (size_t)c->context, e))
        return -1;
    if (!c->preprocess.given)
        log_detail(&job->log, "the model folder names no preprocessing: CLIP's own is assumed");
    job->run = (struct embed_run){.model = &job->model,
                                  .source = &job->source,
                                  .tokenizer = job->tokenizer,
                                  .output = &job->output,
                                  .sidecar = &job->sidecar,
                                  .batch = batch,
                                  .image = job->output.image_path != NULL,
                                  .text = text_out != NULL,
                                  .unit = normalize,
                                  .context = captions ? (size_t)c->context : 0,
                                  .progress = on_progress,
                                  .progress_ctx = &job->progress};
    progress_start(&job->progress, &job->log, 0, "samples");
    int rc = embed_run_all(&job->run, e);
    progress_end(&job->progress);
    if (rc)
        embed_output_abort(&job->output);
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
