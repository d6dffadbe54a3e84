// SPDX-License-Identifier: Apache-2.0
// The files that teacher-embed writes: row i of each is sample i.
#ifndef EMBED_OUTPUT_H
#define EMBED_OUTPUT_H

#include <stdbool.h>

#include "embed/batch.h"
#include "base/err.h"
#include "formats/npy-write.h"
#include "formats/sidecar.h"

struct embed_output {
    struct npy_writer image, text, tokens;
    const char *image_path, *text_path, *tokens_path; // NULL: not wanted
    enum npy_type type;                               // of the embeddings
    size_t dim, context;
    uint64_t rows;
    struct sidecar_rows no_image, no_text; // rows of zeros
};

// Paths are set by the caller; "-" is standard output. 0 or -1.
int embed_output_open(struct embed_output *o, enum npy_type type, size_t dim, size_t context,
                      struct err *e);
// Appends a batch; rows of samples that lack a picture or a caption are zeros. Refuses a value that
// is not finite, or would not be in the type of the file. 0 or -1.
int embed_output_put(struct embed_output *o, const struct embed_batch *b, struct err *e);
// Writes the sidecars (rows and data are filled in here) and completes the files. 0 or -1.
int embed_output_commit(struct embed_output *o, struct sidecar *s, struct err *e);
void embed_output_abort(struct embed_output *o);

#endif
