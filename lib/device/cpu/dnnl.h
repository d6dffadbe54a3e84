// SPDX-License-Identifier: Apache-2.0
// The part of oneDNN that the CPU device uses, the same over the C APIs of versions 2 and 3: a
// matrix product C[m, n] = A[m, k] B[k, n] with float32 C and B in a layout that oneDNN chooses.
// Every call computes on the calling thread only.
#ifndef DEVICE_CPU_DNNL_H
#define DEVICE_CPU_DNNL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct mm_shape {
    size_t m, n, k, lda; // elements
    bool bf16;           // A and B; float32 otherwise
};

struct mm_engine;
struct mm;   // a product of one shape
struct mm_b; // a packed B

// True if the processor multiplies bfloat16 in hardware (AVX512_BF16 or AMX) and CLIP_CID_ISA
// allows it.
bool mm_has_bf16(void);
// True if these products are also faster than float32's: with AMX, or on processors that are not
// Intel's. Intel's without AMX take bfloat16 at half the rate of float32, measured; AMD's at twice.
bool mm_bf16_faster(void);
// True if a row of a product has the same bits in a product of any number of rows: oneDNN's
// kernels for AVX-512 sum each value in the order of k.
bool mm_rows_alike(void);

struct mm_engine *mm_engine_new(struct err *e);
void mm_engine_free(struct mm_engine *g);

// A product that up to `workers` threads run, each under its own number. `like` (may be NULL): a
// packed B whose layout it must take. NULL with e set.
struct mm *mm_new(struct mm_engine *g, const struct mm_shape *s, const struct mm_b *like,
                  int workers, struct err *e);
void mm_free(struct mm *p);
const struct mm_shape *mm_shape_of(const struct mm *p);
// C is [m, n] without gaps. 0 or -1.
int mm_run(struct mm *p, int worker, const void *a, const struct mm_b *b, float *c, struct err *e);

// An empty B in the layout that p needs.
struct mm_b *mm_b_new(struct mm_engine *g, const struct mm *p, struct err *e);
void mm_b_free(struct mm_b *b);
// Fills it: element (i, j) at src[i * row_step + j * col_step], float32 or bfloat16; one of the two
// steps is 1. 0 or -1.
int mm_b_fill(struct mm_engine *g, struct mm_b *b, const void *src, bool src_bf16, size_t row_step,
              size_t col_step, struct err *e);

#endif
