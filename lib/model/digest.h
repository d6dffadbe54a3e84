// SPDX-License-Identifier: Apache-2.0
// Tells models apart: what sidecars and results record of the model, and caches are named after.
#ifndef MODEL_DIGEST_H
#define MODEL_DIGEST_H

#include "model/weights.h"
#include "system/digest.h"

// Digest of the config (in open_clip's form, or Hugging Face's where that cannot hold it) and of
// the name, type, shape and bytes of every tensor that the model uses: features kept under it are
// those of this model and no other. Runs at the speed of the disk, ahead of a loading that then
// finds the pages in memory; drops them from the process again. 0 or -1.
int model_digest(const struct clip_weights *w, char hex[DIGEST_HEX], struct err *e);

#endif
