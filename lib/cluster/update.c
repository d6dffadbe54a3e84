// SPDX-License-Identifier: Apache-2.0
#include <math.h>

#include "cluster/run.h"
#include "base/rng.h"

// As in FAISS's Clustering: an empty cluster takes over half of one drawn with a chance in
// proportion to its points less one; the two start a little to either side of where that one was.
#define SPLIT (1 / 1024.0)

static bool to_unit(float *c, const double *sum, size_t dim)
{
    double norm2 = 0;
    for (size_t d = 0; d < dim; d++)
        norm2 += sum[d] * sum[d];
    if (!(norm2 > 0) || !isfinite(norm2))
        return false; // opposite rows: the centroid stays where it was
    double norm = sqrt(norm2);
    for (size_t d = 0; d < dim; d++)
        c[d] = (float)(sum[d] / norm);
    return true;
}

static size_t draw(const uint64_t *counts, size_t k, uint64_t spare, struct rng *r)
{
    uint64_t at = rng_below(r, spare);
    for (size_t c = 0; c < k; c++) {
        uint64_t share = counts[c] ? counts[c] - 1 : 0;
        if (at < share)
            return c;
        at -= share;
    }
    return 0; // not reached: the shares add up to spare
}

static void renormalize(float *c, size_t dim)
{
    double norm2 = 0;
    for (size_t d = 0; d < dim; d++)
        norm2 += (double)c[d] * c[d];
    double norm = sqrt(norm2);
    for (size_t d = 0; d < dim && norm > 0; d++)
        c[d] = (float)(c[d] / norm);
}

static void split(float *empty, float *big, size_t dim)
{
    for (size_t d = 0; d < dim; d++) {
        double t = big[d], sign = d % 2 ? -SPLIT : SPLIT;
        empty[d] = (float)(t * (1 + sign));
        big[d] = (float)(t * (1 - sign));
    }
    renormalize(empty, dim);
    renormalize(big, dim);
}

void kmeans_means(float *centroids, const double *sums, const uint64_t *counts, size_t n,
                  size_t dim)
{
    for (size_t c = 0; c < n; c++)
        if (counts[c])
            to_unit(centroids + c * dim, sums + c * dim, dim);
}

size_t kmeans_split(float *centroids, uint64_t *counts, size_t k, size_t dim, uint64_t seed,
                    uint64_t stream)
{
    struct rng r;
    uint64_t spare = 0;
    size_t n_split = 0;
    rng_init(&r, seed, stream);
    for (size_t c = 0; c < k; c++)
        spare += counts[c] ? counts[c] - 1 : 0;
    for (size_t c = 0; c < k && spare; c++) {
        if (counts[c])
            continue;
        size_t big = draw(counts, k, spare, &r);
        split(centroids + c * dim, centroids + big * dim, dim);
        counts[c] = counts[big] / 2;
        counts[big] -= counts[c];
        spare--; // counts[c] - 1 and counts[big] - 1 are together one less
        n_split++;
    }
    return n_split;
}
