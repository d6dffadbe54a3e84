// SPDX-License-Identifier: Apache-2.0
// Inside clip-model: the buffers of a forward pass.
#ifndef MODEL_MODEL_WORK_H
#define MODEL_MODEL_WORK_H

#include "model/model.h"

// Rows that go through a tower together: few enough for the buffers to stay near the processor,
// many enough for a weight to be read once for much work. A device may ask for more (dev.h,
// pass_rows). A result does not depend on it.
enum { CLIP_WORK_ROWS = 1664 };

// Sizes and allocates m->work[t] for a loaded tower. 0 or -1.
int clip_work_init(struct clip_model *m, enum clip_tower_id t, struct err *e);
void clip_work_release(struct clip_model *m, enum clip_tower_id t);

#endif
