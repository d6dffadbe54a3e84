// SPDX-License-Identifier: Apache-2.0
// The image towers that open_clip takes from timm, by their names there.
#ifndef CONFIG_TIMM_H
#define CONFIG_TIMM_H

#include "config/config.h"

// Sets c->vision, image and patch size, and the default preprocessing's numbers of tower `name`.
// `pool` is open_clip's timm_pool. 0, or -1: what it is that is not read here.
int clip_timm_tower(struct clip_config *c, const char *name, const char *pool, struct err *e);
// The name of a tower, NULL: timm has none such here.
const char *clip_timm_name(const struct clip_config *c);
// The word open_clip's timm_pool has for the tower.
const char *clip_timm_pool(const struct clip_config *c);

#endif
