// SPDX-License-Identifier: Apache-2.0
// The progress of a run of training: state.json of a checkpoint, and time.json beside it.
// state.json holds the digests of the checkpoint's files and of itself; its bytes do not depend on
// where the run was interrupted. Values that do are in time.json.
#ifndef RUNS_STATE_H
#define RUNS_STATE_H

#include <cjson/cJSON.h>
#include <stdint.h>

#include "base/err.h"
#include "feed/data.h"

// The evaluations of a run, in time.json: when they are due, what they took.
struct train_looks {
    uint64_t step, epoch;    // of the last one
    uint64_t n, passed_over; // done; left out for --eval-share
    double seconds;
};

struct train_state {
    uint64_t step;        // steps done, skipped ones among them
    uint64_t taken;       // steps of the optimiser
    uint64_t samples;     // trained on
    struct train_pos pos; // the least epoch of all streams
    struct train_counts counts;
    struct train_place *places; // [n_places], of a run by {part} or a mixture; owned
    size_t n_places;            // 0: one stream
    double seconds;             // that the run took up to here, all its starts together
    uint64_t starts;            // times it was started
    struct train_looks looks;   // runs/watch.h
    uint64_t best_step;         // --keep-best: of the best evaluation; 0: none yet
    double best_value;
    uint64_t good_steps; // --spike: steps in the mean; 0: none is kept
    double mean_loss;
    cJSON *options; // of the run, those that change the result; owned
};

void train_state_release(struct train_state *s);
// Allocates the places of n streams, all at their beginning. 0 or -1.
int train_state_places(struct train_state *s, size_t n, struct err *e);
// Copies the places of all streams, or of the one stream, into pos, counts and places.
void train_state_take(struct train_state *s, const struct train_place *places);
// Samples of set i of a mixture of n that were trained on, of all pieces.
uint64_t train_state_used(const struct train_state *s, size_t n, size_t i);
// Writes state.json and time.json of the folder, whose other files must all exist. 0 or -1.
int train_state_write(const char *dir, const struct train_state *s, struct err *e);
// Reads them and compares every file with its digest: 0 read, 1 the folder is damaged (e says
// what), -1 it could not be read, or is of a version that cannot be resumed.
int train_state_read(const char *dir, struct train_state *s, struct err *e);

// 0 if both are equal, else -1 with the first option that differs and its values. With `longer` the
// length of the run and of its warm-up may differ.
int train_options_same(const cJSON *was, const cJSON *is, bool longer, struct err *e);

#endif
