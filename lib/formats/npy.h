// SPDX-License-Identifier: Apache-2.0
// NumPy's NPY files (NEP 1), versions 1.0, 2.0 and 3.0: the arrays between the tools. A file is a
// list of rows: dimension 0 counts them, the others are the shape of one row. Little-endian, C
// order; anything else (big-endian, Fortran order, object, bfloat16 ...) is refused with its name.
// npy-set.h reads many files as one matrix, npy-write.h writes.
#ifndef FORMATS_NPY_H
#define FORMATS_NPY_H

#include <stddef.h>
#include <stdint.h>

#include "system/digest.h"
#include "base/err.h"
#include "system/io.h"

enum { NPY_MAX_DIMS = 8, NPY_MAX_HEADER = 65536 };

enum npy_type {
    NPY_F2,     // '<f2'
    NPY_F4,     // '<f4'
    NPY_U1,     // '|u1'
    NPY_I4,     // '<i4'
    NPY_I8,     // '<i8'
    NPY_U8,     // '<u8'
    NPY_F8,     // '<f8': labels only, no tool takes embeddings of it
    NPY_U8_PAIR // [('f0', '<u8'), ('f1', '<u8')]: DataComp's list of uids
};

size_t npy_type_size(enum npy_type t);      // bytes of one item
const char *npy_type_name(enum npy_type t); // as in the header, "<f2"

struct npy_header {
    enum npy_type type;
    int n_dims; // 0 for a scalar
    uint64_t shape[NPY_MAX_DIMS];
    uint64_t rows;    // shape[0]; 1 for a scalar
    size_t dim;       // items in a row: the product of the other dimensions
    size_t row_bytes; // dim * size of an item
    size_t data_at;   // where the rows start in the file
};

// Reads the header out of the first n bytes of a file (enough: 12 + NPY_MAX_HEADER). `file_bytes`
// is the size of the whole file, which must be that of the header and the rows exactly. 0 or -1.
int npy_parse(struct npy_header *h, const uint8_t *bytes, size_t n, uint64_t file_bytes,
              struct err *e);

// One file, mapped.
struct npy {
    struct map map;
    struct npy_header h;
    const void *data; // the rows, aligned for their type; NULL when there are none
    void *copy;       // of the rows, where the file has them at an odd place
};

// Opens a file; errors start with its name. npy_close is safe on a zeroed struct.
int npy_open(struct npy *a, const char *path, struct err *e);
// The same, and refuses another type or number of dimensions (n_dims -1 = any).
int npy_open_as(struct npy *a, const char *path, enum npy_type type, int n_dims, struct err *e);
void npy_close(struct npy *a);

// Rows [first, first + count) of an f2 or f4 file as float32, count * dim values.
int npy_rows_f32(const struct npy *a, uint64_t first, uint64_t count, float *out, struct err *e);
// A digest of `bytes` of rows that looks at a few places of them only: enough to see that an array
// is not the one that was written, cheap enough for every opening. `part` copies n bytes from `at`
// on of the rows to `to`: 0 or -1.
int npy_sample_digest(uint64_t bytes, char hex[DIGEST_HEX],
                      int (*part)(const void *ctx, uint64_t at, size_t n, void *to, struct err *e),
                      const void *ctx, struct err *e);
// That of a whole file.
void npy_sample(const struct npy *a, char hex[DIGEST_HEX]);
// Item i (of rows * dim) of a u1, i4, i8 or u8 file (u8 over INT64_MAX clamps); 0 for other types.
int64_t npy_item_i64(const struct npy *a, uint64_t i);

#endif
