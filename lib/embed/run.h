// SPDX-License-Identifier: Apache-2.0
// Samples through a model into files: what teacher-embed does once everything is open. One thread
// reads and tokenises, the caller's computes, one writes.
#ifndef EMBED_RUN_H
#define EMBED_RUN_H

#include "model/model.h"
#include "embed/output.h"
#include "embed/source.h"
#include "formats/sidecar.h"
#include "text/tokenizer.h"

struct embed_run {
    struct clip_model *model; // NULL: tokens only
    const struct embed_source *source;
    const struct tokenizer *tokenizer; // NULL: no captions
    struct embed_output *output;
    struct sidecar *sidecar; // keys and inputs are filled in
    size_t batch;            // samples
    bool image, text;        // embeddings wanted
    bool unit;               // unit rows
    size_t context;          // of a row of tokens
    // Told about progress, from the writing thread; may be NULL.
    void (*progress)(void *ctx, uint64_t samples);
    void *progress_ctx;

    // Counted by embed_run_all
    uint64_t samples, no_image, no_text; // without a usable picture, caption (where wanted)
    double read_wait;                    // seconds that computing waited for samples
};

// Runs to the end and commits the files; on failure nothing is there. 0 or -1.
int embed_run_all(struct embed_run *r, struct err *e);

#endif
