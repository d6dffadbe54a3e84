// SPDX-License-Identifier: Apache-2.0
// The two inner loops of lib/resize: in plain C, for AVX2, for AVX-512 VNNI. All give the same
// bytes.
#ifndef IMAGE_RESIZE_PASS_H
#define IMAGE_RESIZE_PASS_H

#include "image/resize.h"

enum {
    RESIZE_BITS = 22,      // of the weights' fraction
    RESIZE_ROWS = 4,       // rows that the pass over x makes at once
    RESIZE_OVER_READ = 16, // bytes it may read past the end of a source row
    RESIZE_OVER_WRITE = 8, // and write past the end of a result row
};

struct resize_passes {
    // RESIZE_ROWS source rows -> as many result rows of a->n_out pixels, dst_pitch bytes apart.
    void (*x)(uint8_t *dst, size_t dst_pitch, const uint8_t *const *src,
              const struct resize_axis *a);
    // One result row of n bytes: output i of the axis; src = input row a->from[i], rows src_pitch
    // bytes apart.
    void (*y)(uint8_t *dst, const uint8_t *src, size_t src_pitch, size_t n,
              const struct resize_axis *a, size_t i);
    // Four weights to 16 bytes of a->split; NULL where that is not used.
    void (*split)(uint8_t *out, const int32_t *weight);
};

// Fills the tables for outputs [first_out, first_out + n_out) of `in` samples made `out`; keeps
// them when they are those already. 0 or -1.
int resize_axis_set(struct resize_axis *a, int in, int out, int first_out, int n_out,
                    enum resize_filter filter, const struct resize_passes *passes, struct err *e);
void resize_axis_release(struct resize_axis *a);

extern const struct resize_passes resize_passes_portable;
// NULL where this processor has no such instructions.
const struct resize_passes *resize_passes_avx2(void);
const struct resize_passes *resize_passes_vnni(void);
// The fastest of the three.
const struct resize_passes *resize_passes_best(void);

#endif
