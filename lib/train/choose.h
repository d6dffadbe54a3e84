// SPDX-License-Identifier: Apache-2.0
// --select F: of a batch of B / (1 - F) samples that was read the B that are trained on
// (losses/learnable.h). The student embeds all of them first, in pieces as large as a step's.
#ifndef TRAIN_CHOOSE_H
#define TRAIN_CHOOSE_H

#include "losses/learnable.h"
#include "train/step.h"

struct train_choose {
    struct learnable l;    // l.d NULL: none
    float *u[2], *norm[2]; // device [reads, dim], [reads]: unit embeddings of all, and their norms
    float *teacher[2];     // device [reads, dim_t]
    float *z;              // device [piece, dim]
    int32_t *index;        // device [batch]: rows of the batch at hand in u; with `at_hand`
    bool at_hand;          // u, norm are of this step's samples
    // The samples that were chosen, on the host; owned.
    uint8_t *pixels;
    int32_t *tokens, *labels;
    float *rows[2 * LOSS_TEACHERS_MAX];
    uint64_t *draw;
    char *keys;
    size_t cap_keys;
};

int train_choose_open(struct train_choose *s, struct train_core *c, struct err *e);
void train_choose_close(struct train_choose *s); // safe on a zeroed struct
// Bytes on the device and, of the chosen samples, on the host.
size_t train_choose_bytes(const struct train_set *s, const struct clip_config *cfg);
uint64_t train_choose_host(const struct train_set *s, const struct clip_config *cfg, size_t dims);
// Chooses from `all`; *b: the chosen samples in their order, good until the next call. The next
// train_core_begin of `c` must get them. 0 or -1.
int train_choose(struct train_core *c, const struct train_batch *all, struct train_batch *b,
                 struct err *e);

#endif
