// SPDX-License-Identifier: Apache-2.0
// Batches of samples on their way through teacher-embed, and the ring in which reading, computing
// and writing follow each other: each stage has batches of its own, so they overlap.
#ifndef EMBED_BATCH_H
#define EMBED_BATCH_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// What a batch holds: fixed for a run.
struct embed_shape {
    size_t rows;        // samples of a batch, at most
    size_t image_bytes; // of a picture; 0: no pictures
    size_t context;     // token ids of a caption; 0: no captions
    size_t dim;         // of an embedding
};

// Pictures, captions and embeddings stand close together; has_* say which rows have one.
struct embed_item; // run.h
struct embed_batch {
    struct embed_item *item; // whose samples they are; of one item only
    bool last;               // of the item: it may hold none
    size_t n, n_images, n_texts;
    bool *has_image, *has_text; // [rows]
    uint8_t *pixels;            // [n_images, image_bytes]
    int32_t *tokens;            // [n_texts, context]
    float *image, *text;        // [n_images, dim], [n_texts, dim]
};

enum { EMBED_BATCHES = 4 }; // computing may hold two: one on the device, one being given to it
enum embed_stage { EMBED_READ, EMBED_COMPUTE, EMBED_WRITE, EMBED_STAGES };

struct embed_ring {
    struct embed_shape shape;
    struct embed_batch batch[EMBED_BATCHES];
    pthread_mutex_t lock;
    pthread_cond_t moved;
    uint64_t taken[EMBED_STAGES], done[EMBED_STAGES]; // batches that each stage has taken, finished
    bool ended[EMBED_STAGES];                         // it will finish no more
    bool failed;
    struct err err; // the first failure
};

// Bytes of a sample in all batches of the ring.
double embed_sample_bytes(const struct embed_shape *s);
// 0 or -1.
int embed_ring_init(struct embed_ring *r, const struct embed_shape *s, struct err *e);
void embed_ring_release(struct embed_ring *r);

// The next batch for a stage; waits for the stage before it. NULL: there are no more, or the run
// has failed. EMBED_READ gets an empty one.
struct embed_batch *embed_ring_take(struct embed_ring *r, enum embed_stage s);
// True if the stage would have to wait for a batch.
bool embed_ring_empty(struct embed_ring *r, enum embed_stage s);
// Marks the oldest batch that this stage has taken but not yet given as finished.
void embed_ring_give(struct embed_ring *r, enum embed_stage s);
// No more from this stage.
void embed_ring_end(struct embed_ring *r, enum embed_stage s);
// Stops all stages.
void embed_ring_fail(struct embed_ring *r, const struct err *e);

#endif
