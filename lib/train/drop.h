// SPDX-License-Identifier: Apache-2.0
// --patch-dropout P (FLIP: Li et al., 2023): which patches of a picture go through the image tower.
// They are drawn from the seed, the epoch and the sample's key alone, so that a resumed run, ranks
// and pieces of a batch have the same.
#ifndef TRAIN_DROP_H
#define TRAIN_DROP_H

#include <stddef.h>
#include <stdint.h>

// Patches of a picture of `patches` that are kept, as open_clip counts them: at least one. 0: all.
size_t train_drop_keep(double dropout, size_t patches);
// The number that a sample's patches are drawn from.
uint64_t train_drop_draw(uint64_t seed, uint64_t epoch, const char *key);
// `keep` of the patches, ascending, into pick[keep]; keep > 0. room[patches].
void train_drop_pick(uint64_t draw, size_t patches, size_t keep, int32_t *pick, int32_t *room);

#endif
