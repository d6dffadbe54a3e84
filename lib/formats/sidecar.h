// SPDX-License-Identifier: Apache-2.0
// X.npy.json, beside each NPY a tool writes: what made it, from what, and which samples its rows
// are. A reader refuses files whose keys differ; a file without sidecar (embeddings made elsewhere)
// is fine where the row counts agree, and the reader says so.
#ifndef FORMATS_SIDECAR_H
#define FORMATS_SIDECAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "system/digest.h"
#include "base/err.h"
#include "formats/json.h"
#include "formats/npy-write.h"

struct sidecar_input {
    char *name;           // file name, without folders
    char hex[DIGEST_HEX]; // digest of its rows (NPY) or bytes; "" = not taken
};

// Row numbers, ascending.
struct sidecar_rows {
    uint64_t *at;
    size_t n, cap;
};

// Digests are "" where there is none. Owns its strings. All zero = empty.
struct sidecar {
    char *tool;
    char *version;
    char **args; // see sidecar_set_args
    size_t n_args;
    uint64_t seed;
    uint64_t rows;
    char keys[DIGEST_HEX];      // the key digest (digest.h) of the rows, in order
    char data[DIGEST_HEX];      // of the rows' bytes (npy_writer_digest)
    char sample[DIGEST_HEX];    // of some of them (npy_sample), by which a stale sidecar is seen
    char model[DIGEST_HEX];     // of the model the rows come from
    double scale;               // its logits are scale * cosine + bias; 0: not told
    double bias;                // 0 where it has none
    bool has_bias;              //
    bool partial;               // of a shard not all samples were there; embeddings only
    const char *of;             // embeddings of what: "image", "text"; NULL = not told
    struct sidecar_rows failed; // rows of zeros, of samples that failed; with has_failed
    bool has_failed;            // false: not told, the rows themselves say it
    struct sidecar_input *inputs;
    size_t n_inputs;
};

// Sets tool and version (of this build).
int sidecar_init(struct sidecar *s, const char *tool, struct err *e);
void sidecar_release(struct sidecar *s);
// Records the command line (argv[1..]), less what does not change the result, so that the bytes
// stay the same: the options of the table in sidecar.c, and their values.
int sidecar_set_args(struct sidecar *s, int argc, char *const *argv, struct err *e);
// Adds an input: `path` is cut to its last part; hex may be NULL or "".
int sidecar_add_input(struct sidecar *s, const char *path, const char *hex, struct err *e);

// Appends a row. 0 or -1.
int sidecar_rows_add(struct sidecar_rows *r, uint64_t row, struct err *e);
void sidecar_rows_release(struct sidecar_rows *r);

// Sets rows, data and sample to what w has written. 0 or -1.
int sidecar_set_data(struct sidecar *s, struct npy_writer *w, struct err *e);
// Writes `npy_path`.json, whole or not at all; so many inputs that readers would refuse the file
// become one, whose digest is that of their names and digests. Does nothing where
// io_is_stream(npy_path). To be called just before npy_commit: then an array that is there always
// has its sidecar, however the run ends. 0 or -1.
int sidecar_write(const char *npy_path, const struct sidecar *s, struct err *e);
// Refuses a sidecar that sidecar_write could not replace. 0 or -1.
int sidecar_check(const char *npy_path, struct err *e);
// Reads `npy_path`.json: 1 read (release it), 0 there is none (s is empty), -1 damaged.
int sidecar_read(const char *npy_path, struct sidecar *s, struct err *e);
// sidecar_read, then refuses one whose `rows` is not that of the file itself, or whose `sample` is
// not. Where the sidecar has no sample, `data` is compared if the array is small.
int sidecar_open(const char *npy_path, uint64_t rows, struct sidecar *s, struct err *e);

// Were they made by the same version of the same tool, with the same arguments and seed?
bool sidecar_same_command(const struct sidecar *a, const struct sidecar *b);
// Are the inputs the same, by name and digest? A digest that was not taken is like no other.
bool sidecar_same_inputs(const struct sidecar *a, const struct sidecar *b);

// Two files whose rows should be the same samples: 1 the digests agree, 0 one side has none (only
// the rows were compared, where known), -1 they differ; e names both. The names are for messages.
int sidecar_same_keys(const char *a_name, const struct sidecar *a, const char *b_name,
                      const struct sidecar *b, struct err *e);
// The same for the model that made them.
int sidecar_same_model(const char *a_name, const struct sidecar *a, const char *b_name,
                       const struct sidecar *b, struct err *e);

// -- sidecar-rows.c: the member "failed". 0 or -1
int sidecar_put_failed(cJSON *o, const struct sidecar *s, struct err *e);
int sidecar_get_failed(const cJSON *o, struct sidecar *s, struct err *e);
// -- sidecar-logits.c: the members "scale" and "bias". 0 or -1
int sidecar_put_logits(cJSON *o, const struct sidecar *s, struct err *e);
int sidecar_get_logits(const cJSON *o, struct sidecar *s, struct err *e);

#endif
