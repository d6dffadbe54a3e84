// SPDX-License-Identifier: Apache-2.0
// The image towers that open_clip takes from timm, by their names there.
#ifndef CONFIG_TIMM_H
#define CONFIG_TIMM_H

#include "config/config.h"

// Sets c->vision, image and patch size, and the default preprocessing's numbers of tower `name`.
// `pool` is open_clip's timm_pool. 0, or -1 with the reason it is not implemented.
int clip_timm_tower(struct clip_config *c, const char *name, const char *pool, struct err *e);
// The name of timm's tower of these sizes; NULL: none is known here.
const char *clip_timm_name(const struct clip_config *c);
// The tower's value of open_clip's timm_pool.
const char *clip_timm_pool(const struct clip_config *c);

#endif
