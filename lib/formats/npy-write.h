// SPDX-License-Identifier: Apache-2.0
// Writes NPY 1.0 files row by row, byte for byte as NumPy writes them, without knowing their number
// at the start: a regular file has its header patched at the end; for a pipe, rows wait in a
// nameless file under $TMPDIR until the count is known, unless it is given.
//
//     struct npy_writer w;
//     npy_create(&w, path, NPY_F2, 1, (uint64_t[]){dim}, NPY_UNKNOWN, &e)
//     npy_write_f32(&w, rows, n, &e) ...
//     npy_commit(&w, &e) or npy_abort(&w)
#ifndef FORMATS_NPY_WRITE_H
#define FORMATS_NPY_WRITE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "system/digest.h"
#include "base/err.h"
#include "system/io.h"
#include "formats/npy.h"

#define NPY_UNKNOWN UINT64_MAX

struct npy_writer {
    struct out out;
    enum npy_type type;
    int n_dims; // the rows' own and one for their number
    uint64_t shape[NPY_MAX_DIMS];
    size_t dim, row_bytes;
    size_t header;         // bytes
    uint64_t rows;         // written so far
    uint64_t promised;     // or NPY_UNKNOWN
    FILE *spool;           // NULL when not needed
    struct digest *digest; // of the rows' bytes, header left out
};

// Opens `path` ("-" = stdout) for rows of n_row_dims dimensions (0: each row is one item). With
// `rows` given, npy_commit refuses another number of them. 0 or -1.
int npy_create(struct npy_writer *w, const char *path, enum npy_type type, int n_row_dims,
               const uint64_t *row_shape, uint64_t rows, struct err *e);
// Appends n rows, already in the file's type; or float32 rows to an f2 (rounded to nearest even) or
// f4 file. 0 or -1.
int npy_write(struct npy_writer *w, const void *rows, uint64_t n, struct err *e);
int npy_write_f32(struct npy_writer *w, const float *rows, uint64_t n, struct err *e);
// Appends n rows of zeros.
int npy_write_zeros(struct npy_writer *w, uint64_t n, struct err *e);
// The digest of the rows written so far (sidecar.data).
void npy_writer_digest(const struct npy_writer *w, char hex[DIGEST_HEX]);
// npy_sample of the rows written so far, "" where they went to a stream. 0 or -1.
int npy_writer_sample(struct npy_writer *w, char hex[DIGEST_HEX], struct err *e);
// Completes the header; the file appears. On failure nothing is left. 0 or -1.
int npy_commit(struct npy_writer *w, struct err *e);
void npy_abort(struct npy_writer *w); // safe after npy_commit and on a failed npy_create

// The header of a file as NumPy writes it: 64-byte aligned, with room for any number of rows.
// Returns its length, at most `room` (256 always fits), or 0 when it does not fit.
size_t npy_format_header(char *out, size_t room, enum npy_type type, int n_dims,
                         const uint64_t *shape);

#endif
