// SPDX-License-Identifier: Apache-2.0
#include "embed/stage.h"

#include <stdio.h>
#include <stdlib.h>

#include "embed/memory.h"
#include "model/digest.h"
#include "model/tokenizer-check.h"
#include "read/count.h"
#include "system/io.h"
#include "system/signals.h"

static int open_tokenizer(struct embed_job *s, struct err *e)
{
    const struct clip_config *c = &s->weights.table.cfg;
    s->tokenizer = clip_tokenizer_open(s->o->tokenizer ? s->o->tokenizer : s->o->model, c, e);
    return s->tokenizer ? 0 : -1;
}

// Drops the image embeddings when the stream has only captions and no option names an image output.
static void drop_images(struct embed_job *s)
{
    bool asked = s->o->image_out || s->common->output != embed_stage_stdout ||
                 (!s->o->text_out && !s->o->tokens_out);
    if (asked || samples_header(s->source.stream)->images != SAMPLES_NO_IMAGES)
        return;
    s->source.images = false;
    s->output.image_path = NULL;
}

static int open_input(struct embed_job *s, struct err *e)
{
    struct err warning;
    struct embed_source *in = &s->source;
    *in = (struct embed_source){.cfg = &s->weights.table.cfg,
                                .images = s->output.image_path != NULL,
                                .captions = s->captions,
                                .caption = s->o->caption,
                                .alpha = (enum image_alpha)s->o->alpha,
                                .max_pixels = s->o->max_pixels,
                                .select = s->select,
                                .partial = s->o->partial,
                                .augment = s->augmented ? &s->augment : NULL,
                                .seed = s->o->seed,
                                .view = s->o->view,
                                .threads = (int)s->common->threads};
    static const struct shard_list none = {0};
    if (embed_in_folders(s)) {
        in->shards = &none; // set for each
        if (shard_remote_open(&s->shards, &s->o->remote, &in->remote, e))
            return -1;
    } else if (s->o->shards.n || s->o->shards_from) {
        in->shards = &s->shards;
        if (shard_remote_open(&s->shards, &s->o->remote, &in->remote, e))
            return -1;
    } else {
        in->stream = samples_open(s->common->n_operands ? s->common->operands[0] : "-", e);
        if (!in->stream)
            return -1;
        drop_images(s);
    }
    if (embed_source_check(in, &warning, e))
        return -1;
    if (warning.text[0])
        log_warn(s->log, "%s", warning.text);
    return 0;
}

// Logs the plan of a GPU's memory before the model is loaded, and refuses what does not fit.
static int check_memory(struct embed_job *s, const struct clip_model_options *parts, struct err *e)
{
    const struct clip_config *c = &s->weights.table.cfg;
    size_t side = parts->vision ? (size_t)c->image_size : 0;
    size_t context = s->captions ? (size_t)c->context : 0;
    struct embed_shape shape = {s->run.batch, 3 * side * side, context, (size_t)c->embed_dim};
    char text[EMBED_MEMORY_TEXT];
    if (embed_check_memory(&s->weights.table, parts, &s->dev, &shape, text, e))
        return -1;
    if (s->dev.reserve && (parts->vision || parts->text))
        log_note(s->log, "memory: %s", text);
    return 0;
}

// Enough samples to fill the device, unless --batch is given.
static size_t choose_batch(const struct embed_job *s)
{
    const struct clip_config *c = &s->weights.table.cfg;
    size_t rows = (size_t)clip_config_positions(c), pass = s->dev.pass_rows;
    return !s->o->batch_given && pass / rows > s->o->batch ? pass / rows : (size_t)s->o->batch;
}

static int open_model(struct embed_job *s, struct err *e)
{
    struct clip_model_options parts = {.vision = s->output.image_path != NULL,
                                       .text = s->output.text_path != NULL,
                                       .whole = !s->o->shortcuts};
    if (dev_open(&s->dev, s->o->device, (enum dev_type)s->o->dtype, (int)s->common->threads,
                 s->o->emulate, e))
        return -1;
    if (s->o->dtype == DEV_AUTO)
        log_note(s->log, "--dtype auto: %s", dev_dtype(&s->dev));
    s->run.batch = choose_batch(s);
    if (check_memory(s, &parts, e))
        return -1;
    double start = log_seconds(s->log);
    if (clip_model_load(&s->model, &s->dev, &s->weights, &parts, e))
        return err_wrap(e, "%s", s->o->model);
    log_detail(s->log, "model loaded in %.1f s", log_seconds(s->log) - start);
    return 0;
}

static void on_progress(void *ctx, uint64_t samples)
{
    struct embed_job *s = ctx;
    atomic_store(&s->written, samples);
    s->progress.before = atomic_load(&s->many.passed_rows);
    progress_to(&s->progress, s->progress.before + samples);
}

// The samples of all shards by their indices, or 0 where one has none.
static uint64_t total_of(const struct embed_job *s)
{
    struct err ignored; // told when its turn comes
    struct read_options o = {.shards = &s->shards, .counts = s->o->index_dir};
    uint64_t *counts, total = 0;
    if (!s->o->index_dir || read_counts(&o, &counts, &total, &ignored))
        return 0;
    free(counts);
    return total;
}

// The one item of a run without folders.
static int only_item(void *ctx, struct embed_item *item, struct err *e)
{
    struct embed_job *s = ctx;
    if (s->many.at++)
        return 0;
    item->source = s->source;
    item->output = s->output;
    item->sidecar = s->sidecar; // the run's from now on
    s->sidecar = (struct sidecar){0};
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
    struct embed_job *s = ctx;
    if (failed)
        log_error(s->log, "%s", failed->text);
    else
        log_detail(s->log, "%s: done", path);
}

// Where samples come from, item by item, and what happens when one is done.
static void choose_items(struct embed_job *s)
{
    struct embed_run *r = &s->run;
    r->ctx = s;
    r->next = only_item;
    r->done = only_done;
    if (!embed_in_folders(s))
        return;
    s->many = (struct embed_shards){.list = &s->shards,
                                    .image_dir = s->o->image_dir,
                                    .text_dir = s->o->text_dir,
                                    .index_dir = s->o->index_dir,
                                    .source = &s->source,
                                    .like = &s->sidecar,
                                    .resume = s->o->resume,
                                    .tell = tell_shard,
                                    .ctx = s};
    r->ctx = &s->many;
    r->next = embed_shards_next;
    r->check = embed_shards_check;
    r->done = embed_shards_done;
}

static int check_outputs(struct embed_job *s, struct err *e)
{
    bool made;
    const char *outputs[] = {s->output.image_path, s->o->text_out, s->o->tokens_out};
    if (!embed_in_folders(s))
        return io_check_outputs(outputs, 3, e);
    if (s->o->image_dir && io_make_folder(s->o->image_dir, &made, e))
        return -1;
    return s->o->text_dir ? io_make_folder(s->o->text_dir, &made, e) : 0;
}

// Opens all that the run needs, before the first output.
static int open_all(struct embed_job *s, int argc, char *const *argv, struct err *e)
{
    if (check_outputs(s, e) || clip_weights_open(&s->weights, s->o->model, e))
        return -1;
    const struct clip_config *c = &s->weights.table.cfg;
    if (s->o->size && s->o->size != (uint64_t)c->image_size)
        return err_set(e, "--size is %llu, the pictures of '%s' are %d a side",
                       (unsigned long long)s->o->size, s->o->model, c->image_size);
    if ((s->captions && open_tokenizer(s, e)) || open_input(s, e) ||
        sidecar_init(&s->sidecar, "teacher-embed", e) ||
        sidecar_set_args(&s->sidecar, argc, argv, e) ||
        model_digest(&s->weights, s->sidecar.model, e) || open_model(s, e))
        return -1;
    s->sidecar.has_bias = clip_weights_logits(&s->weights, &s->sidecar.scale, &s->sidecar.bias);
    if (s->weights.left_out)
        log_note(s->log, "left out: %zu tensors of the decoder, text_decoder.*",
                 s->weights.left_out);
    if (!c->preprocess.given)
        log_detail(s->log, "the model folder names no preprocessing: CLIP's own is assumed");
    return 0;
}

static void footer(const struct embed_job *s)
{
    char text[256];
    const struct embed_run *r = &s->run;
    int n = snprintf(text, sizeof text, "%llu samples", (unsigned long long)r->samples);
    if (r->image)
        n += snprintf(text + n, sizeof text - (size_t)n, ", %llu without a picture",
                      (unsigned long long)r->no_image);
    if (r->context)
        n += snprintf(text + n, sizeof text - (size_t)n, ", %llu without a caption",
                      (unsigned long long)r->no_text);
    if (embed_in_folders(s))
        n += snprintf(text + n, sizeof text - (size_t)n, "; %zu shards, %zu were there",
                      s->many.made, s->many.passed);
    snprintf(text + n, sizeof text - (size_t)n, "; waited %.1f s for samples", r->read_wait);
    log_footer(s->log, r->samples, text);
}

static void tell_at_death(struct embed_job *s)
{
    if (!s->common->quiet)
        signals_tell_at_death(&s->written,
                              embed_in_folders(s)
                                  ? " samples; the same command goes on at the first missing shard"
                                  : " samples; no file was written, the same command makes it");
}

int embed_stage_run(struct embed_job *s, int argc, char *const *argv, struct log *l, struct err *e)
{
    s->log = l;
    tell_at_death(s);
    if (open_all(s, argc, argv, e))
        return -1;
    s->run = (struct embed_run){.model = &s->model,
                                .tokenizer = s->tokenizer,
                                .type = s->o->out_dtype ? NPY_F4 : NPY_F2,
                                .batch = s->run.batch,
                                .image = s->output.image_path != NULL,
                                .text = s->output.text_path != NULL,
                                .unit = s->o->normalize,
                                .context = s->captions ? (size_t)s->weights.table.cfg.context : 0,
                                .progress = on_progress,
                                .progress_ctx = s};
    choose_items(s);
    progress_start(&s->progress, s->log, total_of(s), "samples");
    int rc = embed_run_all(&s->run, e);
    on_progress(s, s->run.samples); // where all shards were there, the only call
    progress_end(&s->progress);
    if (!rc && s->many.failed)
        rc = err_set(e, "%zu of %zu shards failed, the first: %s", s->many.failed, s->shards.n,
                     s->many.first.text);
    if (!rc)
        footer(s);
    return rc;
}

void embed_stage_release(struct embed_job *s)
{
    clip_model_release(&s->model);
    dev_close(&s->dev);
    samples_close(s->source.stream);
    remote_free(s->source.remote);
    tokenizer_free(s->tokenizer);
    clip_weights_close(&s->weights);
    sidecar_release(&s->sidecar);
    shard_list_release(&s->shards);
    lines_release(&s->list);
    select_free(s->select);
}
