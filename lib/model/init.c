// SPDX-License-Identifier: Apache-2.0
// First values of tensors, and position embeddings of another size (model/table.h).
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/table.h"
#include "base/mem.h"
#include "base/rng.h"

static void fill(float *out, size_t n, double v)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (float)v;
}

// The random words for one tensor.
struct source {
    uint64_t seed, stream;
};

// Word to (0, 1).
static double unit(uint32_t u)
{
    return (u + 0.5) * 0x1p-32;
}

// Makes four values at a time (Box-Muller, both of each pair): a value depends only on its index.
static void normal(const struct source *r, float *out, size_t n, double std)
{
    for (size_t i = 0; i < n; i += 4) {
        uint32_t u[4];
        float v[4];
        rng_block(r->seed, r->stream, i / 4, u);
        for (int k = 0; k < 4; k += 2) {
            float size = (float)std * sqrtf(-2 * logf((float)unit(u[k])));
            float angle = (float)(2 * M_PI * unit(u[k + 1]));
            v[k] = size * cosf(angle);
            v[k + 1] = size * sinf(angle);
        }
        memcpy(out + i, v, (n - i < 4 ? n - i : 4) * sizeof *v);
    }
}

static void uniform(const struct source *r, float *out, size_t n, double bound)
{
    for (size_t i = 0; i < n; i += 4) {
        uint32_t u[4];
        rng_block(r->seed, r->stream, i / 4, u);
        for (size_t k = i; k < n && k < i + 4; k++)
            out[k] = (float)(bound * (2 * unit(u[k - i]) - 1));
    }
}

// torch's default bound of a linear or convolution with n inputs (weight and bias alike).
static double linear_bound(size_t n)
{
    return 1 / sqrt((double)n);
}

// Weights of the text tower's blocks: normal; 0 for other kinds.
static double text_std(const struct clip_tower *t, enum clip_kind kind)
{
    double w = t->width;
    switch (kind) {
    case CLIP_K_QKV_W:
        return 1 / sqrt(w);
    case CLIP_K_OUT_W:
    case CLIP_K_PROJ_W:
        return 1 / sqrt(w * 2 * t->layers);
    case CLIP_K_FC_W:
        return 1 / sqrt(2 * w);
    default:
        return 0;
    }
}

static void init_block(const struct clip_table *t, const struct clip_tensor *x,
                       const struct source *r, float *out)
{
    const struct clip_tower *w = x->tower == CLIP_VISION ? &t->cfg.vision : &t->cfg.text;
    double std = x->tower == CLIP_TEXT ? text_std(w, x->kind) : 0;
    switch (x->kind) {
    case CLIP_K_QKV_W:
    case CLIP_K_OUT_W:
    case CLIP_K_FC_W:
    case CLIP_K_PROJ_W:
        if (std > 0)
            normal(r, out, x->numel, std);
        else if (x->kind == CLIP_K_QKV_W)
            uniform(r, out, x->numel, sqrt(6.0 / (double)(x->shape[0] + x->shape[1])));
        else
            uniform(r, out, x->numel, linear_bound(x->shape[1]));
        return;
    case CLIP_K_FC_B:
        uniform(r, out, x->numel, linear_bound((size_t)w->width));
        return;
    case CLIP_K_PROJ_B:
        uniform(r, out, x->numel,
                linear_bound((size_t)(x->layer == w->layers ? w->pool_mlp : w->mlp)));
        return;
    case CLIP_K_LS1:
    case CLIP_K_LS2:
        fill(out, x->numel, w->ls_init);
        return;
    case CLIP_K_LATENT:
        normal(r, out, x->numel, 1 / sqrt((double)x->shape[1]));
        return;
    case CLIP_K_Q_W:
    case CLIP_K_KV_W:
        uniform(r, out, x->numel, sqrt(6.0 / (double)(x->shape[0] + x->shape[1])));
        return;
    default: // layer norms, attention biases
        fill(out, x->numel,
             x->kind == CLIP_K_LN1_W || x->kind == CLIP_K_LN2_W || x->kind == CLIP_K_ATT_LN_W ||
                 x->kind == CLIP_K_MLP_LN_W || x->kind == CLIP_K_LN_Q_W);
    }
}

void clip_init_tensor(const struct clip_table *t, size_t i, uint64_t seed, float *out)
{
    const struct clip_tensor *x = &t->t[i];
    bool vision = x->tower == CLIP_VISION;
    double scale = 1 / sqrt((double)(vision ? t->cfg.vision.width : t->cfg.text.width));
    struct source r = {seed, i};
    switch (x->kind) {
    case CLIP_K_CLASS:
    case CLIP_K_HEAD:
        normal(&r, out, x->numel, scale);
        return;
    case CLIP_K_PATCH:
        uniform(&r, out, x->numel, linear_bound(x->numel / x->shape[0]));
        return;
    case CLIP_K_TOKEN:
        normal(&r, out, x->numel, 0.02);
        return;
    case CLIP_K_POS:
        normal(&r, out, x->numel, vision ? scale : 0.01);
        return;
    case CLIP_K_LN_PRE_W:
    case CLIP_K_LN_FINAL_W:
        fill(out, x->numel, 1);
        return;
    case CLIP_K_LN_PRE_B:
    case CLIP_K_LN_FINAL_B:
    case CLIP_K_PATCH_B:
    case CLIP_K_HEAD_B:
        fill(out, x->numel, 0);
        return;
    case CLIP_K_LOGIT_SCALE:
        fill(out, 1, t->cfg.logit_scale);
        return;
    case CLIP_K_LOGIT_BIAS:
        fill(out, 1, t->cfg.logit_bias);
        return;
    default:
        init_block(t, x, &r, out);
    }
}

// Keys' cubic convolution with a = -1/2, as torch and Pillow use for antialiased bicubic.
static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

// Weights of n1 outputs over n0 inputs: m[n1][n0], rows sum to 1.
static void cubic_matrix(double *m, int n0, int n1)
{
    double scale = (double)n0 / n1, stretch = scale > 1 ? scale : 1;
    for (int i = 0; i < n1; i++) {
        double centre = scale * (i + 0.5), sum = 0;
        int lo = (int)(centre - 2 * stretch + 0.5), hi = (int)(centre + 2 * stretch + 0.5);
        lo = lo < 0 ? 0 : lo;
        hi = hi > n0 ? n0 : hi;
        for (int j = lo; j < hi; j++)
            sum += m[i * n0 + j] = cubic((j - centre + 0.5) / stretch);
        for (int j = lo; j < hi; j++)
            m[i * n0 + j] /= sum;
    }
}

// out[i1][rest] = sum over i0 of m[i1][i0] in[i0][rest], for each of `outer` planes.
static void apply(const double *m, int n0, int n1, const float *in, float *out, size_t outer,
                  size_t rest)
{
    for (size_t o = 0; o < outer; o++)
        for (int i = 0; i < n1; i++)
            for (size_t r = 0; r < rest; r++) {
                double s = 0;
                for (int j = 0; j < n0; j++)
                    s += m[i * n0 + j] * in[(o * (size_t)n0 + (size_t)j) * rest + r];
                out[(o * (size_t)n1 + (size_t)i) * rest + r] = (float)s;
            }
}

int clip_resize_grid(const float *in, int g0, float *out, int g1, int w, int first, struct err *e)
{
    size_t W = (size_t)w, a = (size_t)g0, b = (size_t)g1, kept = (size_t)first * W;
    memcpy(out, in, kept * sizeof *out);
    in += kept;
    out += kept;
    if (g0 == g1) {
        memcpy(out, in, a * a * W * sizeof *out);
        return 0;
    }
    double *m = mem_alloc(a * b, sizeof *m, e);
    float *half = m ? mem_alloc(a * b, W * sizeof *half, e) : NULL;
    if (half) {
        cubic_matrix(m, g0, g1);
        apply(m, g0, g1, in, half, a, W);      // along a row: [g0][g0] -> [g0][g1]
        apply(m, g0, g1, half, out, 1, b * W); // along columns: -> [g1][g1]
    }
    free(m);
    free(half);
    return half ? 0 : -1;
}

void clip_resize_line(const float *in, int n0, float *out, int n1, int w)
{
    double scale = (double)n0 / n1;
    for (int i = 0; i < n1; i++) {
        double at = scale * (i + 0.5) - 0.5;
        at = at < 0 ? 0 : at;
        int j = (int)at, k = j + 1 < n0 ? j + 1 : j;
        float f = (float)(at - j);
        for (int x = 0; x < w; x++)
            out[(size_t)i * (size_t)w + (size_t)x] =
                (1 - f) * in[(size_t)j * (size_t)w + (size_t)x] +
                f * in[(size_t)k * (size_t)w + (size_t)x];
    }
}
