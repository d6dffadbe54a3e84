// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: the value at (seed, stream, index) depends on nothing else, so any
// worker can draw any sample's numbers in any order and a resumed run draws the same. Philox4x32-10
// (Salmon, Moraes, Dror, Shaw, SC 2011).
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t seed;    // key
    uint64_t stream;  // high half of the counter: an epoch, a sample, a tensor
    uint64_t index;   // low half: the next block
    uint32_t left[4]; // the current block
    int n_left;       // values of it not drawn yet
};

// One block: four independent 32-bit words for this key and counter.
void rng_block(uint64_t seed, uint64_t stream, uint64_t index, uint32_t out[4]);
// The start of a stream.
void rng_init(struct rng *r, uint64_t seed, uint64_t stream);
uint32_t rng_u32(struct rng *r);
uint64_t rng_u64(struct rng *r);
// Uniform in [0, n) without bias; n > 0.
uint64_t rng_below(struct rng *r, uint64_t n);
// Uniform in [0, 1), 53 bits.
double rng_uniform(struct rng *r);
// Standard normal (Box-Muller, one of the pair).
double rng_normal(struct rng *r);

// A pseudorandom permutation of [0, n) given as a function: position i -> element; no table, so n
// may be any size. A four-round Feistel network with cycle walking over the next even power of two.
uint64_t rng_permute(uint64_t seed, uint64_t stream, uint64_t n, uint64_t i);

#endif
