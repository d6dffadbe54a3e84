// SPDX-License-Identifier: Apache-2.0
// How a model's pictures are cut, by the part of the code that cuts them.
#ifndef CONFIG_CROP_H
#define CONFIG_CROP_H

#include "config/config.h"
#include "image/crop.h"
#include "formats/samples.h"

// The defaults of crop_params, with the model's side, fit, filter and fill: what its evaluation
// sees.
void clip_crop(const struct clip_config *cfg, struct crop_params *out);
// The word that a samples stream has for the model's fit: "shortest", "squash", "pad", and
// "pad-127" where the fill is not black.
void clip_crop_fit_name(const struct clip_config *cfg, char name[SAMPLES_NAME]);

#endif
