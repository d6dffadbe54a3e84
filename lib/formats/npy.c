// SPDX-License-Identifier: Apache-2.0
#include "formats/npy.h"

#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"

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

int npy_sample_digest(uint64_t bytes, char hex[DIGEST_HEX],
                      int (*part)(const void *ctx, uint64_t at, size_t n, void *to, struct err *e),
                      const void *ctx, struct err *e)
{
    enum { PARTS = 5, PART = 4096 };
    uint8_t seen[sizeof bytes + PARTS * PART];
    size_t n = sizeof bytes;
    memcpy(seen, &bytes, sizeof bytes);
    for (uint64_t i = 0; i < PARTS; i++) {
        size_t size = bytes < PART ? (size_t)bytes : PART;
        uint64_t last = bytes - size, at = last / (PARTS - 1) * i;
        if (part(ctx, i == PARTS - 1 ? last : at, size, seen + n, e))
            return -1;
        n += size;
    }
    digest_bytes(seen, n, hex);
    return 0;
}

static int part_of(const void *ctx, uint64_t at, size_t n, void *to, struct err *e)
{
    (void)e;
    if (n)
        memcpy(to, (const uint8_t *)ctx + at, n);
    return 0;
}

void npy_sample(const struct npy *a, char hex[DIGEST_HEX])
{
    struct err none;
    npy_sample_digest(a->h.rows * a->h.row_bytes, hex, part_of, a->data, &none);
}
