// SPDX-License-Identifier: Apache-2.0
// Matrix products through cuBLASLt. It is column-major: our row-major [rows, cols] is its [cols,
// rows], so y = x W^T is asked for as y' = W x'.
//
// An algorithm is chosen once for a weight and a kind of product, as if the batch had PLAN_ROWS
// rows, without splitting the sum over k; so a row's result does not depend on the batch it is in.
#include <cstdlib>
#include <cstring>

#include "device/cuda/kernel.h"

static constexpr size_t WORKSPACE = 32 << 20, PLAN_ROWS = 4096, ALIGN_MOST = 256;

// D [m, n] = alpha op(A) op(B) + beta D, all column-major.
struct product {
    bool ta, tb;
    size_t m, n, k, lda, ldb, ldd;
    cudaDataType_t in, out;
    cublasLtEpilogue_t epilogue;
    bool batch, split; // n counts rows of a batch; the sum over k may be cut
    bool exact;        // no TF32, whatever was asked
    const void *a, *b, *bias;
    float alpha, beta;
    void *d;
};

// What the choice of an algorithm depends on.
struct plan_key {
    size_t m, n, k, lda, ldb, ldd;
    unsigned align[3];
    int ta, tb, in, out, epilogue, split, exact, adds;
};

struct plan {
    struct plan_key key;
    cublasLtMatmulAlgo_t algo;
};

struct cuda_plans {
    struct plan *p;
    size_t n, cap;
};

struct layouts {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, d;
};

static unsigned alignment(const void *p, size_t ld, cudaDataType_t t)
{
    size_t bits = (size_t)p | ld * (t == CUDA_R_32F ? 4 : 2) | ALIGN_MOST;
    return (unsigned)(bits & (~bits + 1));
}

static struct plan_key key_of(const struct product *p)
{
    struct plan_key k;
    memset(&k, 0, sizeof k);
    k.m = p->m;
    k.n = p->batch ? PLAN_ROWS : p->n;
    k.k = p->k;
    k.lda = p->lda;
    k.ldb = p->ldb;
    k.ldd = p->ldd;
    k.align[0] = alignment(p->a, p->lda, p->in);
    k.align[1] = alignment(p->b, p->ldb, p->in);
    k.align[2] = alignment(p->d, p->ldd, p->out);
    k.ta = p->ta;
    k.tb = p->tb;
    k.in = p->in;
    k.out = p->out;
    k.epilogue = p->epilogue;
    k.split = p->split;
    k.exact = p->exact;
    k.adds = p->beta != 0;
    return k;
}

static bool set(struct dev *d, cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t a,
                const void *v, size_t n)
{
    return cuda_check_lt(d, cublasLtMatmulDescSetAttribute(desc, a, v, n), "matrix product");
}

static bool layouts_init(struct dev *d, const struct product *p, size_t n, struct layouts *l)
{
    cublasOperation_t ta = p->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasOperation_t tb = p->tb ? CUBLAS_OP_T : CUBLAS_OP_N;
    bool tf32 = cuda_of(d)->tf32 && p->in == CUDA_R_32F && !p->exact;
    cublasComputeType_t type = tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    *l = (struct layouts){};
    if (!cuda_check_lt(d, cublasLtMatmulDescCreate(&l->desc, type, CUDA_R_32F), "matrix product") ||
        !set(d, l->desc, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta) ||
        !set(d, l->desc, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb) ||
        !set(d, l->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &p->epilogue, sizeof p->epilogue))
        return false;
    if (p->bias && !set(d, l->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias))
        return false;
    return cuda_check_lt(d,
                         cublasLtMatrixLayoutCreate(&l->a, p->in, p->ta ? p->k : p->m,
                                                    p->ta ? p->m : p->k, (int64_t)p->lda),
                         "matrix product") &&
           cuda_check_lt(d,
                         cublasLtMatrixLayoutCreate(&l->b, p->in, p->tb ? n : p->k,
                                                    p->tb ? p->k : n, (int64_t)p->ldb),
                         "matrix product") &&
           cuda_check_lt(d, cublasLtMatrixLayoutCreate(&l->d, p->out, p->m, n, (int64_t)p->ldd),
                         "matrix product");
}

static void layouts_release(struct dev *d, struct layouts *l)
{
    if (l->a)
        cuda_check_lt(d, cublasLtMatrixLayoutDestroy(l->a), "matrix product");
    if (l->b)
        cuda_check_lt(d, cublasLtMatrixLayoutDestroy(l->b), "matrix product");
    if (l->d)
        cuda_check_lt(d, cublasLtMatrixLayoutDestroy(l->d), "matrix product");
    if (l->desc)
        cuda_check_lt(d, cublasLtMatmulDescDestroy(l->desc), "matrix product");
}

static bool prefer(struct dev *d, cublasLtMatmulPreference_t p,
                   cublasLtMatmulPreferenceAttributes_t a, const void *v, size_t n)
{
    return cuda_check_lt(d, cublasLtMatmulPreferenceSetAttribute(p, a, v, n), "matrix product");
}

static bool choose(struct dev *d, const struct plan_key *k, const struct layouts *l,
                   cublasLtMatmulAlgo_t *algo)
{
    cublasLtMatmulPreference_t pref;
    cublasLtMatmulHeuristicResult_t best;
    uint64_t room = WORKSPACE;
    uint32_t schemes = k->split ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : 0;
    int found = 0;
    if (!cuda_check_lt(d, cublasLtMatmulPreferenceCreate(&pref), "matrix product"))
        return false;
    bool good =
        prefer(d, pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room, sizeof room) &&
        prefer(d, pref, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes) &&
        prefer(d, pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &k->align[0], 4) &&
        prefer(d, pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &k->align[1], 4) &&
        prefer(d, pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &k->align[2], 4) &&
        prefer(d, pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &k->align[2], 4) &&
        cuda_check_lt(d,
                      cublasLtMatmulAlgoGetHeuristic(cuda_of(d)->lt, l->desc, l->a, l->b, l->d,
                                                     l->d, pref, 1, &best, &found),
                      "matrix product");
    if (good && !found) {
        cuda_fail(d, "cuBLASLt has no product of %zu x %zu x %zu (alignment %u, %u, %u)", k->m,
                  k->n, k->k, k->align[0], k->align[1], k->align[2]);
        good = false;
    }
    cuda_check_lt(d, cublasLtMatmulPreferenceDestroy(pref), "matrix product");
    *algo = best.algo;
    return good;
}

static const cublasLtMatmulAlgo_t *plan_of(struct dev *d, const struct product *p)
{
    struct cuda_plans *plans = cuda_of(d)->plans;
    struct plan_key key = key_of(p);
    struct layouts l;
    struct err e;
    for (size_t i = 0; i < plans->n; i++)
        if (!memcmp(&plans->p[i].key, &key, sizeof key))
            return &plans->p[i].algo;
    if (mem_grow((void **)&plans->p, &plans->cap, plans->n + 1, sizeof *plans->p, &e)) {
        cuda_fail(d, "%s", e.text);
        return NULL;
    }
    struct plan *plan = &plans->p[plans->n];
    plan->key = key;
    bool good = layouts_init(d, p, key.n, &l) && choose(d, &key, &l, &plan->algo);
    layouts_release(d, &l);
    return good ? &plans->p[plans->n++].algo : NULL;
}

static void multiply(struct dev *d, const struct product *p)
{
    struct layouts l;
    if (!p->m || !p->n || !cuda_enter(d))
        return;
    const cublasLtMatmulAlgo_t *algo = plan_of(d, p);
    void *room = algo ? cuda_slot(d, SLOT_GEMM, WORKSPACE) : NULL;
    if (!room)
        return;
    if (layouts_init(d, p, p->n, &l))
        cuda_check_lt(d,
                      cublasLtMatmul(cuda_of(d)->lt, l.desc, &p->alpha, p->a, l.a, p->b, l.b,
                                     &p->beta, p->d, l.d, p->d, l.d, algo, room, WORKSPACE,
                                     cuda_of(d)->stream),
                      "matrix product");
    layouts_release(d, &l);
}

size_t cuda_gemm_workspace(void)
{
    return WORKSPACE;
}

int cuda_gemm_open(struct dev *d, struct err *e)
{
    struct cuda *c = cuda_of(d);
    if (!(c->plans = (struct cuda_plans *)mem_alloc(1, sizeof *c->plans, e)))
        return -1;
    if (cuda_check_lt(d, cublasLtCreate(&c->lt), "cuBLASLt"))
        return 0;
    *e = d->failure;
    return -1;
}

void cuda_gemm_close(struct dev *d)
{
    struct cuda *c = cuda_of(d);
    if (c->lt)
        cuda_check_lt(d, cublasLtDestroy(c->lt), "closing");
    if (c->plans)
        free(c->plans->p);
    free(c->plans);
    c->plans = NULL;
}

// -- weights: one copy in the activation's type, as the master lies, serves both directions
struct dev_weight {
    size_t out, in;
    bool transposed;   // [in, out]
    const float *view; // master values on the device, or NULL
    void *own;         // [out, in] (or [in, out]) act; NULL where the master itself is used
};

static const void *values(const struct dev_weight *w)
{
    return w->own ? w->own : w->view;
}

static struct dev_weight *weight_room(struct dev *d, size_t out, size_t in, bool transposed,
                                      bool own, struct err *e)
{
    size_t n, bytes;
    if (!mem_mul(out, in, &n) || !mem_mul(n, sizeof(float), &bytes)) {
        err_set(e, "%s: a weight of %zu x %zu is too large", d->name, out, in);
        return NULL;
    }
    struct dev_weight *w = (struct dev_weight *)mem_alloc(1, sizeof *w, e);
    if (!w)
        return NULL;
    w->out = out;
    w->in = in;
    w->transposed = transposed;
    w->own = own ? cuda_raw(d, n * d->act_size, e) : NULL;
    if (w->own || !own)
        return w;
    free(w);
    return NULL;
}

template <class X, class Y> struct convert_op {
    const X *x;
    Y *y;
    __device__ void operator()(size_t i) const
    {
        y[i] = from_f32<Y>(to_f32(x[i]));
    }
};

// A host matrix in another type goes over as it is and is converted there.
static bool fill_other(struct dev *d, struct dev_weight *w, const void *host, enum dev_type type,
                       struct err *e)
{
    size_t n = w->out * w->in, bytes = n * (type == DEV_BF16 ? 2 : 4);
    void *tmp = cuda_raw(d, bytes, e);
    if (!tmp)
        return false;
    cuda_upload(d, tmp, host, bytes);
    if (type == DEV_BF16)
        cuda_each(d, "weights", n, convert_op<bf16, float>{(const bf16 *)tmp, (float *)w->own});
    else
        cuda_each(d, "weights", n, convert_op<float, bf16>{(const float *)tmp, (bf16 *)w->own});
    cuda_free(d, tmp);
    return true;
}

struct dev_weight *cuda_weight_new(struct dev *d, const void *host, enum dev_type type, size_t out,
                                   size_t in, bool transposed, struct err *e)
{
    struct dev_weight *w = weight_room(d, out, in, transposed, true, e);
    if (!w)
        return NULL;
    bool good = true;
    if (type == d->act)
        cuda_upload(d, w->own, host, out * in * d->act_size);
    else
        good = fill_other(d, w, host, type, e);
    if (good && !cuda_failed(d))
        return w;
    if (cuda_failed(d))
        *e = d->failure;
    cuda_weight_free(d, w);
    return NULL;
}

struct dev_weight *cuda_weight_view(struct dev *d, const float *master, size_t out, size_t in,
                                    bool transposed, struct err *e)
{
    struct dev_weight *w = weight_room(d, out, in, transposed, d->act == DEV_BF16, e);
    if (!w)
        return NULL;
    w->view = master;
    cuda_weight_refresh(d, w);
    return w;
}

void cuda_weight_refresh(struct dev *d, struct dev_weight *w)
{
    if (w->own && w->view)
        cuda_each(d, "weights", w->out * w->in, convert_op<float, bf16>{w->view, (bf16 *)w->own});
}

size_t cuda_weight_values(const struct dev_weight *w) { return w->out * w->in; }

void cuda_weight_free(struct dev *d, struct dev_weight *w)
{
    if (!w)
        return;
    cuda_free(d, w->own);
    free(w);
}

static cudaDataType_t act_type(const struct dev *d)
{
    return d->act == DEV_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

// y' [out, rows] = W x'
static struct product forward(const struct dev *d, size_t rows, const void *x, size_t x_ld,
                              const struct dev_weight *w)
{
    struct product p = {};
    p.ta = !w->transposed; // W [out, in] row-major is [in, out] here
    p.m = w->out;
    p.n = rows;
    p.k = w->in;
    p.a = values(w);
    p.lda = w->transposed ? w->out : w->in;
    p.b = x;
    p.ldb = x_ld;
    p.ldd = w->out;
    p.in = act_type(d);
    p.alpha = cuda_planted<PLANT_gemm> ? 1.0625f : 1.0f;
    p.batch = true;
    p.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    return p;
}

// cuBLASLt takes a bias of D's type only.
static bool add_bias(struct dev *d, struct product *p, const float *bias, cublasLtEpilogue_t how)
{
    p->epilogue = how;
    p->bias = bias;
    if (p->out == CUDA_R_32F)
        return true;
    bf16 *own = (bf16 *)cuda_slot(d, SLOT_BIAS, p->m * sizeof(bf16));
    if (!own)
        return false;
    cuda_each(d, "bias", p->m, convert_op<float, bf16>{bias, own});
    p->bias = own;
    return true;
}

void cuda_linear(struct dev *d, size_t rows, const void *x, size_t x_ld, const struct dev_weight *w,
                 const struct dev_epilogue *epilogue, void *y, bool y_f32)
{
    static const struct dev_epilogue none = {};
    const struct dev_epilogue *ep = epilogue ? epilogue : &none;
    bool f32 = y_f32 || d->act == DEV_F32;
    // The residual is added by the product itself where nothing stands between.
    bool adds = ep->residual && !ep->gamma && ep->act == DEV_ACT_NONE && !ep->pre;
    bool tanh_gelu = !f32 && (ep->act == DEV_ACT_GELU || ep->act == DEV_ACT_TANH_GELU) &&
                     ep->bias && !ep->pre && !ep->gamma && !ep->residual;
    bool finish = !adds && !tanh_gelu && (ep->act != DEV_ACT_NONE || ep->gamma || ep->residual);
    struct product p = forward(d, rows, x, x_ld, w);
    void *to = adds ? ep->residual : y;
    p.out = adds || f32 ? CUDA_R_32F : CUDA_R_16BF;
    if (ep->pre) {
        to = ep->pre;
        p.out = act_type(d);
    } else if (finish && (ep->residual || p.out == CUDA_R_16BF)) {
        size_t n, bytes;
        bool fits = mem_mul(rows, w->out, &n) && mem_mul(n, sizeof(float), &bytes);
        if (!fits)
            cuda_fail(d, "linear layer: too large");
        to = fits && n ? cuda_slot(d, SLOT_LINEAR, bytes) : NULL;
        p.out = CUDA_R_32F;
        if (!to)
            return;
    }
    p.d = to;
    p.beta = adds ? 1 : 0;
    if (ep->bias && !add_bias(d, &p, ep->bias,
                              tanh_gelu ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_BIAS))
        return;
    multiply(d, &p);
    if (finish || ep->pre)
        cuda_finish(d, rows, w->out, to, p.out == CUDA_R_32F, ep->act, ep->gamma, ep->residual, y,
                    y_f32);
}

void cuda_linear_dx(struct dev *d, size_t rows, const void *dy, const struct dev_weight *w,
                    void *dx)
{
    if (!w->view) {
        cuda_fail(d, "a weight without master values has no backward");
        return;
    }
    // dx' [in, rows] = W^T dy'
    struct product p = forward(d, rows, dy, w->out, w);
    p.ta = w->transposed;
    p.m = w->in;
    p.k = w->out;
    p.ldd = w->in;
    p.out = act_type(d);
    p.d = dx;
    multiply(d, &p);
}

void cuda_linear_dw(struct dev *d, size_t rows, const void *dy, const void *x, size_t x_ld,
                    const struct dev_weight *w, float *dw, float *db)
{
    // dw' [in, out] += x' dy, or [out, in] += dy' x
    struct product p = {};
    p.tb = true;
    p.m = w->transposed ? w->out : w->in;
    p.n = w->transposed ? w->in : w->out;
    p.k = rows;
    p.a = w->transposed ? dy : x;
    p.lda = w->transposed ? w->out : x_ld;
    p.b = w->transposed ? x : dy;
    p.ldb = w->transposed ? x_ld : w->out;
    p.d = dw;
    p.ldd = p.m;
    p.in = act_type(d);
    p.out = CUDA_R_32F;
    p.alpha = p.beta = 1;
    p.split = true;
    p.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    if (rows)
        multiply(d, &p);
    if (db)
        cuda_col_sums(d, rows, w->out, dy, false, w->out, db);
}

void cuda_gemm(struct dev *d, bool ta, bool tb, size_t m, size_t n, size_t k, float alpha,
               const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
               size_t ldc)
{
    // C' [n, m] = op(B)' op(A)'
    struct product p = {};
    p.ta = tb;
    p.tb = ta;
    p.m = n;
    p.n = m;
    p.k = k;
    p.a = b;
    p.lda = ldb;
    p.b = a;
    p.ldb = lda;
    p.d = c;
    p.ldd = ldc;
    p.in = p.out = CUDA_R_32F;
    p.alpha = alpha;
    p.beta = beta;
    p.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    multiply(d, &p);
}

// v' [n, m] = b a'. A few widths of block have a plan each.
void cuda_scores(struct dev *d, size_t m, const void *a, size_t n, const void *b, size_t k,
                 float *v, size_t ld)
{
    struct product p = {};
    p.ta = true;
    p.m = cuda_blocks(n, DEV_SCORE_COLS) * DEV_SCORE_COLS;
    p.n = m;
    p.k = k;
    p.a = b;
    p.lda = k;
    p.b = a;
    p.ldb = k;
    p.d = v;
    p.ldd = ld;
    p.in = act_type(d);
    p.out = CUDA_R_32F;
    p.alpha = 1;
    p.batch = p.exact = true;
    p.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    multiply(d, &p);
}
