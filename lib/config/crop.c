// SPDX-License-Identifier: Apache-2.0
#include "config/crop.h"

#include <stdio.h>
#include <string.h>

static const enum crop_resize fits[] = {
    [CLIP_SHORTEST] = CROP_SHORTEST, [CLIP_SQUASH] = CROP_SQUASH, [CLIP_LONGEST] = CROP_PAD};

void clip_crop(const struct clip_config *cfg, struct crop_params *out)
{
    const struct clip_preprocess *p = &cfg->preprocess;
    *out = crop_params_default;
    out->size = cfg->image_size;
    out->resize = fits[p->fit];
    out->filter = p->resample == CLIP_BICUBIC ? RESIZE_BICUBIC : RESIZE_BILINEAR;
    memset(out->fill, p->fill, sizeof out->fill);
}

void clip_crop_fit_name(const struct clip_config *cfg, char name[SAMPLES_NAME])
{
    const struct clip_preprocess *p = &cfg->preprocess;
    snprintf(name, SAMPLES_NAME, "%s", crop_resize_name(fits[p->fit]));
    if (p->fit == CLIP_LONGEST && p->fill)
        snprintf(name, SAMPLES_NAME, "pad-%d", p->fill);
}
