// SPDX-License-Identifier: Apache-2.0
// The CPU device's operations for training: the backward ones, the loss side and the optimiser.
// dev.h describes each under its name without the prefix; device/cpu/table.c puts them into its
// table. Work is cut into blocks of fixed size and every sum has one order, so the result is the
// same for any number of threads.
#ifndef DEVICE_CPU_GRAD_GRAD_H
#define DEVICE_CPU_GRAD_GRAD_H

#include "device/dev.h"

void dev_cpu_layer_norm_bwd(struct dev *d, size_t rows, size_t cols, const float *x, size_t x_ld,
                            const float *gain, const float *mean, const float *rstd, const void *dy,
                            bool dy_f32, float *dx, size_t dx_ld, float *dgain, float *dbias);
void dev_cpu_attention_bwd(struct dev *d, const struct dev_attention *a, const void *dout, void *dq,
                           void *dk, void *dv);
void dev_cpu_act_bwd(struct dev *d, size_t n, enum dev_act act, const void *pre, const void *dy,
                     void *dpre);
void dev_cpu_to_act(struct dev *d, size_t rows, size_t cols, const float *x, size_t x_ld,
                    const float *gamma, void *y);
void dev_cpu_gamma_bwd(struct dev *d, size_t rows, size_t cols, const float *dres,
                       const void *branch, float *dgamma);
void dev_cpu_swiglu_bwd(struct dev *d, size_t rows, size_t cols, const void *pre, const void *dmid,
                        void *dpre);
void dev_cpu_mean_rows_bwd(struct dev *d, size_t n, size_t positions, size_t first, size_t cols,
                           const float *dy, float *dx);
void dev_cpu_axpy(struct dev *d, size_t n, float alpha, const float *x, float *y);
void dev_cpu_scale(struct dev *d, size_t n, float alpha, float *x);
void dev_cpu_scatter_add(struct dev *d, size_t n, size_t cols, const float *src,
                         const int32_t *index, float *dst, size_t dst_ld);
void dev_cpu_unit_bwd(struct dev *d, size_t rows, size_t cols, const float *y, const float *norm,
                      const float *dy, float *dx);
void dev_cpu_assemble_bwd(struct dev *d, size_t n, size_t patches, size_t cols, const float *dx,
                          float *dcls, float *dpos, void *dpatch_rows);
void dev_cpu_embed_bwd(struct dev *d, const struct dev_ragged *r, size_t cols, const int32_t *token,
                       const float *dx, float *dtable, float *dpos);
void dev_cpu_row_lse(struct dev *d, size_t rows, size_t cols, const float *logits, size_t ld,
                     float *lse);
void dev_cpu_softmax_ce(struct dev *d, size_t rows, size_t cols, const float *logits, size_t ld,
                        const int32_t *target, float weight, float *grad, float *loss);
void dev_cpu_softmax_soft_ce(struct dev *d, size_t rows, size_t cols, const float *logits,
                             size_t ld, const float *teacher, size_t teacher_ld, float weight,
                             float *grad, float *loss, float *entropy);
void dev_cpu_given_ce(struct dev *d, size_t rows, size_t cols, const struct dev_given *g);
void dev_cpu_sigmoid_ce(struct dev *d, size_t rows, size_t cols, const float *logits, size_t ld,
                        float weight, float *grad, float *loss);
void dev_cpu_margin_filter(struct dev *d, size_t rows, size_t cols, const float *cosine, size_t ld,
                           const int32_t *target, float scale, float margin, float filter,
                           float *logits);
void dev_cpu_label_least(struct dev *d, size_t rows, size_t cols, const struct dev_margin *m);
void dev_cpu_label_margin(struct dev *d, size_t rows, size_t cols, const struct dev_margin *m);
void dev_cpu_pick_dots(struct dev *d, size_t rows, size_t n, size_t dim, float scale,
                       const float *x, const float *y, const int32_t *index, float *out);
double dev_cpu_dot(struct dev *d, size_t n, const float *x, const float *y);
double dev_cpu_sum(struct dev *d, size_t n, const float *x);
enum { CPU_DOT_RUN = 8192 }; // dev.h: dot_run
void dev_cpu_dot_to(struct dev *d, size_t n, const float *x, const float *y, double *to);
void dev_cpu_dot_runs(struct dev *d, size_t n, const float *x, const float *y, double *part);
void dev_cpu_dot_join(struct dev *d, size_t n, const double *part, double *to);
void dev_cpu_dot_add(struct dev *d, size_t n, const float *x, const float *y, double *to);
void dev_cpu_weigh(struct dev *d, size_t n, const double *x, const double *w, float *to);
void dev_cpu_clip(struct dev *d, size_t n, const double *squares, size_t n_check,
                  const double *check, float most, struct dev_clip *to);
void dev_cpu_clamp(struct dev *d, size_t n, float low, float high, float *x);
void dev_cpu_adamw(struct dev *d, size_t n, const struct dev_adamw *o, const float *grad, float *m,
                   float *v, float *param);
void dev_cpu_adamw_rows(struct dev *d, size_t n, size_t cols, const int32_t *index,
                        const struct dev_adamw *o, const float *grad, float *m, float *v,
                        float *param);

#endif
