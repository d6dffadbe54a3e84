// SPDX-License-Identifier: Apache-2.0
// What simblock.c runs where the processor has AVX-512 (simblock-avx512.c). Internal.
#ifndef SIMBLOCK_KERNEL_H
#define SIMBLOCK_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool sim_has_avx512(void);
bool sim_has_bf16(void);

// One tile: out[i * ld + j] = sum over pairs of a (SIM_LEFT rows) and b (SIM_RIGHT rows), both
// panels of `pairs` steps.
void sim_tile_bf16(const uint32_t *a, const uint32_t *b, size_t pairs, float *out, size_t ld);
// Packs n <= lanes rows (lanes at most SIM_RIGHT; the other lanes become zeros) as bfloat16 pairs:
// panel[pair * lanes + lane]. norm2, lost2: per row the squares of |x| and |x - packed x|, summed
// in float32. Values at most SIM_MAX_NORM.
void sim_pack_bf16(uint32_t *panel, size_t lanes, const float *rows, size_t n, size_t dim,
                   float *norm2, float *lost2);
double sim_dot_avx512(const float *a, const float *b, size_t dim);
void sim_scale_avx512(const float *in, double by, float *out, size_t n);
float sim_max_avx512(const float *v, size_t n);
size_t sim_above_avx512(const float *v, size_t n, float least, uint32_t *at);

#endif
