// SPDX-License-Identifier: Apache-2.0
#include "stream/outputs.h"

#include <string.h>

#include "config/crop.h"

static void make_header(struct samples_header *h, const struct stream *t)
{
    const struct read_options *o = &t->read;
    samples_header_init(h, "shard-read");
    h->images = o->images;
    h->captions = o->captions;
    h->seed = o->seed;
    h->epoch = o->epoch;
    h->shuffle = o->shuffle;
    h->skip = o->skip;
    h->limit = o->limit;
    h->part = o->part;
    h->n_parts = o->n_parts;
    h->keep = o->keep || o->select;
    const struct crop_params *c = &o->picture.crop;
    bool pixels = o->images == SAMPLES_PIXELS, random = pixels && c->random;
    snprintf(h->resize, sizeof h->resize, "%s",
             !pixels  ? ""
             : random ? "squash"
                      : crop_resize_name(c->resize));
    snprintf(h->crop, sizeof h->crop, "%s", !pixels ? "" : random ? "random" : "center");
    if (!pixels)
        h->interpolation[0] = 0;
    if (pixels && t->o->model) {
        const struct clip_preprocess *p = &t->cfg.preprocess;
        snprintf(h->interpolation, sizeof h->interpolation, "%s", clip_resample_name(p->resample));
        if (!random)
            clip_crop_fit_name(&t->cfg, h->resize);
        h->has_norm = true;
        memcpy(h->mean, p->mean, sizeof h->mean);
        memcpy(h->std, p->std, sizeof h->std);
    }
    h->size = pixels ? (uint32_t)c->size : 0;
    h->scale_min = random ? c->scale_least : 1;
    h->scale_max = random ? c->scale_most : 1;
    if (random && t->o->ratio_given) {
        h->ratio_min = c->ratio_least;
        h->ratio_max = c->ratio_most;
    }
    h->flip = pixels && c->flip;
    h->has_view = pixels && t->o->view_given;
    h->view = t->o->view;
    memcpy(h->jitter, o->picture.jitter.range, sizeof h->jitter);
    h->jitter_prob = o->picture.jitter.prob;
    h->gray = o->picture.jitter.gray;
    h->fast = pixels && o->picture.fast;
    h->white = pixels && o->picture.alpha == IMAGE_ALPHA_WHITE;
}

int stream_outputs_open(struct stream *t, struct err *e)
{
    struct samples_header h;
    make_header(&h, t);
    if (out_open(&t->out, t->common->output, e))
        return -1;
    t->writer = samples_writer_new(&t->out, &h, e);
    if (!t->writer)
        return -1;
    if (t->o->index) {
        if (out_open(&t->index, t->o->index, e))
            return -1;
        t->has_index = true;
    }
    if (t->o->pixels) {
        uint64_t side = (uint64_t)t->read.picture.crop.size;
        if (npy_create(&t->pixels, t->o->pixels, NPY_U1, 3, (uint64_t[]){side, side, 3},
                       NPY_UNKNOWN, e))
            return -1;
        t->has_pixels = true;
    }
    return 0;
}

// The trailer goes out last, so that a reader that has it can rely on the files beside the stream.
int stream_outputs_commit(struct stream *t, struct err *e)
{
    if (out_flush(&t->out, e))
        return -1;
    if (t->has_pixels && npy_commit(&t->pixels, e))
        return -1;
    if (t->has_index && out_commit(&t->index, e))
        return -1;
    return samples_finish(t->writer, e) || out_commit(&t->out, e) ? -1 : 0;
}

void stream_outputs_close(struct stream *t)
{
    samples_writer_free(t->writer);
    if (t->has_pixels)
        npy_abort(&t->pixels);
    if (t->has_index)
        out_abort(&t->index);
    out_abort(&t->out);
}
