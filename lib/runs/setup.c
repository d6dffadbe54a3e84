// SPDX-License-Identifier: Apache-2.0
#include "runs/setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/weights.h"
#include "formats/json.h"
#include "base/mem.h"
#include "formats/npy.h"

enum { CENTROID_ROWS = 16384 }; // on their way to the device at a time
static const double SIGLIP_BIAS = -10;

// How pictures are prepared for the finished model. Random crops are for training only: the model
// gets the middle of the picture, as open_clip's do.
static void preprocess_from(struct clip_preprocess *p, const struct samples_header *h)
{
    p->given = true;
    p->fit = !strcmp(h->crop, "random")     ? CLIP_SHORTEST
             : !strcmp(h->resize, "squash") ? CLIP_SQUASH
             : !strcmp(h->resize, "pad")    ? CLIP_LONGEST
                                            : CLIP_SHORTEST;
    p->resample = strcmp(h->interpolation, "bilinear") ? CLIP_BICUBIC : CLIP_BILINEAR;
    if (h->has_norm) {
        memcpy(p->mean, h->mean, sizeof p->mean);
        memcpy(p->std, h->std, sizeof p->std);
    }
}

// --towers: the shape of the tower that is not trained.
static int other_tower(struct clip_config *c, const struct train_options *o, struct err *e)
{
    struct clip_config t;
    if (clip_config_read_folder(&t, o->teacher, e))
        return err_wrap(e, "--teacher");
    if (t.embed_dim != c->embed_dim)
        return err_set(e,
                       "--towers: the student's embeddings have %d columns, those of the teacher's "
                       "tower %d: they must be as wide",
                       c->embed_dim, t.embed_dim);
    if (o->towers == LOSS_IMAGE_TOWER) {
        c->text = t.text;
        c->context = t.context;
        c->vocab = t.vocab;
        c->eos_id = t.eos_id;
        c->words = t.words;
    } else {
        c->vision = t.vision;
        c->image_size = t.image_size;
        c->patch_size = t.patch_size;
        c->preprocess = t.preprocess;
        c->patch_dropout = 0;
    }
    return 0;
}

int train_setup_config(struct clip_config *c, const struct train_options *o,
                       const struct samples_header *h, bool bias, struct err *e)
{
    if (o->student ? clip_config_read_file(c, o->student, e)
                   : clip_config_read_folder(c, o->init, e))
        return -1;
    if (!c->preprocess.given && h)
        preprocess_from(&c->preprocess, h);
    if (bias && !c->has_logit_bias) {
        c->has_logit_bias = true;
        c->logit_bias = SIGLIP_BIAS;
    }
    if (o->towers && other_tower(c, o, e))
        return -1;
    if (c->text.class_last)
        return err_set(e, "a text tower with a class token behind the text (CoCa) is not trained");
    return clip_config_check(c, e);
}

void train_setup_memory_text(const struct train_memory *m, char *text, size_t room)
{
    const double gib = 1024.0 * 1024 * 1024;
    int n = snprintf(
        text, room,
        "%.2f GiB (weights and gradients %.2f, optimiser %.2f, activations %.2f, losses %.2f, "
        "clusters %.2f",
        (double)m->total / gib, (double)m->parameters / gib, (double)m->optimiser / gib,
        (double)m->activations / gib, (double)m->losses / gib, (double)m->clusters / gib);
    if (m->own)
        n += snprintf(text + n, room - (size_t)n, ", the device's own %.2f", (double)m->own / gib);
    if (m->aside)
        n += snprintf(text + n, room - (size_t)n, ", evaluation %.2f", (double)m->aside / gib);
    snprintf(text + n, room - (size_t)n, ")");
}

static int open_centroids(struct npy *a, const char *path, struct train_set *s, struct err *e)
{
    if (npy_open(a, path, e))
        return -1;
    s->k = a->h.rows;
    if (!s->dim_t)
        s->dim_t = a->h.dim;
    if ((a->h.type != NPY_F4 && a->h.type != NPY_F2) || a->h.n_dims != 2 || !s->k || !s->dim_t)
        err_set(e, "%s: centroids are <f4, (k, dim)", path);
    else if (a->h.dim != s->dim_t)
        err_set(e, "%s: has %zu columns, the teacher's embeddings %zu", path, a->h.dim, s->dim_t);
    else
        return 0;
    npy_close(a);
    return -1;
}

int train_setup_centroid_size(const char *path, struct train_set *s, struct err *e)
{
    struct npy a;
    if (open_centroids(&a, path, s, e))
        return -1;
    npy_close(&a);
    return 0;
}

// A million centroids are gigabytes: this never holds all of them as float32 beside the device's
// copy.
int train_setup_centroids(struct train_core *c, const char *path, struct err *e)
{
    struct npy a;
    struct cluster_head *h = &c->head;
    if (open_centroids(&a, path, &c->set, e))
        return -1;
    size_t most = h->s_max < CENTROID_ROWS ? h->s_max : CENTROID_ROWS;
    float *rows = mem_alloc(most * h->dim, sizeof *rows, e);
    int rc = rows ? 0 : -1;
    for (size_t at = 0; at < h->k && !rc; at += most) {
        size_t n = h->k - at < most ? h->k - at : most;
        rc = npy_rows_f32(&a, at, n, rows, e) || cluster_head_set(h, at, n, rows, e) ? -1 : 0;
    }
    free(rows);
    npy_close(&a);
    return rc;
}

// A short name for a config: the digest of its JSON.
static int config_digest(const struct clip_config *c, char hex[DIGEST_HEX], struct err *e)
{
    cJSON *j = clip_config_to_any(c, e);
    char *text = j ? json_text(j, false, e) : NULL;
    if (text)
        digest_bytes(text, strlen(text), hex);
    cJSON_Delete(j);
    int rc = text ? 0 : -1;
    free(text);
    return rc;
}

static int add_numbers(cJSON *j, const struct train_set *s, struct err *e)
{
    const struct optim_set *o = &s->optim;
    const struct cluster_set *c = &s->cluster;
    char terms[LOSS_TEXT];
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {{"batch", s->batch},
                  {"accumulate", s->accumulate},
                  {"parts", train_parts(s)},
                  {"epochs", s->epochs}, // 0: the length was given in steps
                  {"epoch-samples", s->epoch_samples},
                  {"steps", o->steps},
                  {"warmup", o->warmup},
                  {"cooldown", o->cooldown},
                  {"cluster-warmup", s->losses.cluster_warmup}};
    const struct {
        const char *name;
        float value;
    } numbers[] = {{"lr", o->lr},          {"lr-end", o->lr_end}, {"weight-decay", o->weight_decay},
                   {"clip-grad", o->clip}, {"beta1", o->beta1},   {"beta2", o->beta2},
                   {"eps", o->eps},        {"sigma", c->sigma},   {"margin", c->margin},
                   {"filter", c->filter}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (json_add_u64(j, counts[i].name, counts[i].value, e))
            return -1;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (json_add_float(j, numbers[i].name, numbers[i].value, e))
            return -1;
    losses_text(&s->losses, terms);
    if (json_add_string(j, "schedule", optim_schedule_name(o->schedule), e) ||
        json_add_double(j, "cooldown-power", o->power, e))
        return -1;
    if (json_add_string(j, "loss", terms, e) || json_add_double(j, "sample-rate", c->rate, e))
        return -1;
    return json_add_bool(j, "freeze-centroids", c->frozen, e) ||
                   json_add_bool(j, "project", s->project, e) || json_add_u64(j, "seed", s->seed, e)
               ? -1
               : 0;
}

// Towers that are not trained, or not all of them.
static int add_towers(cJSON *j, const struct train_set *s, struct err *e)
{
    const struct clip_locks *l = &s->locks;
    const char *locked = l->tower[CLIP_VISION] ? "image" : "text";
    if (s->losses.towers)
        return json_add_string(j, "towers", s->losses.towers == LOSS_IMAGE_TOWER ? "image" : "text",
                               e);
    if ((l->tower[CLIP_VISION] || l->tower[CLIP_TEXT]) && json_add_string(j, "lock", locked, e))
        return -1;
    return l->unlock ? json_add_u64(j, "unlock", (uint64_t)l->unlock, e) : 0;
}

// What is trained, and how, if not everything alike; so the options of older runs stay as they
// were.
static int add_trained(cJSON *j, const struct train_set *s, struct err *e)
{
    if (add_towers(j, s, e) || (s->locks.norms && json_add_bool(j, "lock-norms", true, e)))
        return -1;
    bool decays = s->layer_decay > 0 && s->layer_decay < 1;
    if (decays && json_add_double(j, "layer-decay", s->layer_decay, e))
        return -1;
    if (s->scale_max > 0 && s->scale_max != 100 && json_add_double(j, "scale-max", s->scale_max, e))
        return -1;
    if (s->patch_dropout > 0 &&
        (json_add_double(j, "patch-dropout", s->patch_dropout, e) ||
         (s->dropout_until && json_add_u64(j, "patch-dropout-until", s->dropout_until, e))))
        return -1;
    if (s->select > 0 && (json_add_double(j, "select", s->select, e) ||
                          json_add_u64(j, "select-blocks", s->select_blocks, e)))
        return -1;
    return s->ema > 0 ? json_add_double(j, "ema", s->ema, e) : 0;
}

// Of the affinity term and of several teachers; other runs have none of it.
static int add_teachers(cJSON *j, const struct train_set *s, const struct train_identity *id,
                        struct err *e)
{
    char scales[24 * LOSS_TEACHERS_MAX] = "";
    size_t n = s->teachers ? s->teachers : 1, at = 0;
    if (losses_soft(&s->losses) && s->cluster.soft_sigma > 0 &&
        json_add_float(j, "soft-sigma", s->cluster.soft_sigma, e))
        return -1;
    if (s->tau > 0 && json_add_double(j, "cluster-prior", s->tau, e))
        return -1;
    if (s->views && json_add_u64(j, "views", s->views, e))
        return -1;
    if (*id->others && json_add_string(j, "teachers", id->others, e))
        return -1;
    if (!(losses_needs(&s->losses) & LOSS_EACH) && !(s->select > 0))
        return 0;
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(scales + at, sizeof scales - at, "%s%.9g", i ? "," : "",
                               (double)s->scale_of[i]);
    return json_add_string(j, "teacher-scale", scales, e);
}

static int add_identity(cJSON *j, const struct train_identity *id, struct err *e)
{
    return json_add_string(j, "centroids", id->centroids, e) ||
                   json_add_string(j, "labels", id->labels, e) ||
                   json_add_string(j, "teacher-image", id->image, e) ||
                   json_add_string(j, "teacher-text", id->text, e) ||
                   json_add_string(j, "tokenizer", id->tokenizer, e) ||
                   json_add_u64(j, "shards", id->n, e)
               ? -1
               : 0;
}

cJSON *train_setup_options(const struct train_core *c, const struct clip_config *cfg,
                           const struct train_identity *id, struct err *e)
{
    char hex[DIGEST_HEX];
    if (config_digest(cfg, hex, e))
        return NULL;
    cJSON *j = cJSON_CreateObject();
    if (j && !json_add_string(j, "student", hex, e) && !add_identity(j, id, e) &&
        !json_add_string(j, "dtype", dev_dtype(c->d), e) && !add_numbers(j, &c->set, e) &&
        !add_trained(j, &c->set, e) && !add_teachers(j, &c->set, id, e))
        return j;
    if (!j)
        err_set(e, "out of memory");
    cJSON_Delete(j);
    return NULL;
}
