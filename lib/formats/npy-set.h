// SPDX-License-Identifier: Apache-2.0
// Many NPY files of embeddings as one matrix: global row = the file's first row + row in the file,
// in the order of the list. Files may be f2 or f4, mixed; all have one number of columns. Rows are
// read with pread, not mapped, so that resident memory is what the caller's buffers take, whatever
// the size of the files; no file stays open between calls, so any number of files will do. Reading
// from several threads at once is safe.
#ifndef FORMATS_NPY_SET_H
#define FORMATS_NPY_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/err.h"
#include "system/io.h"
#include "formats/npy.h"

struct npy_part {
    char *path;
    uint64_t first; // global row of its first row
    uint64_t rows;
    enum npy_type type; // NPY_F2 or NPY_F4
    size_t data_at;
    off_t file_bytes; // and its time of change: a file that changes while in use is an error
    struct timespec changed;
};

struct npy_set {
    struct npy_part *parts;
    size_t n_parts;
    uint64_t rows; // of all parts
    size_t dim;    // columns
};

// Opens all headers. Files with no rows are fine; no files at all is an error. 0 or -1.
int npy_set_open(struct npy_set *s, const char *const *paths, size_t n, struct err *e);
void npy_set_close(struct npy_set *s); // safe on a zeroed struct
// The part that holds a global row < s->rows.
size_t npy_set_find(const struct npy_set *s, uint64_t row);
// Rows [first, first + count) as float32: count * dim values. 0 or -1.
int npy_set_rows(const struct npy_set *s, uint64_t first, uint64_t count, float *out,
                 struct err *e);
// The `count` rows listed in `rows` (any order, repeats allowed; ascending is fast: neighbours are
// read together and each file opened once), out[i * dim ...] = row rows[i]. 0 or -1.
int npy_set_gather(const struct npy_set *s, const uint64_t *rows, size_t count, float *out,
                   struct err *e);
// As npy_set_rows and npy_set_gather, without conversion; all parts must be NPY_F2.
int npy_set_rows_f16(const struct npy_set *s, uint64_t first, uint64_t count, uint16_t *out,
                     struct err *e);
int npy_set_gather_f16(const struct npy_set *s, const uint64_t *rows, size_t count, uint16_t *out,
                       struct err *e);
bool npy_set_all(const struct npy_set *s, enum npy_type type); // all parts with rows have it
// Maps a part; *data: its rows, aligned for their type. *resident: the whole file is in the page
// cache. 0 or -1; the caller closes the map.
int npy_set_map(const struct npy_set *s, size_t part, struct map *m, const void **data,
                bool *resident, struct err *e);
// 0, or -1 if a file has changed since npy_set_open.
int npy_set_unchanged(const struct npy_set *s, struct err *e);

#endif
