// SPDX-License-Identifier: Apache-2.0
// The two inner loops of lib/resize, in plain C and for AVX2; they give the same bytes.
#ifndef RESIZE_PASS_H
#define RESIZE_PASS_H

#include "resize.h"

enum {
    RESIZE_BITS = 22,      // of the weights' fraction
    RESIZE_LOW_BITS = 12,  // of a weight in the low half of `split`
    RESIZE_ROWS = 4,       // rows that the pass over x makes at once
    RESIZE_OVER_READ = 16, // bytes it may read past the end of a source row
    RESIZE_OVER_WRITE = 4, // and write past the end of a result row
};

struct resize_passes {
    // RESIZE_ROWS source rows -> as many result rows of a->n_out pixels, dst_pitch bytes apart.
    void (*x)(uint8_t *dst, size_t dst_pitch, const uint8_t *const *src,
              const struct resize_axis *a);
    // One result row of n bytes: output i of the axis; src = input row a->from[i], rows src_pitch
    // bytes apart.
    void (*y)(uint8_t *dst, const uint8_t *src, size_t src_pitch, size_t n,
              const struct resize_axis *a, size_t i);
};

// Fills the tables for outputs [first_out, first_out + n_out) of `in` samples made `out`; keeps
// them when they are those already. 0 or -1.
int resize_axis_set(struct resize_axis *a, int in, int out, int first_out, int n_out,
                    enum resize_filter filter, struct err *e);
void resize_axis_release(struct resize_axis *a);

extern const struct resize_passes resize_passes_portable;
// The passes for this processor's SIMD, or NULL.
const struct resize_passes *resize_passes_simd(void);

#endif
