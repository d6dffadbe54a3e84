// SPDX-License-Identifier: Apache-2.0
// The options of shard-read, checked against each other, as the reading pipeline wants them.
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/crop.h"
#include "read/augment.h"
#include "read/order.h"
#include "stream/stream.h"
#include "system/lines.h"

enum { IMAGES_YES, CROP_RANDOM = 1 }; // of --images and --crop

// Takes the pictures' form from --model; --size, if given, must agree.
static int take_model(struct stream *t, struct err *e)
{
    struct read_options *r = &t->read;
    struct clip_config *cfg = &t->cfg;
    struct crop_params *c = &r->picture.crop, was = *c;
    struct stat st;
    if (stat(t->o->model, &st))
        return err_errno(e, "cannot read '%s'", t->o->model);
    if (S_ISDIR(st.st_mode) ? clip_config_read_folder(cfg, t->o->model, e)
                            : clip_config_read_file(cfg, t->o->model, e))
        return -1;
    if (t->o->size_given && t->o->size != (uint64_t)cfg->image_size)
        return err_set(e, "--size is %llu, the pictures of '%s' are %d a side",
                       (unsigned long long)t->o->size, t->o->model, cfg->image_size);
    clip_crop(cfg, c);
    c->random = was.random;
    c->flip = was.flip;
    c->scale_least = was.scale_least;
    c->scale_most = was.scale_most;
    c->ratio_least = was.ratio_least;
    c->ratio_most = was.ratio_most;
    return 0;
}

static int augment(const struct stream_options *o, struct read_picture *p, struct err *e)
{
    const struct read_augment a = {.random = o->crop == CROP_RANDOM,
                                   .flip = o->flip,
                                   .scale = o->scale,
                                   .ratio = o->ratio,
                                   .jitter = o->jitter,
                                   .jitter_prob = o->jitter_prob,
                                   .gray = o->gray,
                                   .scale_given = o->scale_given,
                                   .ratio_given = o->ratio_given,
                                   .jitter_prob_given = o->jitter_prob_given};
    return read_augment_parse(&a, p, e);
}

static int make_options(struct stream *t, struct err *e)
{
    struct read_options *r = &t->read;
    static const enum samples_images modes[] = {SAMPLES_PIXELS, SAMPLES_NO_IMAGES, SAMPLES_RAW};
    *r = (struct read_options){.images = modes[t->o->images],
                               .captions = t->o->captions == 0,
                               .caption = t->o->caption,
                               .shuffle = t->o->shuffle,
                               .seed = t->o->seed,
                               .epoch = t->o->epoch,
                               .view = t->o->view_given ? t->o->view : t->o->epoch,
                               .skip = t->o->skip,
                               .limit = t->o->limit,
                               .counts = t->o->counts,
                               .group_labels = t->o->group_labels,
                               .group = t->o->group,
                               .keep = t->o->keep};
    struct crop_params *c = &r->picture.crop;
    *c = crop_params_default;
    c->size = (int)t->o->size;
    c->resize = (enum crop_resize)t->o->resize;
    r->picture.fast = t->o->fast;
    r->picture.alpha = (enum image_alpha)t->o->alpha;
    r->picture.max_pixels = t->o->max_pixels;
    if (t->o->select && !(t->select = select_new(t->o->select, e)))
        return -1;
    r->select = t->select;
    if (!read_order_parse(t->o->part, &r->part, &r->n_parts))
        return err_set(e, "--part needs A/B with 1 <= A <= B, not '%s'", t->o->part);
    if (augment(t->o, &r->picture, e))
        return -1;
    if (t->o->model && t->o->resize_given)
        return err_set(e, "--model says how pictures are resized: --resize has no meaning");
    if ((t->o->jitter || t->o->gray > 0) && t->o->images != IMAGES_YES)
        return err_set(e, "--%s needs --images yes", t->o->jitter ? "jitter" : "gray");
    if (t->o->caption && t->o->captions)
        return err_set(e, "--caption needs --captions yes");
    if (t->o->resize_given && c->random)
        return err_set(e, "--crop random resizes what it cuts out: --resize has no meaning");
    if (t->o->counts && (r->n_parts == 1 || t->o->select))
        return err_set(e, "--counts needs --part, and goes without --select");
    if (t->o->index_dir && (t->o->shuffle || t->o->skip || t->o->limit != UINT64_MAX ||
                            r->n_parts > 1 || t->o->index || t->o->pixels))
        return err_set(e, "--index-dir is of whole shards in their order, and goes with no other "
                          "output");
    if (!t->o->group_labels != !t->o->group)
        return err_set(e, "--group-labels and --group go together");
    if (t->o->group && !t->o->shuffle)
        return err_set(e, "--group needs --shuffle, in whose windows samples are grouped");
    if (t->o->resume && !t->o->index_dir)
        return err_set(e, "--resume needs --index-dir");
    if (t->o->pixels && t->o->images != IMAGES_YES)
        return err_set(e, "--pixels needs --images yes");
    return 0;
}

// The operands, which may be patterns, then the lines of --files-from, which are names as they
// stand.
static int list_shards(struct stream *t, const struct lines *more, struct err *e)
{
    const struct cli_common *common = t->common;
    struct shard_list *shards = &t->shards;
    int rc = 0;
    for (size_t i = 0; !rc && i < common->n_operands; i++)
        rc = shard_list_add(shards, common->operands[i], e);
    for (size_t i = 0; !rc && i < more->n; i++)
        rc = shard_list_add_name(shards, more->line[i], e);
    if (!rc && shards->n == 0 && !t->o->files_from)
        rc = err_set(e, "missing operand: SHARD...");
    return rc;
}

static int check_outputs(const struct stream *t, bool *usage, struct err *e)
{
    const struct stream_options *o = t->o;
    const char *outputs[] = {t->common->output, o->index, o->pixels};
    bool to_stdout = strcmp(t->common->output, "-") == 0;
    if (io_check_apart(outputs, 3, t->shards.names, t->shards.n, e))
        return -1;
    if (io_check_outputs(outputs, 3, e)) {
        *usage = false;
        return -1;
    }
    if (o->index_dir && !to_stdout)
        return err_set(e, "--index-dir writes no samples: leave out -o");
    if (!o->index_dir && to_stdout && isatty(STDOUT_FILENO))
        return err_set(e, "samples are not written to a terminal; use -o FILE or a pipe");
    return 0;
}

int stream_prepare(struct stream *t, const struct stream_options *o,
                   const struct cli_common *common, bool *usage, struct err *e)
{
    struct lines more = {0};
    t->o = o;
    t->common = common;
    *usage = true;
    int rc = make_options(t, e);
    if (!rc && ((o->model && take_model(t, e)) ||
                (o->files_from && lines_read(&more, o->files_from, e)))) {
        rc = -1;
        *usage = false;
    }
    rc = rc || list_shards(t, &more, e) || check_outputs(t, usage, e) ? -1 : 0;
    lines_release(&more);
    if (rc && e->machine) // what was named cannot be read
        *usage = false;
    t->read.shards = &t->shards;
    t->read.threads = (int)common->threads;
    return rc;
}

void stream_release(struct stream *t)
{
    select_free(t->select);
    shard_list_release(&t->shards);
}
