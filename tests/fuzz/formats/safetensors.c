// SPDX-License-Identifier: Apache-2.0
// Any bytes: refused, or every tensor lies inside them.
#include <stdint.h>
#include <stdlib.h>

#include "formats/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors s;
    struct err e;
    if (st_parse(&s, data, size, &e))
        return 0;
    size_t total = 0;
    for (size_t i = 0; i < s.n_tensors; i++) {
        const struct st_tensor *t = &s.tensors[i];
        if (t->data < data || t->data + t->n_bytes > data + size || st_find(&s, t->name) != t)
            abort();
        total += t->n_bytes;
    }
    if (total > size)
        abort();
    st_close(&s);
    return 0;
}
