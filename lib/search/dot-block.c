// SPDX-License-Identifier: Apache-2.0
#include "search/dot-block.h"

#include <cblas.h>
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/isa.h"
#include "base/mem.h"
#include "search/dot-block-kernel.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static enum isa level;
static bool has[DOT_KERNELS];

extern void openblas_set_num_threads(int n) __attribute__((weak));

// The threads are those of system/threads.h; a BLAS that starts its own under each of them would
// only slow them down.
static void look(void)
{
    level = isa_level();
    has[DOT_F32] = true;
    has[DOT_I16] = isa_has(ISA_AVX2);
    has[DOT_BF16] = isa_has(ISA_AVX512_BF16);
    has[DOT_I8] = isa_has(ISA_AVX512_VNNI);
    if (openblas_set_num_threads)
        openblas_set_num_threads(1);
}

// The sums of DOT_I8 have 31 bits: 255 x 127 a value. Rows of DOT_I16 are scaled so that theirs
// have, too.
bool dot_has_kernel(enum dot_kernel kernel, size_t dim)
{
    pthread_once(&once, look);
    return has[kernel] && (kernel != DOT_I8 || dim <= INT32_MAX / (255 * 127));
}

// With AVX-512, products of float32 are as fast as those of AVX2's 16 bits.
enum dot_kernel dot_best_kernel(void)
{
    pthread_once(&once, look);
    return has[DOT_BF16] ? DOT_BF16 : level == ISA_AVX2 ? DOT_I16 : DOT_F32;
}

const char *dot_kernel_name(enum dot_kernel kernel)
{
    static const char *const names[DOT_KERNELS] = {"float32", "bfloat16", "int16", "int8"};
    return names[kernel];
}

static bool has_scale(enum dot_kernel kernel)
{
    return kernel == DOT_I16 || kernel == DOT_I8;
}

static size_t height(enum dot_side side)
{
    return side == DOT_SIDE_LEFT ? DOT_LEFT : DOT_RIGHT;
}

// 32-bit words of a row.
static size_t words_of(enum dot_kernel kernel, size_t dim)
{
    size_t a_word = kernel == DOT_I8 ? 4 : kernel == DOT_F32 ? 1 : 2;
    return dim / a_word + (dim % a_word != 0);
}

// A panel holds whole groups of rows; 0 when they do not fit in size_t.
static size_t whole_groups(enum dot_side side, size_t cap)
{
    size_t rows;
    return mem_add(cap, height(side) - 1, &rows) ? rows / height(side) * height(side) : 0;
}

static size_t data_bytes(enum dot_kernel kernel, enum dot_side side, size_t cap, size_t dim)
{
    size_t words, bytes;
    return mem_mul(whole_groups(side, cap), words_of(kernel, dim), &words) &&
                   mem_mul(words, sizeof(uint32_t), &bytes)
               ? bytes
               : 0;
}

size_t dot_panel_bytes(enum dot_kernel kernel, enum dot_side side, size_t cap, size_t dim)
{
    size_t extra, sum, data = data_bytes(kernel, side, cap, dim);
    size_t a_row = has_scale(kernel) ? 4 * sizeof(float) : 2 * sizeof(float);
    if (!data || !mem_mul(whole_groups(side, cap), a_row, &extra) || !mem_add(data, extra, &sum))
        return 0;
    return sum;
}

size_t dot_panel_most_bytes(enum dot_side side, size_t cap, size_t dim)
{
    size_t most = 0;
    for (int kernel = 0; kernel < DOT_KERNELS; kernel++) {
        bool can =
            kernel == DOT_I8 ? dot_has_kernel(kernel, dim) : kernel == (int)dot_best_kernel();
        size_t bytes = can ? dot_panel_bytes(kernel, side, cap, dim) : 0;
        if (can && !bytes)
            return 0;
        most = bytes > most ? bytes : most;
    }
    return most;
}

int dot_panel_init(struct dot_panel *p, enum dot_kernel kernel, enum dot_side side, size_t cap,
                   size_t dim, struct err *e)
{
    dot_best_kernel(); // sets up OpenBLAS
    *p = (struct dot_panel){.kernel = kernel, .side = side, .cap = cap, .dim = dim};
    size_t bytes = data_bytes(kernel, side, cap, dim);
    if (!bytes)
        return err_set(e, "%zu rows of %zu values are more than memory can hold", cap, dim);
    p->data = mem_alloc_unset(bytes, 1, e); // packing fills whole groups
    size_t rows = whole_groups(side, cap);
    p->norm = p->data ? mem_alloc(rows, sizeof(float), e) : NULL;
    p->lost = p->norm ? mem_alloc(rows, sizeof(float), e) : NULL;
    bool full = p->lost != NULL;
    if (full && has_scale(kernel)) {
        p->scale = mem_alloc(rows, sizeof(float), e);
        p->minus = p->scale ? mem_alloc(rows, sizeof *p->minus, e) : NULL;
        full = p->minus != NULL;
    }
    if (full)
        return 0;
    dot_panel_release(p);
    return -1;
}

void dot_panel_release(struct dot_panel *p)
{
    free(p->data);
    free(p->norm);
    free(p->lost);
    free(p->scale);
    free(p->minus);
    *p = (struct dot_panel){0};
}

static float least_over(double v, size_t dim)
{
    return dot_round_up(sqrt(v * (1 + 1.2e-7 * (double)(dim + 8)))); // v was summed in float32
}

static float norm_of(const float *row, size_t dim)
{
    return dot_round_up(sqrt(dot_exact(row, row, dim)));
}

// A sum of squares under it may have lost some to the end of float32's range.
static const float SMALL = 1e-20f;

static void pack_group(struct dot_panel *p, const float *rows, size_t first, size_t n)
{
    size_t lanes = height(p->side);
    uint32_t *data = (uint32_t *)p->data + first * words_of(p->kernel, p->dim);
    float norm2[DOT_RIGHT], lost2[DOT_RIGHT];
    struct dot_packed to = {norm2, lost2, NULL, NULL};
    if (has_scale(p->kernel)) {
        to.scale = p->scale + first;
        to.minus = p->minus + first;
    }
    if (p->kernel == DOT_I8)
        dot_pack_i8(data, lanes, rows, n, p->dim, p->side == DOT_SIDE_LEFT ? DOT_FLIP : 0, &to);
    else if (p->kernel == DOT_I16)
        dot_pack_i16(data, lanes, rows, n, p->dim, &to);
    else
        dot_pack_bf16(data, lanes, rows, n, p->dim, &to);
    for (size_t i = 0; i < n; i++) {
        p->norm[first + i] = least_over(norm2[i], p->dim);
        p->lost[first + i] = lost2[i] > 0 ? least_over(lost2[i], p->dim) : 0;
        if (norm2[i] < SMALL) // squares were lost; no value loses more than itself
            p->lost[first + i] = p->norm[first + i] = norm_of(rows + i * p->dim, p->dim);
    }
}

void dot_panel_part(struct dot_panel *p, const float *rows, size_t first, size_t n)
{
    size_t lanes = height(p->side);
    if (p->kernel != DOT_F32) {
        for (size_t i = 0; i < n; i += lanes)
            pack_group(p, rows + i * p->dim, first + i, n - i < lanes ? n - i : lanes);
        return;
    }
    memcpy((float *)p->data + first * p->dim, rows, n * p->dim * sizeof(float));
    for (size_t i = 0; i < n; i++)
        p->norm[first + i] = norm_of(rows + i * p->dim, p->dim);
}

void dot_panel_done(struct dot_panel *p)
{
    p->most = p->worst = 0;
    for (size_t i = 0; i < p->n; i++) {
        p->most = fmaxf(p->most, p->norm[i]);
        p->worst = fmaxf(p->worst, p->lost[i]);
    }
}

void dot_panel_set(struct dot_panel *p, const float *rows, size_t n)
{
    p->n = n;
    dot_panel_part(p, rows, 0, n);
    dot_panel_done(p);
}

// One group of a left panel, from one or two groups of a right panel. The lanes after n hold other
// rows or zeros, and their products are not used.
static void take_group(uint32_t *to, const uint32_t *data, size_t words, size_t row, size_t n)
{
    size_t lane = row % DOT_RIGHT, here = DOT_RIGHT - lane;
    const uint32_t *from = data + (row - lane) * words + lane;
    if (here >= DOT_LEFT) {
        for (size_t k = 0; k < words; k++)
            memcpy(to + k * DOT_LEFT, from + k * DOT_RIGHT, DOT_LEFT * sizeof *to);
        return;
    }
    const uint32_t *next = here < n ? data + (row - lane + DOT_RIGHT) * words : from - lane;
    for (size_t k = 0; k < words; k++) {
        for (size_t l = 0; l < here; l++)
            to[k * DOT_LEFT + l] = from[k * DOT_RIGHT + l];
        for (size_t l = here; l < DOT_LEFT; l++)
            to[k * DOT_LEFT + l] = next[k * DOT_RIGHT + l - here];
    }
}

static void take_groups(struct dot_panel *left, const struct dot_panel *right, size_t first,
                        size_t n)
{
    size_t words = words_of(left->kernel, left->dim), groups = whole_groups(left->side, n);
    uint32_t *data = left->data;
    for (size_t i = 0; i < n; i += DOT_LEFT)
        take_group(data + i * words, right->data, words, first + i,
                   n - i < DOT_LEFT ? n - i : DOT_LEFT);
    for (size_t i = 0; left->kernel == DOT_I8 && i < groups * words; i++)
        data[i] ^= DOT_FLIP;
    if (has_scale(left->kernel))
        memcpy(left->scale, right->scale + first, n * sizeof *left->scale);
}

void dot_panel_take(struct dot_panel *left, const struct dot_panel *right, size_t first, size_t n)
{
    left->n = n;
    if (left->kernel != DOT_F32)
        take_groups(left, right, first, n);
    else
        memcpy(left->data, (const float *)right->data + first * left->dim,
               n * left->dim * sizeof(float));
    memcpy(left->norm, right->norm + first, n * sizeof *left->norm);
    memcpy(left->lost, right->lost + first, n * sizeof *left->lost);
    dot_panel_done(left);
}

static void tile(const struct dot_panel *a, size_t i, const struct dot_panel *b, size_t j,
                 float *out, size_t ld)
{
    size_t words = words_of(a->kernel, a->dim);
    const uint32_t *pa = (const uint32_t *)a->data + i * words;
    const uint32_t *pb = (const uint32_t *)b->data + j * words;
    if (a->kernel == DOT_BF16) {
        dot_tile_bf16(pa, pb, words, out, ld);
        return;
    }
    struct dot_bytes x = {pa, a->scale + i, NULL}, y = {pb, b->scale + j, b->minus + j};
    (a->kernel == DOT_I8 ? dot_tile_i8 : dot_tile_i16)(&x, &y, words, out, ld);
}

void dot_block(const struct dot_panel *a, size_t a0, size_t m, const struct dot_panel *b, size_t b0,
               size_t n, float *out, size_t ld)
{
    if (a->kernel == DOT_F32) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)n, (int)a->dim, 1,
                    (const float *)a->data + a0 * a->dim, (int)a->dim,
                    (const float *)b->data + b0 * b->dim, (int)b->dim, 0, out, (int)ld);
        return;
    }
    for (size_t j = 0; j < n; j += DOT_RIGHT) // this panel of b stays in L1, those of a in L2
        for (size_t i = 0; i < m; i += DOT_LEFT)
            tile(a, a0 + i, b, b0 + j, out + i * ld + j, ld);
}

// With x', y' the packed rows, x.y - x'.y' = x.(y - y') + (x - x').y', so by Cauchy-Schwarz it is
// at most |x| lost_y + lost_x (|y| + lost_y). The kernel sums the dim products of x'.y' in float32
// in some order: its error is at most g |x'| |y'| with g = n u / (1 - n u), u = 2^-24 (Higham,
// Accuracy and Stability of Numerical Algorithms, 3.1; fused products only do better), n = dim + 1
// for the rounding of products. bf16 products are exact but may be flushed to zero below 2^-126:
// 1e-30 covers that, and dot_exact's own error is a 2^-29th of g. int16 and int8 sums are exact;
// their way to float32 and the two scales round three times.
float dot_bound(const struct dot_panel *a, size_t i, const struct dot_panel *b)
{
    double nu = (double)(has_scale(a->kernel) ? 3 : a->dim + 2) * 0x1p-24;
    double g = nu < 0.5 ? nu / (1 - nu) * 1.001 : 1e30;
    double x = a->norm[i], lost = a->lost[i];
    double bound = x * b->worst + lost * ((double)b->most + b->worst) +
                   g * (x + lost) * ((double)b->most + b->worst);
    return dot_round_up(bound + 1e-30);
}

double dot_exact(const float *a, const float *b, size_t dim)
{
    pthread_once(&once, look);
#if defined(__x86_64__)
    if (level >= ISA_AVX2)
        return level == ISA_AVX512 ? dot_exact_avx512(a, b, dim) : dot_exact_avx2(a, b, dim);
#endif
    double s[16] = {0};
    size_t i = 0;
    for (; i + 16 <= dim; i += 16)
        for (size_t l = 0; l < 16; l++)
            s[l] += (double)a[i + l] * (double)b[i + l];
    for (size_t l = 0; i < dim; i++, l++)
        s[l] += (double)a[i] * (double)b[i];
    for (size_t w = 8; w; w /= 2)
        for (size_t l = 0; l < w; l++)
            s[l] += s[l + w];
    return s[0];
}

double dot_exact_half(const uint16_t *a, const uint16_t *b, size_t dim)
{
    pthread_once(&once, look);
#if defined(__x86_64__)
    if (level >= ISA_AVX2)
        return level == ISA_AVX512 ? dot_exact_half_avx512(a, b, dim)
                                   : dot_exact_half_avx2(a, b, dim);
#endif
    double s[16] = {0};
    for (size_t i = 0; i < dim; i++)
        s[i % 16] += (double)half_to_f32_one(a[i]) * (double)half_to_f32_one(b[i]);
    for (size_t w = 8; w; w /= 2)
        for (size_t l = 0; l < w; l++)
            s[l] += s[l + w];
    return s[0];
}

void dot_scale(const float *in, double by, float *out, size_t n)
{
    pthread_once(&once, look);
#if defined(__x86_64__)
    if (level >= ISA_AVX2) {
        (level == ISA_AVX512 ? dot_scale_avx512 : dot_scale_avx2)(in, by, out, n);
        return;
    }
#endif
    for (size_t i = 0; i < n; i++)
        out[i] = (float)(in[i] * by);
}

float dot_max(const float *v, size_t n)
{
    pthread_once(&once, look);
#if defined(__x86_64__)
    if (level >= ISA_AVX2)
        return level == ISA_AVX512 ? dot_max_avx512(v, n) : dot_max_avx2(v, n);
#endif
    float best = v[0];
    for (size_t i = 1; i < n; i++)
        best = v[i] > best ? v[i] : best;
    return best;
}

size_t dot_above(const float *v, size_t n, float least, uint32_t *at)
{
    pthread_once(&once, look);
#if defined(__x86_64__)
    if (level >= ISA_AVX2)
        return level == ISA_AVX512 ? dot_above_avx512(v, n, least, at)
                                   : dot_above_avx2(v, n, least, at);
#endif
    size_t found = 0;
    for (size_t i = 0; i < n; i++)
        if (v[i] >= least)
            at[found++] = (uint32_t)i;
    return found;
}

static enum row_state class_of(double norm2, bool scale)
{
    if (!isfinite(norm2))
        return ROW_NOT_FINITE;
    if (norm2 == 0)
        return ROW_ZERO;
    double norm = sqrt(norm2);
    if (!scale && norm > DOT_MAX_NORM)
        return ROW_NOT_FINITE;
    return fabs(norm - 1) > 0.01 ? ROW_RESCALED : ROW_OK;
}

void unit_rows_of(const float *raw, float *unit, size_t n, size_t dim, bool scale, uint8_t *state,
                  double *norm)
{
    for (size_t i = 0; i < n; i++) {
        const float *x = raw + i * dim;
        float *u = unit ? unit + i * dim : NULL;
        double norm2 = dot_exact(x, x, dim), length = sqrt(norm2), by = 1 / length;
        enum row_state s = class_of(norm2, scale);
        if (row_failed(s) && u)
            memset(u, 0, dim * sizeof *u);
        else if (scale && u)
            dot_scale(x, by, u, dim);
        else if (u && u != x)
            memcpy(u, x, dim * sizeof *u);
        if (state)
            state[i] = s;
        if (norm)
            norm[i] = length;
    }
}

void unit_rows(float *rows, size_t n, size_t dim, bool scale, uint8_t *state)
{
    unit_rows_of(rows, rows, n, dim, scale, state, NULL);
}
