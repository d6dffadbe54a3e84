// SPDX-License-Identifier: Apache-2.0
// The matrices of the losses have a row a sample and a column a sample or cluster: too many values
// for a large batch. They are made a block of rows at a time. The size of a block depends on
// nothing but the matrix, so that the order of sums, and with it the result, is the same on every
// machine.
#ifndef LOSSES_LOSS_BLOCK_H
#define LOSSES_LOSS_BLOCK_H

#include <stddef.h>

enum { LOSS_BLOCK = 1 << 26, LOSS_BLOCK_ROWS = 64 }; // values; rows are a multiple of it
// A matrix of at most this many values is kept between the pass for its row sums and the pass for
// its gradients. A larger one is computed in blocks, twice. The values are the same.
enum { LOSS_KEPT = 1 << 27 };

// Rows of a block of an [n, cols] matrix; `block`: values, 0 = LOSS_BLOCK (others in tests).
static inline size_t loss_block_rows(size_t n, size_t cols, size_t block)
{
    size_t most = (block ? block : LOSS_BLOCK) / (cols ? cols : 1);
    if (most >= n)
        return n;
    most -= most > LOSS_BLOCK_ROWS ? most % LOSS_BLOCK_ROWS : 0;
    return most ? most : 1;
}

#endif
