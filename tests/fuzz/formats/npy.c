// SPDX-License-Identifier: Apache-2.0
// Any bytes: refused, or the rows lie inside them, and the header we write for that shape reads
// back the same.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "formats/npy-write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct npy_header h, g;
    struct err e;
    char out[512];
    if (npy_parse(&h, data, size, size, &e))
        return 0;
    if (h.data_at > size || h.rows * h.row_bytes != size - h.data_at ||
        h.row_bytes != h.dim * npy_type_size(h.type))
        abort();
    size_t n = npy_format_header(out, sizeof out, h.type, h.n_dims, h.shape);
    if (!n)
        return 0;
    if (n % 64 || npy_parse(&g, (const uint8_t *)out, n, n + size - h.data_at, &e))
        abort();
    if (g.type != h.type || g.n_dims != h.n_dims || g.rows != h.rows || g.dim != h.dim ||
        memcmp(g.shape, h.shape, sizeof g.shape))
        abort();
    return 0;
}
