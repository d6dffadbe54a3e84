// SPDX-License-Identifier: Apache-2.0
// Gradients of whole towers against central differences along random directions.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/grad.h"
#include "base/rng.h"
#include "unit/tap.h"

static struct rng rng;

static void randoms(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(&rng);
}

enum shape { PLAIN, SCALED, SIGLIP, EVA02, EVA02_E, PE, CLIPA, FLAGS, COCA, SHAPES };
static const char *const shape_names[] = {"CLIP",    "layer scale", "SigLIP", "EVA02", "EVA02-E",
                                          "PE-Core", "CLIPA",       "flags",  "CoCa"};

static void set_shape(struct clip_config *c, enum shape s)
{
    struct clip_tower *v = &c->vision, *t = &c->text;
    v->act = t->act = s == SCALED                 ? CLIP_QUICK_GELU
                      : s == SIGLIP || s == FLAGS ? CLIP_TANH_GELU
                                                  : CLIP_GELU;
    v->ls_init = t->ls_init = s == SCALED || s == FLAGS ? 0.5 : 0;
    v->no_class = v->patch_bias = s == SIGLIP;
    v->no_norm_pre = s == SIGLIP || s == EVA02 || s == EVA02_E || s == CLIPA;
    v->no_head = s == SIGLIP;
    v->head_bias = s == EVA02 || s == EVA02_E || s == PE;
    v->swiglu = v->inner_norm = s == EVA02;
    v->post_norm = s == EVA02_E;
    v->qkv_bias = s == EVA02 || s == EVA02_E ? CLIP_BIAS_QV
                  : s == FLAGS               ? CLIP_BIAS_NONE
                                             : CLIP_BIAS_QKV;
    if (s == EVA02 || s == PE)
        v->rope = (struct clip_rope){s == PE ? 2 : 16, s == PE, s == PE};
    v->pool = s == SIGLIP || s == PE     ? CLIP_POOL_MAP
              : s == CLIPA || s == FLAGS ? CLIP_POOL_MEAN
              : s == COCA                ? CLIP_POOL_QUERY
                                         : CLIP_POOL_TOKEN;
    v->norm_first = s == FLAGS;
    v->pool_heads = s == COCA ? 2 : 3;
    v->pool_mlp = 32;
    v->pool_queries = 4;
    if (s == COCA)
        v->pool_mlp = 0;
    if (s == SIGLIP)
        c->embed_dim = 24;
    t->no_mask = s == SIGLIP || s == CLIPA || s == FLAGS;
    t->head_bias = s == SIGLIP || s == FLAGS;
    t->read = s == SIGLIP || s == CLIPA ? CLIP_READ_LAST
              : s == FLAGS              ? CLIP_READ_FIRST
                                        : CLIP_READ_END;
    // The kinds of block that no text tower has are no other code there.
    t->post_norm = s == EVA02_E;
    t->swiglu = t->inner_norm = s == EVA02;
}

static const struct clip_config *small(enum shape shape)
{
    static struct clip_config c;
    memset(&c, 0, sizeof c);
    c.embed_dim = 10;
    c.image_size = 16;
    c.patch_size = 8;
    c.context = 9;
    c.vocab = 50;
    c.eos_id = 49;
    c.logit_scale = 2.6592;
    c.vision = (struct clip_tower){
        .layers = 3, .width = 24, .heads = 2, .head_width = 12, .mlp = 40, .eps = 1e-5};
    c.text = (struct clip_tower){
        .layers = 2, .width = 20, .heads = 4, .head_width = 5, .mlp = 36, .eps = 1e-5};
    set_shape(&c, shape);
    clip_preprocess_default(&c.preprocess, 16);
    return &c;
}

enum { Z_MAX = 3 * 24 };

struct model {
    struct clip_table table;
    struct clip_grad g;
    float *flat;
    uint8_t pixels[3 * 16 * 16 * 3];
    int32_t tokens[3 * 9];
};

static bool model_open(struct model *m, struct dev *d, enum shape shape,
                       const struct clip_locks *locks, bool recompute)
{
    struct err e;
    struct clip_config c = *small(shape);
    static const int32_t tokens[27] = {48, 3, 7, 7, 49, 0, 0, 0, 0, 48, 11, 49, 0, 0,
                                       0,  0, 0, 0, 48, 1, 2, 3, 4, 5,  6,  7,  49};
    if (clip_config_check(&c, &e) || clip_table_init(&m->table, &c, &e) ||
        clip_grad_init(&m->g, d, &m->table, locks, recompute, &e))
        return false;
    m->flat = calloc(m->table.n_flat, sizeof *m->flat);
    rng_init(&rng, 5, 0);
    for (size_t i = 0; i < m->table.n; i++) {
        float *at = m->flat + m->table.t[i].offset;
        clip_init_tensor(&m->table, i, 3, at);
        for (size_t k = 0; k < m->table.t[i].numel; k++) // away from the zeros and ones
            at[k] += 0.1f * (float)rng_normal(&rng);
    }
    for (size_t i = 0; i < sizeof m->pixels; i++)
        m->pixels[i] = (uint8_t)rng_below(&rng, 256);
    memcpy(m->tokens, tokens, sizeof tokens);
    return !clip_grad_upload(&m->g, m->flat, &e);
}

static void model_close(struct model *m)
{
    clip_grad_release(&m->g);
    clip_table_release(&m->table);
    free(m->flat);
}

static const struct clip_locks no_locks;

// Patches of each picture that the next vision towers run; keep 0: all of the 4.
static size_t keep;
static int32_t pick[3 * 4];

static void drop(size_t n)
{
    static const int32_t order[3][4] = {{2, 0, 3, 1}, {3, 1, 0, 2}, {1, 2, 0, 3}};
    keep = n;
    for (size_t i = 0; i < 3; i++) {
        size_t at = 0;
        for (int32_t p = 0; p < 4; p++)
            for (size_t k = 0; k < n; k++)
                if (order[i][k] == p)
                    pick[i * n + at++] = p;
    }
}

static double weighted(struct model *m, enum clip_tower_id id, const float *w, struct clip_tape *t,
                       float *z)
{
    struct err e;
    int rc = id == CLIP_VISION ? clip_grad_images(&m->g, 3, m->pixels, keep, pick, t, z, &e)
                               : clip_grad_texts(&m->g, 3, m->tokens, t, z, &e);
    double s = rc ? (double)NAN : 0;
    for (size_t i = 0; i < 3 * (size_t)m->table.cfg.embed_dim; i++)
        s += (double)z[i] * (double)w[i];
    return s;
}

// The gradient along random directions, one tensor at a time, against differences of the loss.
static double tower_error(struct model *m, enum clip_tower_id id)
{
    struct clip_tape t = {0};
    struct err e;
    float w[Z_MAX], z[Z_MAX];
    double bad = 0, total = 0;
    randoms(w, Z_MAX);
    weighted(m, id, w, &t, z);
    if (clip_grad_back(&m->g, &t, w, &e))
        return (double)NAN;
    float *grad = malloc(m->table.n_flat * sizeof *grad);
    memcpy(grad, m->g.grad, m->table.n_flat * sizeof *grad);
    for (size_t i = 0; i < m->table.n_flat; i++)
        total += (double)grad[i] * (double)grad[i];
    for (size_t i = 0; i < m->table.n; i++) {
        const struct clip_tensor *k = &m->table.t[i];
        if (k->tower != id || k->kind == CLIP_K_LOGIT_SCALE)
            continue;
        // Along the gradient itself: the slope is its norm.
        double norm = 0;
        for (size_t j = 0; j < k->numel; j++)
            norm += (double)grad[k->offset + j] * (double)grad[k->offset + j];
        norm = sqrt(norm);
        // Only what softmax cancels may be as good as zero: a bias of keys, without a rotation.
        if (norm < 1e-3 * sqrt(total)) {
            bad = k->kind == CLIP_K_QKV_B || k->kind == CLIP_K_LN1_B ? bad : (double)NAN;
            printf("# %s: %g of the gradient\n", k->name, norm / sqrt(total));
            continue;
        }
        double slope[2];
        const double h = 0.02 / norm;
        for (int s = 0; s < 2; s++) {
            float *at = m->g.flat + k->offset;
            for (size_t j = 0; j < k->numel; j++)
                at[j] = (float)((double)m->flat[k->offset + j] +
                                (s ? -h : h) * (double)grad[k->offset + j] / norm);
            clip_grad_refresh(&m->g);
            slope[s] = weighted(m, id, w, &t, z);
            memcpy(at, m->flat + k->offset, k->numel * sizeof *at);
        }
        double off = fabs((slope[0] - slope[1]) / (2 * h) / norm - 1);
        if (!(off <= bad)) {
            bad = off;
            printf("# %s: %g\n", k->name, off);
        }
    }
    clip_grad_refresh(&m->g);
    clip_tape_release(&m->g, &t);
    free(grad);
    return bad;
}

static void towers(struct dev *d)
{
    for (int shape = 0; shape < SHAPES; shape++)
        for (int id = 0; id < 2; id++) {
            struct model m = {0};
            ok(model_open(&m, d, (enum shape)shape, &no_locks, false), "model");
            double e = tower_error(&m, (enum clip_tower_id)id);
            ok(e < 5e-3, "%s tower, %s: %g", id ? "text" : "vision", shape_names[shape], e);
            model_close(&m);
        }
}

// The same with patches left out; nothing else is another pass than without.
static void dropped(struct dev *d)
{
    for (int shape = 0; shape < SHAPES; shape++)
        for (size_t n = 1; n < 4; n++) {
            struct model m = {0};
            ok(model_open(&m, d, (enum shape)shape, &no_locks, n == 3), "model");
            drop(n);
            double e = tower_error(&m, CLIP_VISION);
            ok(e < 5e-3, "%s with %zu of 4 patches: %g", shape_names[shape], n, e);
            model_close(&m);
        }
    keep = 0;
}

// A picture of which one patch is kept is a picture of one patch, at that patch's position.
static void one_patch(struct dev *d, enum shape shape)
{
    struct model m = {0}, s = {0};
    struct clip_tape t = {0}, ts = {0};
    struct err e;
    float z[Z_MAX], zs[Z_MAX];
    size_t dim = (size_t)small(shape)->embed_dim, same = 0;
    struct clip_config c = *small(shape);
    c.image_size = 8;
    clip_preprocess_default(&c.preprocess, 8);
    ok(model_open(&m, d, shape, &no_locks, false) && !clip_config_check(&c, &e) &&
           !clip_table_init(&s.table, &c, &e) &&
           !clip_grad_init(&s.g, d, &s.table, &no_locks, false, &e),
       "a model, and one of a patch");
    if (!s.g.d) {
        model_close(&m);
        return;
    }
    drop(1);
    ok(!clip_grad_images(&m.g, 3, m.pixels, keep, pick, &t, z, &e), "one patch of each");
    s.flat = calloc(s.table.n_flat, sizeof *s.flat);
    for (size_t i = 0; i < 3; i++) {
        size_t row = (size_t)pick[i] / 2 * 8, col = (size_t)pick[i] % 2 * 8;
        for (size_t y = 0; y < 8; y++)
            memcpy(s.pixels + y * 24, m.pixels + ((i * 16 + row + y) * 16 + col) * 3, 24);
        for (size_t k = 0; k < s.table.n; k++) {
            const struct clip_tensor *to = &s.table.t[k], *from = &m.table.t[k];
            float *at = s.flat + to->offset;
            const float *was = m.flat + from->offset;
            if (to->numel == from->numel) {
                memcpy(at, was, to->numel * sizeof *at);
                continue;
            }
            size_t first = to->shape[0] - 1, W = to->shape[1]; // position rows
            memcpy(at, was, first * W * sizeof *at);
            memcpy(at + first * W, was + (first + (size_t)pick[i]) * W, W * sizeof *at);
        }
        if (!clip_grad_upload(&s.g, s.flat, &e) &&
            !clip_grad_images(&s.g, 1, s.pixels, 0, NULL, &ts, zs, &e))
            same += !memcmp(zs, z + i * dim, dim * sizeof *zs);
    }
    ok(same == 3, "%s: one patch is a small picture", shape_names[shape]);
    clip_tape_release(&m.g, &t);
    clip_tape_release(&s.g, &ts);
    model_close(&m);
    model_close(&s);
    keep = 0;
}

// Gradients of both towers, for any device and way of doing it.
static float *gradients(struct dev *d, enum shape shape, bool recompute, size_t *n)
{
    struct model m = {0};
    struct clip_tape t[2] = {{0}, {0}};
    struct err e;
    float w[Z_MAX], z[Z_MAX];
    if (!model_open(&m, d, shape, &no_locks, recompute))
        return NULL;
    randoms(w, Z_MAX);
    for (int i = 0; i < 2; i++) {
        weighted(&m, (enum clip_tower_id)i, w, &t[i], z);
        if (clip_grad_back(&m.g, &t[i], w, &e))
            return NULL;
        clip_tape_release(&m.g, &t[i]);
    }
    *n = m.table.n_flat;
    float *g = malloc(*n * sizeof *g);
    memcpy(g, m.g.grad, *n * sizeof *g);
    model_close(&m);
    return g;
}

// All patches kept are no dropout; a tape serves both, in turns.
static void all_kept(struct dev *d, enum shape shape)
{
    size_t n;
    float *a = gradients(d, shape, false, &n);
    drop(4);
    float *b = gradients(d, shape, false, &n);
    keep = 0;
    size_t off = 0;
    for (size_t i = 0; a && b && i < n; i++) // sums over rows are of other rows: other roundings
        off += !(fabsf(a[i] - b[i]) <= 1e-5f * (fabsf(a[i]) + 0.1f));
    ok(a && b && !off, "%s: all patches kept are none left out: %zu", shape_names[shape], off);
    free(a);
    free(b);
}

static void same_bytes(enum shape shape, struct dev *one, struct dev *three, struct dev *bf16)
{
    size_t n;
    float *a = gradients(one, shape, false, &n), *b = gradients(three, shape, false, &n);
    float *c = gradients(one, shape, true, &n), *h = gradients(bf16, shape, false, &n);
    ok(a && b && !memcmp(a, b, n * sizeof *a), "%s: gradients do not depend on threads",
       shape_names[shape]);
    ok(a && c && !memcmp(a, c, n * sizeof *a), "nor on --recompute");
    double dot = 0, aa = 0, hh = 0;
    for (size_t i = 0; a && h && i < n; i++) {
        dot += (double)a[i] * (double)h[i];
        aa += (double)a[i] * (double)a[i];
        hh += (double)h[i] * (double)h[i];
    }
    ok(dot / sqrt(aa * hh) > 0.9995, "bfloat16 points the same way: %g", dot / sqrt(aa * hh));
    free(a);
    free(b);
    free(c);
    free(h);
}

// What is still trained gets the gradient that it has without locks, to the bit, and what is locked
// none; `all`: gradients without locks, of the same random numbers.
static void locked(struct dev *d, enum shape shape, const struct clip_locks *l, const float *all)
{
    struct model m = {0};
    struct clip_tape t[2] = {{0}, {0}};
    struct err e;
    float w[Z_MAX], z[Z_MAX];
    size_t same = 0, graded = 0;
    ok(model_open(&m, d, shape, l, false), "a model with locks");
    randoms(w, Z_MAX);
    for (int i = 0; i < 2; i++) {
        weighted(&m, (enum clip_tower_id)i, w, &t[i], z);
        ok(!clip_grad_back(&m.g, &t[i], w, &e), "back");
        clip_tape_release(&m.g, &t[i]);
    }
    for (size_t i = 0; i < m.table.n; i++) {
        const struct clip_tensor *k = &m.table.t[i];
        if (!clip_locks_graded(l, &m.table, i))
            continue;
        graded++;
        same += !memcmp(m.g.grad + m.g.at[i], all + k->offset, k->numel * sizeof *all);
    }
    ok(graded && same == graded && m.g.n_grad == clip_locks_n_grad(l, &m.table),
       "%s: %s, %d unlocked: %zu tensors of %zu have the same gradient", shape_names[shape],
       l->tower[0] ? "image" : "text", l->unlock, same, graded);
    ok(m.g.n_grad < m.table.n_flat, "and the others none");
    for (int i = 0; i < 2 && !l->unlock; i++) {
        enum clip_tower_id id = (enum clip_tower_id)i;
        const struct clip_config *c = &m.table.cfg;
        bool less = clip_tape_bytes(c, id, 8, 80, 0, clip_locks_lowest(l, c, id), false, 4) <
                    clip_tape_bytes(c, id, 8, 80, 0, -1, false, 4);
        ok(less == (l->tower[i] && m.g.lowest[i] > 1), "memory of tower %d", i);
    }
    model_close(&m);
}

static void locks(struct dev *d)
{
    for (int shape = 0; shape < SHAPES; shape++)
        for (int id = 0; id < 2; id++)
            for (int unlock = 0; unlock < 2; unlock++) {
                size_t n;
                struct clip_locks l = {.unlock = unlock};
                l.tower[id] = true;
                float *all = gradients(d, (enum shape)shape, false, &n);
                ok(all != NULL, "gradients without locks");
                if (all)
                    locked(d, (enum shape)shape, &l, all);
                free(all);
            }
}

static void bad_tokens(struct dev *d)
{
    struct model m = {0};
    struct clip_tape t = {0};
    struct err e;
    float z[Z_MAX];
    ok(model_open(&m, d, PLAIN, &no_locks, false), "model");
    m.tokens[3] = 50;
    ok(clip_grad_texts(&m.g, 3, m.tokens, &t, z, &e) && strstr(e.text, "50"),
       "a token outside the vocabulary");
    m.tokens[3] = 7;
    ok(clip_text_length(&m.table.cfg, m.tokens) == 5, "length of a caption");
    clip_tape_release(&m.g, &t);
    model_close(&m);
}

int main(void)
{
    struct dev one, three, bf16;
    struct err e;
    rng_init(&rng, 1, 0);
    if (dev_open(&one, "cpu", DEV_F32, 1, false, &e) ||
        dev_open(&three, "cpu", DEV_F32, 3, false, &e) ||
        dev_open(&bf16, "cpu", DEV_BF16, 2, true, &e))
        return 1;
    towers(&one);
    dropped(&one);
    for (int shape = PLAIN; shape < SHAPES; shape++)
        all_kept(&one, (enum shape)shape);
    for (int shape = PLAIN; shape < SHAPES; shape++)
        if (!small((enum shape)shape)->vision.rope.grid) // its angles are those of another grid
            one_patch(&one, (enum shape)shape);
    for (int shape = SCALED; shape < SHAPES; shape++)
        same_bytes((enum shape)shape, &one, &three, &bf16);
    drop(2);
    same_bytes(EVA02, &one, &three, &bf16);
    same_bytes(PLAIN, &one, &three, &bf16);
    keep = 0;
    locks(&one);
    bad_tokens(&one);
    dev_close(&one);
    dev_close(&three);
    dev_close(&bf16);
    return tap_done();
}
