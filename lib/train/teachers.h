// SPDX-License-Identifier: Apache-2.0
// The teachers of a run: the folders of their stored embeddings, as --teacher-image and
// --teacher-text name them, and the scales of their logits.
#ifndef TRAIN_TEACHERS_H
#define TRAIN_TEACHERS_H

#include <stddef.h>

#include "base/err.h"
#include "losses/losses.h"

// DIR[,DIR...], a teacher each; {view} in a name stands for 0, 1 ... views - 1.
struct teacher_dirs {
    size_t teachers, views; // 0, 0: none was named
    char **dir;             // [teachers * views], owned
};

// `views`: 0, or their number; a name without {view} is the same for all. 0 or -1.
int teacher_dirs_parse(struct teacher_dirs *d, const char *list, size_t views, struct err *e);
void teacher_dirs_release(struct teacher_dirs *d);
// NULL where none was named.
const char *teacher_dir(const struct teacher_dirs *d, size_t teacher, size_t view);

// --teacher-scale X[,X...], one or one each of n, into to[n]; without `list` those of the sidecars
// (told), where these have none 100. 0 or -1.
int teacher_scales(const char *list, size_t n, const double *told, float *to, struct err *e);

#endif
