// SPDX-License-Identifier: Apache-2.0
// The features of an evaluation split: its pictures through a model, with their labels or captions.
#ifndef EVAL_FEATURES_H
#define EVAL_FEATURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/model.h"
#include "system/digest.h"
#include "base/err.h"
#include "eval/set.h"
#include "text/tokenizer.h"

// A model ready for evaluation, and how it is run.
struct eval_model {
    struct clip_model *clip;
    const struct tokenizer *tokenizer;
    char digest[DIGEST_HEX]; // of config and weights
    char tokenizer_digest[DIGEST_HEX];
    size_t batch;        // pictures or texts at once
    int threads;         // for decoding
    const char *cache;   // folder for features, or NULL
    const char *variant; // what else the features depend on: "embedding f32"
    // Called before the first batch and after each: done of total "samples" or "texts"; or NULL.
    void (*progress)(void *ctx, const char *unit, size_t done, size_t total);
    void *progress_ctx;
    bool (*stop)(void); // asked before each batch: true ends the evaluation with an error; or NULL
};

// Row i is sample i of the split; zeros if its picture could not be decoded.
struct eval_features {
    size_t n, dim;
    float *x;         // [n, dim], unit rows
    int32_t *label;   // [n]; EVAL_CLASSES
    uint8_t *targets; // [n, classes]; EVAL_MULTILABEL
    char **names;     // [n] "0.tar/s0000000"
    size_t failed;    // rows of zeros
    char first_failure[256];
    // EVAL_RETRIEVAL: captions of all samples in order, and the row each belongs to
    char **captions;
    size_t *caption_row;
    size_t n_captions;
    // room
    size_t cap_x, cap_label, cap_targets, cap_names, cap_captions, cap_caption_row;
};

// Reads, decodes and embeds a split; with a cache folder, features are taken from there when they
// were made from the same model, pictures and preprocessing, and put there otherwise. 0 or -1.
int eval_features_get(struct eval_features *f, const struct eval_model *m, const struct eval_set *s,
                      const char *split, struct err *e);
void eval_features_release(struct eval_features *f);

// What features depend on beside the pictures: model, device and preprocessing, into text[room]. 0,
// or -1: too long.
int eval_features_key(char *text, size_t room, const struct eval_model *m, struct err *e);

// Calls m->progress.
static inline void eval_progress(const struct eval_model *m, const char *unit, size_t done,
                                 size_t total)
{
    if (m->progress)
        m->progress(m->progress_ctx, unit, done, total);
}
// -1 with e set where m->stop asks for the end, else 0.
int eval_go_on(const struct eval_model *m, struct err *e);
// Unit embeddings out[n, embed_dim] of n texts. 0 or -1.
int eval_embed_texts(const struct eval_model *m, const char *const *texts, size_t n, float *out,
                     struct err *e);
// Class weights out[classes, embed_dim]: each template filled, embedded, averaged, made unit.
int eval_class_weights(const struct eval_model *m, const struct eval_set *s, float *out,
                       struct err *e);

#endif
