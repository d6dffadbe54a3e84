// SPDX-License-Identifier: Apache-2.0
// safetensors: an 8-byte little-endian header length, a JSON header, a byte buffer. Files are
// mapped and every rule of the format is checked before a tensor can be seen, since the files come
// from strangers: https://huggingface.co/docs/safetensors. Several files are read as one through
// their `*.index.json`. Tensor data is little-endian, C order, and NOT always aligned: read it
// with st_read_f32 or memcpy.
#ifndef FORMATS_SAFETENSORS_H
#define FORMATS_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "system/io.h"

enum { ST_MAX_RANK = 8, ST_MAX_HEADER = 100000000 };

// In the order by which writers sort (widest last, written first).
enum st_dtype {
    ST_BOOL,
    ST_U8,
    ST_I8,
    ST_F8_E5M2,
    ST_F8_E4M3,
    ST_I16,
    ST_U16,
    ST_F16,
    ST_BF16,
    ST_I32,
    ST_U32,
    ST_F32,
    ST_F64,
    ST_I64,
    ST_U64,
    ST_N_DTYPES
};

struct st_tensor {
    const char *name; // UTF-8, no NUL inside
    enum st_dtype dtype;
    int rank; // 0 is legal: one element
    uint64_t shape[ST_MAX_RANK];
    size_t numel;        // product of the shape; may be 0
    size_t n_bytes;      // numel * size of dtype
    const uint8_t *data; // into the mapping
};

struct st_meta {
    const char *key, *value;
};

struct safetensors {
    struct st_tensor *tensors; // sorted by name
    size_t n_tensors;
    struct st_meta *meta; // `__metadata__` of the first file, sorted by key
    size_t n_meta;
    struct map *maps; // the mapped files (none for st_parse)
    char **names;     // one arena of strings per file
    size_t n_maps, n_names;
};

// Opens `path`: one file, or an index when the name ends in ".json". The index's weight_map must
// name every tensor of its files and nothing else. 0 or -1.
int st_open(struct safetensors *s, const char *path, struct err *e);
// The same for one file that is already in memory, which the caller keeps until st_close.
int st_parse(struct safetensors *s, const void *data, size_t n, struct err *e);
// No-op on a zeroed or failed one.
void st_close(struct safetensors *s);
// NULL when there is none of that name.
const struct st_tensor *st_find(const struct safetensors *s, const char *name);
// Value of a metadata key, or NULL.
const char *st_meta_find(const struct safetensors *s, const char *key);

// "F32" and so on; bytes per element.
const char *st_dtype_name(enum st_dtype t);
size_t st_dtype_size(enum st_dtype t);

// Elements [first, first + n) as float32; F32, F16, BF16, F64 only. 0 or -1.
int st_read_f32(const struct st_tensor *t, size_t first, size_t n, float *out, struct err *e);

// Writing: the header first, then the data of each tensor, in pieces of any size.
struct st_spec {
    const char *name;
    enum st_dtype dtype;
    int rank;
    uint64_t shape[ST_MAX_RANK];
    void *user; // the caller's, carried along by the sort
};

struct st_writer {
    struct out *out;
    uint64_t left; // bytes of data still to come
};

// Sorts specs[n] IN PLACE (descending dtype, then name) and writes the header; the data must follow
// in that order. meta may be NULL. Refuses duplicate names. 0 or -1.
int st_writer_begin(struct st_writer *w, struct out *o, struct st_spec *specs, size_t n,
                    const struct st_meta *meta, size_t n_meta, struct err *e);
int st_writer_put(struct st_writer *w, const void *data, size_t n, struct err *e);
// Checks that all the data came; the caller then commits `out`.
int st_writer_end(struct st_writer *w, struct err *e);

#endif
