// SPDX-License-Identifier: Apache-2.0
#include "base/rng.h"

#include <math.h>

void rng_block(uint64_t seed, uint64_t stream, uint64_t index, uint32_t out[4])
{
    uint32_t c[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)stream,
                     (uint32_t)(stream >> 32)};
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c[0];
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c[1] ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
        c[0] = n0;
        c[1] = (uint32_t)p1;
        c[2] = n2;
        c[3] = (uint32_t)p0;
        k0 += 0x9E3779B9u; // Weyl constants of the paper
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < 4; i++)
        out[i] = c[i];
}

void rng_init(struct rng *r, uint64_t seed, uint64_t stream)
{
    *r = (struct rng){.seed = seed, .stream = stream};
}

uint32_t rng_u32(struct rng *r)
{
    if (r->n_left == 0) {
        rng_block(r->seed, r->stream, r->index++, r->left);
        r->n_left = 4;
    }
    return r->left[4 - r->n_left--];
}

uint64_t rng_u64(struct rng *r)
{
    uint64_t low = rng_u32(r);
    return low | (uint64_t)rng_u32(r) << 32;
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
    // Values under `reject` would make the low residues one more likely than the others.
    uint64_t reject = (0 - n) % n, x;
    do
        x = rng_u64(r);
    while (x < reject);
    return x % n;
}

double rng_uniform(struct rng *r)
{
    return (double)(rng_u64(r) >> 11) * 0x1p-53;
}

double rng_normal(struct rng *r)
{
    double u = 1.0 - rng_uniform(r); // (0, 1]: the logarithm is finite
    double v = rng_uniform(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

// One pass of the network over `bits` (even) bits.
static uint64_t feistel(uint64_t seed, uint64_t stream, unsigned bits, uint64_t x)
{
    unsigned half = bits / 2;
    uint64_t mask = ((uint64_t)1 << half) - 1;
    uint64_t left = x >> half, right = x & mask;
    for (uint64_t round = 0; round < 4; round++) {
        uint32_t f[4];
        rng_block(seed, stream ^ 0x7065726d75746500u, right | round << 60, f);
        uint64_t next = left ^ (((uint64_t)f[1] << 32 | f[0]) & mask);
        left = right;
        right = next;
    }
    return left << half | right;
}

uint64_t rng_permute(uint64_t seed, uint64_t stream, uint64_t n, uint64_t i)
{
    unsigned bits = 2;
    while (bits < 62 && ((uint64_t)1 << bits) < n)
        bits += 2;
    do
        i = feistel(seed, stream, bits, i);
    while (i >= n);
    return i;
}
