// SPDX-License-Identifier: Apache-2.0
#include "embed/source.h"

#include <math.h>
#include <string.h>

#include "config/crop.h"
#include "read/read.h"

static int differs(struct err *e, const char *what, const char *stream, const char *model)
{
    return err_set(
        e,
        "the samples' %s is %s, the model wants %s (shard-read --model makes pictures as "
        "a model wants them)",
        what, stream, model);
}

static int check_norm(const struct samples_header *h, const struct clip_preprocess *p,
                      struct err *e)
{
    for (int i = 0; h->has_norm && i < 3; i++)
        if (fabs(h->mean[i] - p->mean[i]) > 1e-6 || fabs(h->std[i] - p->std[i]) > 1e-6)
            return err_set(e,
                           "the samples are made for mean %g and std %g in channel %d, the model "
                           "wants %g and %g",
                           h->mean[i], h->std[i], i, p->mean[i], p->std[i]);
    return 0;
}

static int check_stream(const struct embed_source *s, const struct samples_header *h,
                        struct err *warning, struct err *e)
{
    const struct clip_preprocess *p = &s->cfg->preprocess;
    const char *filter = clip_resample_name(p->resample);
    char fit[SAMPLES_NAME];
    clip_crop_fit_name(s->cfg, fit);
    if (h->images != SAMPLES_PIXELS)
        return err_set(e, "the samples carry no pixels (shard-read --images yes makes them)");
    if (h->size != (uint32_t)s->cfg->image_size)
        return err_set(e, "the samples' pictures are %u pixels a side, the model wants %d",
                       (unsigned)h->size, s->cfg->image_size);
    if (check_norm(h, p, e))
        return -1;
    // An augmented picture is not the model's input, but may be what is wanted.
    bool coloured = h->jitter_prob > 0 || h->gray > 0;
    if (strcmp(h->crop, "center") || h->flip || coloured || h->fast)
        err_set(warning, "the samples' pictures are %s: embeddings will differ from the usual ones",
                strcmp(h->crop, "center") ? "random crops"
                : h->flip                 ? "mirrored at random"
                : coloured                ? "changed in their colours at random"
                                          : "decoded in the fast mode");
    if (strcmp(h->interpolation, filter))
        return differs(e, "interpolation", h->interpolation, filter);
    if (!strcmp(h->crop, "center") && strcmp(h->resize, fit))
        return differs(e, "resize", h->resize, fit);
    return 0;
}

static void make_read(const struct embed_source *s, struct read_options *o)
{
    *o = (struct read_options){.shards = s->shards,
                               .remote = s->remote,
                               .images = s->images ? SAMPLES_PIXELS : SAMPLES_NO_IMAGES,
                               .captions = s->captions,
                               .caption = s->caption,
                               .n_parts = 1,
                               .limit = READ_ALL,
                               .select = s->select,
                               .threads = s->threads};
    clip_crop(s->cfg, &o->picture.crop);
    if (s->augment) {
        struct crop_params *c = &o->picture.crop;
        const struct crop_params *a = &s->augment->crop;
        c->random = a->random;
        c->flip = a->flip;
        c->scale_least = a->scale_least;
        c->scale_most = a->scale_most;
        c->ratio_least = a->ratio_least;
        c->ratio_most = a->ratio_most;
        o->picture.jitter = s->augment->jitter;
        o->seed = s->seed;
        o->view = s->view;
    }
    o->picture.alpha = s->alpha;
    o->picture.max_pixels = s->max_pixels;
}

int embed_source_check(const struct embed_source *s, struct err *warning, struct err *e)
{
    warning->text[0] = 0;
    if (!s->stream) {
        struct read_options o;
        make_read(s, &o);
        return read_check(&o, e);
    }
    const struct samples_header *h = samples_header(s->stream);
    if (s->captions && !h->captions)
        return err_set(e, "the samples carry no captions (shard-read --captions yes makes them)");
    return s->images ? check_stream(s, h, warning, e) : 0;
}

// True if the writer of the stream left samples out on request.
static bool sliced(const struct samples_header *h)
{
    return h->skip || h->limit != UINT64_MAX || h->n_parts > 1 || h->keep;
}

// After the last sample: what is known of the shards only then.
static int tell_shards(const struct embed_source *s, const struct embed_sink *to, struct err *e)
{
    for (size_t i = 0; i < samples_n_shards(s->stream); i++) {
        const struct samples_shard *one = samples_shard(s->stream, i);
        bool part = !one->ended || !one->whole;
        if ((one->damaged || (part && !sliced(samples_header(s->stream)))) && !s->partial)
            return err_set(e,
                           "%s: the shard is damaged and the stream holds a part of it, whose rows "
                           "would pass for the whole; --partial takes them",
                           one->name);
        if (to->shard(to->ctx, one->name, part, e))
            return -1;
    }
    return 0;
}

static int run_stream(const struct embed_source *s, const struct embed_sink *to, struct err *e)
{
    struct samples_record r;
    int rc;
    while ((rc = samples_next(s->stream, &r, e)) == 1) {
        rc = to->put(to->ctx, &r, e);
        if (rc)
            return rc < 0 ? -1 : 0;
    }
    return rc ? -1 : tell_shards(s, to, e);
}

// The reading of shards: what its sink needs.
struct reading {
    const struct embed_source *s;
    const struct embed_sink *to;
};

static int on_begin(void *ctx, struct read_shard *s, struct err *e)
{
    (void)ctx, (void)s, (void)e;
    return 0;
}

static int on_sample(void *ctx, struct read_shard *s, const struct samples_record *r, bool bad,
                     struct err *e)
{
    (void)s, (void)bad;
    const struct embed_sink *to = ((struct reading *)ctx)->to;
    return to->put(to->ctx, r, e); // also one that is not selected: a row of zeros
}

static int on_end(void *ctx, struct read_shard *s, struct err *e)
{
    const struct reading *r = ctx;
    if (s->damaged && !r->s->partial)
        return err_set(e, "%s: %s; --partial takes the samples before it", s->path, s->damage.text);
    return r->to->shard(r->to->ctx, s->name, s->damaged, e);
}

int embed_source_run(const struct embed_source *s, const struct embed_sink *to, struct err *e)
{
    if (s->stream)
        return run_stream(s, to, e);
    if (!s->shards)
        return 0;
    struct read_options o;
    make_read(s, &o);
    struct reading r = {s, to};
    const struct read_sink sink = {&r, on_begin, on_sample, on_end, NULL};
    return read_run(&o, &sink, e);
}
