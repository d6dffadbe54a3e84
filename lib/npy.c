// SPDX-License-Identifier: Apache-2.0
#include "npy.h"

#include <stdlib.h>
#include <string.h>

#include "half.h"
#include "mem.h"

static int attach_rows(struct npy *a, struct err *e)
{
    size_t bytes = (size_t)a->h.rows * a->h.row_bytes, align = npy_type_size(a->h.type);
    if (!bytes)
        return 0;
    a->data = a->map.data + a->h.data_at;
    if ((uintptr_t)a->data % (align > 8 ? 8 : align) == 0)
        return 0;
    // A writer that does not align its header: rare and legal.
    a->copy = mem_alloc(bytes, 1, e);
    if (!a->copy)
        return -1;
    memcpy(a->copy, a->data, bytes);
    a->data = a->copy;
    return 0;
}

int npy_open(struct npy *a, const char *path, struct err *e)
{
    *a = (struct npy){0};
    if (map_open(&a->map, path, e))
        return -1;
    if (npy_parse(&a->h, a->map.data, a->map.n, a->map.n, e) || attach_rows(a, e)) {
        npy_close(a);
        return err_wrap(e, "%s", path);
    }
    return 0;
}

int npy_open_as(struct npy *a, const char *path, enum npy_type type, int n_dims, struct err *e)
{
    if (npy_open(a, path, e))
        return -1;
    int rc = 0;
    if (a->h.type != type)
        rc = err_set(e, "%s: has type %s, not %s", path, npy_type_name(a->h.type),
                     npy_type_name(type));
    else if (n_dims >= 0 && a->h.n_dims != n_dims)
        rc = err_set(e, "%s: has %d dimensions, not %d", path, a->h.n_dims, n_dims);
    if (rc)
        npy_close(a);
    return rc;
}

void npy_close(struct npy *a)
{
    free(a->copy);
    map_close(&a->map);
    *a = (struct npy){0};
}

int npy_rows_f32(const struct npy *a, uint64_t first, uint64_t count, float *out, struct err *e)
{
    if (first > a->h.rows || count > a->h.rows - first)
        return err_set(e, "rows %llu to %llu of an array of %llu", (unsigned long long)first,
                       (unsigned long long)(first + count), (unsigned long long)a->h.rows);
    size_t at = (size_t)first * a->h.dim, n = (size_t)count * a->h.dim;
    if (a->h.type != NPY_F2 && a->h.type != NPY_F4)
        return err_set(e, "has type %s, not <f2 or <f4", npy_type_name(a->h.type));
    if (n == 0)
        return 0;
    if (a->h.type == NPY_F2)
        half_to_f32((const uint16_t *)a->data + at, out, n);
    else
        memcpy(out, (const float *)a->data + at, n * sizeof *out);
    return 0;
}

int64_t npy_item_i64(const struct npy *a, uint64_t i)
{
    uint64_t u;
    switch (a->h.type) {
    case NPY_U1:
        return ((const uint8_t *)a->data)[i];
    case NPY_I4:
        return ((const int32_t *)a->data)[i];
    case NPY_I8:
        return ((const int64_t *)a->data)[i];
    case NPY_U8:
        u = ((const uint64_t *)a->data)[i];
        return u > INT64_MAX ? INT64_MAX : (int64_t)u;
    default:
        return 0;
    }
}
