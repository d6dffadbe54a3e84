// SPDX-License-Identifier: Apache-2.0
// Matrix products of the stand-in. A value of D is one sum in float32, in the order of k, so that
// it has the same bytes in any batch, at any address and on any processor; a BLAS promises none of
// it.
#include <vector>

#include "cublasLt.h"
#include "cuda_bf16.h"

namespace
{
const size_t TILE = 16, ROWS = 4;

struct product {
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatrixLayoutOpaque_t la, lb, ld;
    float alpha, beta;
    const void *a, *b, *bias;
    void *d;
};

float get(const void *p, cudaDataType_t t, size_t i)
{
    return t == CUDA_R_32F ? ((const float *)p)[i]
                           : __bfloat162float(((const __nv_bfloat16 *)p)[i]);
}

void put(void *p, cudaDataType_t t, size_t i, float v)
{
    if (t == CUDA_R_32F)
        ((float *)p)[i] = v;
    else
        ((__nv_bfloat16 *)p)[i] = __float2bfloat16_rn(v);
}

float gelu_tanh(float x)
{
    return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
}

// Vectors of the processor's width, and no fused multiply-add, which would be other bytes.
#if defined(__x86_64__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

typedef float lanes __attribute__((vector_size(4 * TILE), aligned(4), may_alias));

// c[i, TILE] = a[i, k] b[k, TILE], for ROWS rows i
CLONES void multiply(const float *a, const float *b, size_t k, float *c)
{
    lanes s[ROWS] = {};
    for (size_t j = 0; j < k; j++, b += TILE)
#pragma GCC unroll 4
        for (size_t i = 0; i < ROWS; i++)
            s[i] += *(const lanes *)b * a[i * k + j];
    memcpy(c, s, sizeof s);
}

// op(A) as [m, k], zeros up to whole ROWS.
std::vector<float> left(const product &p, size_t k)
{
    bool ta = p.desc.ta == CUBLAS_OP_T;
    size_t m = p.ld.rows;
    std::vector<float> a((m + ROWS - 1) / ROWS * ROWS * k);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < k; j++)
            a[i * k + j] =
                get(p.a, p.la.type, ta ? i * (size_t)p.la.ld + j : j * (size_t)p.la.ld + i);
    return a;
}

// Columns [c0, c0 + w) of op(B) as [k, TILE], zeros after them.
void right(const product &p, size_t k, size_t c0, size_t w, std::vector<float> &b)
{
    bool tb = p.desc.tb == CUBLAS_OP_T;
    std::fill(b.begin(), b.end(), 0.0f);
    for (size_t i = 0; i < w; i++)
        for (size_t j = 0; j < k; j++) {
            size_t at = tb ? j * (size_t)p.lb.ld + c0 + i : (c0 + i) * (size_t)p.lb.ld + j;
            b[j * TILE + i] = get(p.b, p.lb.type, at);
        }
}

void finish(const product &p, size_t row, size_t col, float sum)
{
    size_t at = col * (size_t)p.ld.ld + row;
    float v = p.alpha * sum;
    if (p.beta != 0)
        v += p.beta * get(p.d, p.ld.type, at);
    if (p.desc.epilogue != CUBLASLT_EPILOGUE_DEFAULT)
        v += get(p.desc.bias, p.ld.type, row);
    if (p.desc.epilogue == CUBLASLT_EPILOGUE_GELU_BIAS)
        v = gelu_tanh(v);
    put(p.d, p.ld.type, at, v);
}

void run(const product &p)
{
    size_t m = p.ld.rows, n = p.ld.cols;
    size_t k = p.desc.ta == CUBLAS_OP_T ? p.la.rows : p.la.cols;
    std::vector<float> a = left(p, k), b(TILE * k), c(ROWS * TILE);
    for (size_t c0 = 0; c0 < n; c0 += TILE) {
        size_t w = n - c0 < TILE ? n - c0 : TILE;
        right(p, k, c0, w, b);
        for (size_t r0 = 0; r0 < m; r0 += ROWS) {
            multiply(a.data() + r0 * k, b.data(), k, c.data());
            for (size_t r = r0; r < m && r < r0 + ROWS; r++)
                for (size_t i = 0; i < w; i++)
                    finish(p, r, c0 + i, c[(r - r0) * TILE + i]);
        }
    }
}
} // namespace

struct cublasLtContext {
    int unused;
};
struct cublasLtMatmulPreferenceOpaque_t {
    int unused;
};

cublasStatus_t cublasLtCreate(cublasLtHandle_t *h)
{
    *h = new cublasLtContext{0};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t h)
{
    delete h;
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasLtGetStatusString(cublasStatus_t s)
{
    return s == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED" : "CUBLAS_STATUS";
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t,
                                        cudaDataType_t)
{
    *d = new cublasLtMatmulDescOpaque_t{CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT,
                                        nullptr};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    delete d;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d,
                                              cublasLtMatmulDescAttributes_t a, const void *v,
                                              size_t n)
{
    void *to = a == CUBLASLT_MATMUL_DESC_TRANSA     ? (void *)&d->ta
               : a == CUBLASLT_MATMUL_DESC_TRANSB   ? (void *)&d->tb
               : a == CUBLASLT_MATMUL_DESC_EPILOGUE ? (void *)&d->epilogue
                                                    : (void *)&d->bias;
    size_t size = a == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? sizeof(void *) : 4;
    if (n != size)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, v, n);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType_t t,
                                          uint64_t rows, uint64_t cols, int64_t ld)
{
    *l = new cublasLtMatrixLayoutOpaque_t{t, rows, cols, ld};
    return ld >= (int64_t)rows ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    delete l;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p)
{
    *p = new cublasLtMatmulPreferenceOpaque_t{0};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    delete p;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t,
                                                    const void *, size_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t, int,
                                              cublasLtMatmulHeuristicResult_t *r, int *n)
{
    *r = {};
    *n = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t la, const void *b,
                              cublasLtMatrixLayout_t lb, const void *beta, const void *c,
                              cublasLtMatrixLayout_t lc, void *d, cublasLtMatrixLayout_t ld,
                              const cublasLtMatmulAlgo_t *, void *, size_t, cudaStream_t s)
{
    bool ta = desc->ta == CUBLAS_OP_T, tb = desc->tb == CUBLAS_OP_T;
    uint64_t k = ta ? la->rows : la->cols;
    if (c != d || lc->ld != ld->ld || (ta ? la->cols : la->rows) != ld->rows ||
        (tb ? lb->rows : lb->cols) != ld->cols || (tb ? lb->cols : lb->rows) != k ||
        la->type != lb->type)
        return CUBLAS_STATUS_INVALID_VALUE;
    product p = {*desc, *la, *lb,        *ld, *(const float *)alpha, *(const float *)beta,
                 a,     b,   desc->bias, d};
    cuda_on_cpu::enqueue(s, [p] { run(p); });
    return CUBLAS_STATUS_SUCCESS;
}
