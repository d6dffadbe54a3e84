// SPDX-License-Identifier: Apache-2.0
// The interface of a device. A device owns memory and has the operations below; lib/model and
// lib/losses use only these operations, so they run on any device. The CPU device
// (device/cpu/table.c) is the reference: the same tests compare other devices with it.
//
// Conventions
//   - Pointers marked "device" come from `alloc`; on the CPU they are ordinary memory.
//   - Matrices are row-major. Sizes are in elements, `ld` is the distance between rows.
//   - `act` buffers hold the device's activation type: float32, or bfloat16 when the device was
//     opened with DEV_BF16. The residual stream, statistics, gradients of parameters, losses and
//     everything on the loss side are float32.
//   - Operations run in the order they are given and may be asynchronous; `download`, `fetched` and
//     `sync` wait. They return nothing: the first failure (out of memory, a failed launch) is kept
//     and reported by those three and `alloc`.
//   - Same input, same bytes, for any number of threads, and a row's result does not depend on the
//     other rows of the batch, unless a function says otherwise.
#ifndef DEVICE_DEV_H
#define DEVICE_DEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum dev_type {
    DEV_F32,
    DEV_BF16,
    DEV_AUTO, // only to dev_open: bfloat16 where its products are faster, else float32
};
enum dev_act { DEV_ACT_NONE, DEV_ACT_GELU, DEV_ACT_QUICK_GELU, DEV_ACT_TANH_GELU };

// A weight matrix [out, in] in the layout that the device's GEMM needs (packed, converted). Opaque.
struct dev_weight;
// A recorded list of operations, to be repeated.
struct dev_record;

// What a linear layer does to x W^T on the way out, in this order.
struct dev_epilogue {
    const float *bias;  // device [out], or NULL
    void *pre;          // act [rows, out]: the value before the activation is kept here; or NULL
    enum dev_act act;   //
    const float *gamma; // device [out]: layer scale, or NULL
    float *residual;    // float32 [rows, out]: the result is added to it instead of stored in y
};

// Sequences of unequal length laid end to end: sequence i owns rows [start[i], start[i + 1]).
struct dev_ragged {
    size_t n;             // sequences
    size_t max_len;       // longest
    const int32_t *start; // device [n + 1]
};

struct dev_attention {
    size_t heads, head_dim;
    bool causal;
    // Query rows: those of `kv` (all rows), or with last_only one row a sequence: row q_row[i] of
    // sequence i (device, counted from its start), query rows then stand at index i.
    bool last_only;
    const int32_t *q_row;
    struct dev_ragged kv;
    const void *q, *k, *v; // act; head h at columns [h * head_dim, (h + 1) * head_dim)
    size_t q_ld, kv_ld;    // 3 * width inside a joint qkv buffer
    void *out;             // act [query rows, heads * head_dim]
    size_t out_ld;
    float *lse; // device [query rows, heads] log-sum-exp kept for backward; or NULL
};

struct dev_adamw {
    float lr, beta1, beta2, eps, weight_decay;
    float bias1, bias2; // 1 - beta^step
    float grad_scale;   // gradients are multiplied by it
    // Device: they are multiplied by its factor too, and a NaN there leaves everything as it is.
    // NULL: no clipping.
    const struct dev_clip *clip;
};
// For `given_ce`: a softmax over rows whose sums are known. x = logits.
struct dev_given {
    const float *logits; // device [rows, cols]
    size_t ld;           // of logits and grad
    const float *lse;    // device [rows]
    const float *other;  // device [cols], the sums of the columns; NULL: there is no second softmax
    // One of these two:
    const int32_t *target; // device [rows]; -1: no column
    const float *teacher;  // device [rows, cols]
    size_t teacher_ld;
    const float *teacher_lse, *teacher_other; // device [rows], [cols] (with `other`)
    float weight;
    float *grad;                   // may be the logits
    float *loss, *entropy, *slope; // device [rows], NULL: not wanted
};
// For `label_least` and `label_margin`: similarities of rows with columns, which have labels. A
// row's least is that of the columns of its own label, the lowest of equal ones; share_i = 1 / (the
// number of the others), 0 where there are none.
struct dev_margin {
    const float *sims;                // device [rows, cols]
    size_t ld;                        // of sims and grad
    const int32_t *row_label, *label; // device [rows], [cols]
    const float *row_share, *share;   // device [rows], [cols]: the columns' are of their columns
    // What label_least found of the rows, and of the columns as rows of the transposed matrix.
    float *least, *back;                   // device [rows]
    int32_t *at;                           // device [rows]
    const float *other_least, *other_back; // device [cols]
    const int32_t *other_at;               // device [cols]
    size_t row0;                           // number of the first row, as other_at has them
    float weight;                          // of label_margin
    float *loss;                           // device [rows]: of label_least
    float *grad;                           // device: of label_margin; may be the sims
};
// What `clip` finds.
struct dev_clip {
    double norm;  // of all gradients
    float factor; // NaN: no step is to be taken
};
enum { DEV_WEIGH_MAX = 32 };

// -- searching among scores
enum {
    DEV_SCORE_COLS = 128, // columns of a block of scores are made in multiples of it
    DEV_TOP_MAX = 32      // of hits_top
};
#define DEV_TOP_FULL 0x80000000u

// A block of a matrix of scores: v[i * ld + j] is that of row row0 + i and column col0 + j.
struct dev_scores {
    const float *v; // device
    size_t ld, rows, cols;
    uint32_t row0, col0;
};
struct dev_hit {
    uint32_t row, col;
    float score;
};
// A list of hits, in any order. Hits beyond its capacity are counted, but not stored.
struct dev_hits {
    struct dev_hit *hit; // device [room]
    uint32_t *n;         // device [1]; zeroed by the caller
    uint32_t room;
};
// State of hits_top for the rows of a block, from the blocks to its left.
struct dev_top {
    size_t n;           // of so many greatest scores, 1 to DEV_TOP_MAX
    bool first;         // the leftmost block: best and found are set up
    uint32_t most;      // hits that a row may have
    const float *slack; // device [rows]
    float *best;        // device [rows, n], descending
    uint32_t *found;    // device [rows]: hits listed; DEV_TOP_FULL is set where there were more
};

struct dev;
struct dev_ops {
    // -- memory
    // *available: bytes that alloc can still return; *total: bytes of the device. 0 or -1.
    int (*memory)(struct dev *, size_t *available, size_t *total, struct err *);
    void *(*alloc)(struct dev *, size_t bytes, struct err *); // zeroed; NULL with err
    void (*free)(struct dev *, void *);
    void (*upload)(struct dev *, void *dst, const void *host, size_t bytes);
    int (*download)(struct dev *, void *host, const void *src, size_t bytes, struct err *);
    // An upload that overlaps the operations queued so far: none queued since the last sync uses
    // dst.
    void (*upload_ahead)(struct dev *, void *dst, const void *host, size_t bytes);
    // A download that does not wait. The bytes are in `host` after `fetched` with the number
    // returned here (or a later number), or after `sync`. 0: the bytes are in `host` already.
    uint64_t (*fetch)(struct dev *, void *host, const void *src, size_t bytes);
    int (*fetched)(struct dev *, uint64_t number, struct err *);
    int (*sync)(struct dev *, struct err *);
    // The queue of a device that works by itself, a cudaStream_t; NULL: the device is the host.
    void *(*stream)(struct dev *);
    void (*zero)(struct dev *, void *dst, size_t bytes);
    // Records operations that are repeated with the same memory and sizes:
    //     while (record(d, &r)) {
    //         the operations: none that allocates, frees, uploads, fetches or waits
    //         if (!recorded(d, r))
    //             break;
    //     }
    // When record returns false it has repeated the recorded operations. *r is NULL at first.
    bool (*record)(struct dev *, struct dev_record **);
    bool (*recorded)(struct dev *, struct dev_record *); // true: run the loop once more
    void (*record_free)(struct dev *, struct dev_record *);
    void (*copy)(struct dev *, void *dst, const void *src, size_t bytes);

    // -- linear layers: y[rows, out] = x[rows, in] W^T, W [out, in]
    // From a host matrix float32 or bfloat16 (`type`), [out, in], or [in, out] when `transposed`.
    struct dev_weight *(*weight_new)(struct dev *, const void *host, enum dev_type type, size_t out,
                                     size_t in, bool transposed, struct err *);
    // For training: over float32 device master values [out, in] that the optimiser changes;
    // weight_refresh is called after each change.
    struct dev_weight *(*weight_view)(struct dev *, const float *master, size_t out, size_t in,
                                      bool transposed, struct err *);
    void (*weight_refresh)(struct dev *, struct dev_weight *);
    void (*weight_free)(struct dev *, struct dev_weight *);
    size_t (*weight_values)(const struct dev_weight *); // out times in
    // y is act, or float32 with y_f32; ignored with a residual. The epilogue may be NULL. x is act.
    void (*linear)(struct dev *, size_t rows, const void *x, size_t x_ld, const struct dev_weight *,
                   const struct dev_epilogue *, void *y, bool y_f32);
    // dx = dy W (act).
    void (*linear_dx)(struct dev *, size_t rows, const void *dy, const struct dev_weight *,
                      void *dx);
    // dw[out, in] += dy^T x, db[out] += column sums of dy (db may be NULL). [in, out] layout when
    // the weight is transposed.
    void (*linear_dw)(struct dev *, size_t rows, const void *dy, const void *x, size_t x_ld,
                      const struct dev_weight *, float *dw, float *db);
    // float32 C[m, n] = alpha op(A) op(B) + beta C; on the loss side. A value's last bits may
    // depend on its place in C and on m and n.
    void (*gemm)(struct dev *, bool ta, bool tb, size_t m, size_t n, size_t k, float alpha,
                 const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
                 size_t ldc);

    // -- layer norm over `cols`, eps inside the root; mean and rstd [rows] kept when not NULL; with
    // y_f32, y may be x (x_ld = cols)
    void (*layer_norm)(struct dev *, size_t rows, size_t cols, const float *x, size_t x_ld,
                       const float *gain, const float *bias, float eps, void *y, bool y_f32,
                       float *mean, float *rstd);
    // dx += ... (float32, added to the residual's gradient); dgain, dbias += ...; dy is act or
    // float32
    void (*layer_norm_bwd)(struct dev *, size_t rows, size_t cols, const float *x, size_t x_ld,
                           const float *gain, const float *mean, const float *rstd, const void *dy,
                           bool dy_f32, float *dx, size_t dx_ld, float *dgain, float *dbias);

    // -- attention
    void (*attention)(struct dev *, const struct dev_attention *);
    // dq, dk, dv in the layout of q, k, v (q rows of last_only: [n, q_ld]); overwritten. dout, out
    // and lse as forward left them.
    void (*attention_bwd)(struct dev *, const struct dev_attention *, const void *dout, void *dq,
                          void *dk, void *dv);

    // -- elementwise
    // dpre = dy * act'(pre), all act [n]; dpre may be dy
    void (*act_bwd)(struct dev *, size_t n, enum dev_act, const void *pre, const void *dy,
                    void *dpre);
    // The act form of a float32 gradient of the residual stream, times gamma [cols] when not NULL.
    void (*to_act)(struct dev *, size_t rows, size_t cols, const float *x, size_t x_ld,
                   const float *gamma, void *y);
    // dgamma[cols] += sum over rows of dres * (y W^T + b), the branch before the scale, recovered
    // from `branch` act [rows, cols]
    void (*gamma_bwd)(struct dev *, size_t rows, size_t cols, const float *dres, const void *branch,
                      float *dgamma);
    // mid[r, j] = silu(pre[r, j]) pre[r, cols + j], silu(x) = x sigmoid(x): act, pre [rows, 2 cols]
    void (*swiglu)(struct dev *, size_t rows, size_t cols, const void *pre, void *mid);
    // dpre act [rows, 2 cols] from dmid act [rows, cols]
    void (*swiglu_bwd)(struct dev *, size_t rows, size_t cols, const void *pre, const void *dmid,
                       void *dpre);
    // Turns pairs of neighbours (a, b) of act rows, in place: (a cos - b sin, b cos + a sin);
    // `back` by the negative angle. Pair m of each head of `head_dim` in row r has cosine and sine
    // at 2 m and 2 m + 1 of row r % positions of table, device [positions, head_dim]. cols is a
    // multiple of head_dim.
    void (*rotate)(struct dev *, size_t rows, size_t cols, size_t head_dim, size_t positions,
                   const float *table, bool back, void *x, size_t x_ld);
    // y = x, float32 from act
    void (*widen)(struct dev *, size_t n, const void *x, float *y);
    // y += alpha x; float32
    void (*axpy)(struct dev *, size_t n, float alpha, const float *x, float *y);
    void (*scale)(struct dev *, size_t n, float alpha, float *x);

    // -- rows
    // dst[i] = src[index[i]], rows of `cols` float32 (gather); dst[index[i]] += src[i]
    // (scatter_add, in order of i, so that equal indices sum the same way every time)
    void (*gather)(struct dev *, size_t n, size_t cols, const float *src, size_t src_ld,
                   const int32_t *index, float *dst);
    void (*scatter_add)(struct dev *, size_t n, size_t cols, const float *src, const int32_t *index,
                        float *dst, size_t dst_ld);
    // Gather of act rows.
    void (*gather_act)(struct dev *, size_t n, size_t cols, const void *src, size_t src_ld,
                       const int32_t *index, void *dst);
    // y = x / |x| by rows (a zero row stays zero); norm[rows] = |x|
    void (*unit)(struct dev *, size_t rows, size_t cols, const float *x, float *y, float *norm);
    // dx = (dy - y (y.dy)) / norm
    void (*unit_bwd)(struct dev *, size_t rows, size_t cols, const float *y, const float *norm,
                     const float *dy, float *dx);

    // y[i] = mean of the rows first .. positions of sample i; x float32 [n, positions, cols]
    void (*mean_rows)(struct dev *, size_t n, size_t positions, size_t first, size_t cols,
                      const float *x, float *y);
    // dx[i, r] += dy[i] / (positions - first) for those rows
    void (*mean_rows_bwd)(struct dev *, size_t n, size_t positions, size_t first, size_t cols,
                          const float *dy, float *dx);

    // -- inputs of the towers
    // Patches of uint8 images [n, size, size, 3]: act [n * (size/patch)^2, 3 * patch * patch] in
    // the order (channel, y, x) of conv1's weight, normalised (v / 255 - mean) / std on the way.
    void (*patchify)(struct dev *, size_t n, size_t size, size_t patch, const uint8_t *pixels,
                     const float mean[3], const float std[3], void *out);
    // x[i, 0] = cls + pos[0]; x[i, 1 + j] = patches[i, j] + pos[1 + j]; float32 [n, 1 + patches,
    // cols]; patches is float32. Without a class token (cls NULL): x[i, j] = patches[i, j] +
    // pos[j], and x may be patches.
    void (*assemble)(struct dev *, size_t n, size_t patches, size_t cols, const float *patch_rows,
                     const float *cls, const float *pos, float *x);
    // dpos, dcls += sums over n; dpatch_rows act [n * patches, cols] for linear_dw; dcls NULL: no
    // class token
    void (*assemble_bwd)(struct dev *, size_t n, size_t patches, size_t cols, const float *dx,
                         float *dcls, float *dpos, void *dpatch_rows);
    // x[r] = table[token[r]] + pos[r - start of its sequence]; float32 rows
    void (*embed)(struct dev *, const struct dev_ragged *, size_t cols, const int32_t *token,
                  const float *table, const float *pos, float *x);
    void (*embed_bwd)(struct dev *, const struct dev_ragged *, size_t cols, const int32_t *token,
                      const float *dx, float *dtable, float *dpos);

    // -- loss side, float32. For each row i of logits L [rows, cols] (L is not scaled further):
    // lse[i] = log sum_j exp L_ij
    void (*row_lse)(struct dev *, size_t rows, size_t cols, const float *logits, size_t ld,
                    float *lse);
    // grad_ij = weight (exp(L_ij - lse_i) - [j == target_i]); loss[i] = lse_i - L_i,target. A
    // target of -1 gives a zero row and no loss. grad may be the logits.
    void (*softmax_ce)(struct dev *, size_t rows, size_t cols, const float *logits, size_t ld,
                       const int32_t *target, float weight, float *grad, float *loss);
    // Soft targets: P = softmax(teacher row); loss[i] = -sum_j P_ij log softmax(L)_ij, entropy[i] =
    // -sum P log P (for KL = loss - entropy); grad_ij = weight (softmax(L)_ij - P_ij).
    void (*softmax_soft_ce)(struct dev *, size_t rows, size_t cols, const float *logits, size_t ld,
                            const float *teacher, size_t teacher_ld, float weight, float *grad,
                            float *loss, float *entropy);
    // Softmaxes in parts: the sums over a row's logits, and over a column's, were made before
    // (row_lse, of all columns or of all rows), here or elsewhere. p_ij = exp(x_ij - lse_i),
    // q_ij = exp(x_ij - other_j), 0 without `other`.
    //   target: grad_ij = weight (p_ij + q_ij - k [j == target_i]), k = 2 with `other`, else 1;
    //           loss_i = lse_i (+ other_target) - k x_i,target, 0 where the target is -1
    //   teacher: P, Q from its logits and sums likewise; grad_ij = weight (p_ij + q_ij - P_ij -
    //           Q_ij); loss_i = -sum_j (P_ij log p_ij + Q_ij log q_ij), entropy_i = -sum_j P_ij
    //           log P_ij
    // slope_i = sum_j grad_ij x_ij.
    void (*given_ce)(struct dev *, size_t rows, size_t cols, const struct dev_given *);
    // SigLIP: z = +1 where column == row, -1 elsewhere; loss[i] = sum_j -log sigmoid(z L_ij),
    // grad_ij = weight * d loss[i] / d L_ij. grad may be the logits.
    void (*sigmoid_ce)(struct dev *, size_t rows, size_t cols, const float *logits, size_t ld,
                       float weight, float *grad, float *loss);
    // logits = scale * (cosine - margin at target_i); -inf where a column that is not the target
    // has a cosine above `filter`. A target of -1 is no column. logits has the ld of cosine, and
    // may be it.
    void (*margin_filter)(struct dev *, size_t rows, size_t cols, const float *cosine, size_t ld,
                          const int32_t *target, float scale, float margin, float filter,
                          float *logits);
    // least_i, its column at_i (-1: none); with d_ij = max(0, sims_ij - least_i) of the columns of
    // other labels: loss_i = share_i sum_j d_ij, back_i = share_i times the number of d_ij > 0.
    void (*label_least)(struct dev *, size_t rows, size_t cols, const struct dev_margin *);
    // The gradient of weight times the losses of the rows and of the columns: grad_ij = weight
    // ([labels differ] (share_i [d_ij > 0] + share_j [d_ji > 0]) - [j == at_i] back_i - [i == at_j]
    // back_j).
    void (*label_margin)(struct dev *, size_t rows, size_t cols, const struct dev_margin *);
    // out[i * n + l] = scale * x_i . y_j, j = index[i * n + l], summed in float64 in the order of
    // the columns; 0 where j is -1. x [rows, dim], y [.., dim], index and out [rows, n].
    void (*pick_dots)(struct dev *, size_t rows, size_t n, size_t dim, float scale, const float *x,
                      const float *y, const int32_t *index, float *out);
    // sum over all elements of x * y (of x) in float64, one thread order; host value (waits).
    double (*dot)(struct dev *, size_t n, const float *x, const float *y);
    double (*sum)(struct dev *, size_t n, const float *x);
    // The same into *to (device), without waiting: of x * y, or of x where y is NULL.
    void (*dot_to)(struct dev *, size_t n, const float *x, const float *y, double *to);
    // Its two halves: part[i] (device) = the sum of x * y over run i of the n values, which are of
    // dot_run values each; *to (device) = the sum of n such parts, as dot_to adds them. So runs can
    // be summed in several places, to the bytes of one.
    void (*dot_runs)(struct dev *, size_t n, const float *x, const float *y, double *part);
    void (*dot_join)(struct dev *, size_t n, const double *part, double *to);
    // The same as dot_to, added to *to.
    void (*dot_add)(struct dev *, size_t n, const float *x, const float *y, double *to);
    // *to = sum of w[i] x[i] in float64, in order; terms of weight 0 are left out. x device, w host
    // [n], n at most DEV_WEIGH_MAX.
    void (*weigh)(struct dev *, size_t n, const double *x, const double *w, float *to);

    // -- search
    // v[i * ld + j] = a_i . b_j, for a [m, k] and b [n, k] act with k values a row: sums in float32
    // in any order, never TF32. b and v have a capacity of n rounded up to
    // DEV_SCORE_COLS; the padding of b is read, but its values do not matter.
    void (*scores)(struct dev *, size_t m, const void *a, size_t n, const void *b, size_t k,
                   float *v, size_t ld);
    // Lists all columns of a row that may be among its n greatest: at least those whose score is
    // not under the n-th greatest of the columns so far, this block's included, less slack[row]. A
    // row that would have more than `most` hits is marked and lists no more. A slack of -inf: no
    // hits.
    void (*hits_top)(struct dev *, const struct dev_scores *, const struct dev_top *,
                     const struct dev_hits *);
    // Lists every score not under least[i] of row row0 + i (device); with `later` only where the
    // column's number is above the row's.
    void (*hits_above)(struct dev *, const struct dev_scores *, const float *least, bool later,
                       const struct dev_hits *);

    // -- optimiser
    // norm = sqrt of the sum of squares[0 .. n); factor = most / (norm + 1e-6), 1 at most and where
    // `most` is 0 (PyTorch's clip_grad_norm_); NaN unless the norm and all of check[0 .. n_check)
    // are finite. All but the numbers on the device.
    void (*clip)(struct dev *, size_t n, const double *squares, size_t n_check, const double *check,
                 float most, struct dev_clip *to);
    // x limited to [low, high]; NaN stays.
    void (*clamp)(struct dev *, size_t n, float low, float high, float *x);
    void (*adamw)(struct dev *, size_t n, const struct dev_adamw *, const float *grad, float *m,
                  float *v, float *param);
    // The same for rows index[i] (no two equal) of m, v and param [.., cols]; grad [n, cols].
    void (*adamw_rows)(struct dev *, size_t n, size_t cols, const int32_t *index,
                       const struct dev_adamw *, const float *grad, float *m, float *v,
                       float *param);
    void (*close)(struct dev *);
};

struct dev {
    const struct dev_ops *op;
    enum dev_type act;           // type of activations
    size_t act_size;             // bytes of one
    int threads;                 // CPU
    size_t pass_rows;            // rows of a pass that fill the device; 0: the model chooses
    size_t dot_run;              // values of a run (dot_runs)
    bool reserve;                // allocate once, for the largest batch
    int weight_copies;           // act copies that weight_view holds
    size_t own_bytes;            // device memory that it takes itself at most, for any model
    void *impl;                  // the device's own
    struct dev_profile *profile; // device/profile.h; NULL: operations are not timed
    struct err failure;          // first failure, text[0] == 0 when none
    const char *name;            // "cpu", "cuda:0"
};

// 0 for a name that dev_open knows, whether this machine has the device or not; else -1.
int dev_name_check(const char *name, struct err *e);
// The devices that this program has: "cpu" or "cpu, cuda".
const char *dev_names(void);
// Opens "cpu" or "cuda[:N]". DEV_BF16 is refused where the hardware has no bfloat16 products,
// unless `emulate`; DEV_AUTO never is: d->act says what it became. 0 or -1.
int dev_open(struct dev *d, const char *name, enum dev_type act, int threads, bool emulate,
             struct err *e);
// "f32" or "bf16": the type of activations.
const char *dev_dtype(const struct dev *d);
void dev_close(struct dev *d);

#endif
