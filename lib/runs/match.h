// SPDX-License-Identifier: Apache-2.0
// Checks by the digests of the sidecars, before the first step, that the files given to a run of
// training belong together. A file without sidecar is not checked.
//
// Refused: embeddings of two models; texts where images should be, and the other way round; files
// of one shard with different samples or numbers of rows; labels of other centroids than those
// given, or of other embeddings than the teacher's images; centroids of another model.
#ifndef RUNS_MATCH_H
#define RUNS_MATCH_H

#include <stdint.h>

#include "system/digest.h"
#include "base/err.h"
#include "system/lines.h"
#include "train/teachers.h"

// Folders and files, NULL = not used.
struct train_inputs {
    const char *image, *text, *labels; // folders
    const char *centroids;             // NPY
    const char *tokenizer;             // file or folder
    bool views;         // the images are of views, and labels of the usual pictures fit them too
    const char *shards; // file with a line a shard: no others count; NULL: all
};

// Digests of the inputs, which a resumed run compares; "" = not used.
struct train_identity {
    char image[DIGEST_HEX], text[DIGEST_HEX], labels[DIGEST_HEX], centroids[DIGEST_HEX],
        tokenizer[DIGEST_HEX];
    char model[DIGEST_HEX];  // of the first teacher, "": the sidecars do not tell
    char others[DIGEST_HEX]; // of the folders of other teachers and views (train/teachers.h)
    double scale[LOSS_TEACHERS_MAX]; // of the teachers' logits, by their sidecars; 0: not told
    uint64_t n;                      // shards that the digests of the folders are for
};

// `known`: names of the files that the run began with, sorted; newer files are ignored; n 0 for a
// new run. *names: the names for the next time, a line each, heap; "" without folders. 0, or -1
// with a message that names the two inputs that do not fit.
int train_match(const struct train_inputs *in, const struct lines *known, struct train_identity *id,
                char **names, struct err *e);

// Checks the folders of the other teachers and views as train_match does those of the first; they
// must be of the first's shards, `names`. `in`: the first's. Adds to *id. 0 or -1.
int teacher_dirs_match(const struct teacher_dirs dirs[2], const struct train_inputs *in,
                       const struct lines *known, const char *names, struct train_identity *id,
                       struct err *e);

struct train_plan;
struct train_run;
// Both of the above for one plan. 0 or -1.
int train_match_set(const struct train_plan *p, const struct lines *known,
                    struct train_identity *id, char **names, struct err *e);
// For each set of a mixture, all of one teacher: *id is what they are together, r->shards_of[i]
// gets the names of set i. 0 or -1.
int train_match_sets(struct train_run *r, struct train_identity *id, struct err *e);

#endif
