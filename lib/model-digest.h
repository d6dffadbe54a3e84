// SPDX-License-Identifier: Apache-2.0
// Tells models apart: what sidecars record of the model that made embeddings.
#ifndef MODEL_DIGEST_H
#define MODEL_DIGEST_H

#include "clip-weights.h"
#include "digest.h"

// Digest of the config (in open_clip's form) and of every tensor's name, type, shape and first and
// last 4 KiB: two trained models differ in all of these, and a file of gigabytes is not read twice.
// 0 or -1.
int model_digest(const struct clip_weights *w, char hex[DIGEST_HEX], struct err *e);

#endif
