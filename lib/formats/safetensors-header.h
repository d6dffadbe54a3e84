// SPDX-License-Identifier: Apache-2.0
// Private to safetensors*.c: the header of one file, parsed and checked.
#ifndef FORMATS_SAFETENSORS_HEADER_H
#define FORMATS_SAFETENSORS_HEADER_H

#include "formats/safetensors.h"

struct st_range {
    uint64_t begin, end;
    size_t tensor;
};

struct st_header {
    struct st_tensor *tensors;
    struct st_range *ranges;
    struct st_meta *meta;
    size_t n_tensors, cap_tensors, cap_ranges, n_meta, cap_meta;
    bool has_meta;
};

// Checks the n bytes of one file. On success h->tensors (by name) and h->meta (by key) are the
// caller's, and so is *arena, which holds their strings. 0 or -1.
int st_header_read(struct st_header *h, char **arena, const uint8_t *d, size_t n, struct err *e);
// Sorts by name and refuses two of one name. 0 or -1.
int st_sort_tensors(struct st_tensor *t, size_t n, struct err *e);

#endif
