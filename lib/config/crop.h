// SPDX-License-Identifier: Apache-2.0
// A model's preprocessing as parameters of image/crop.h.
#ifndef CONFIG_CROP_H
#define CONFIG_CROP_H

#include "config/config.h"
#include "image/crop.h"
#include "formats/samples.h"

// crop_params_default with the model's side, fit, filter and fill, as its evaluation uses them.
void clip_crop(const struct clip_config *cfg, struct crop_params *out);
// The word that a samples stream has for the model's fit: "shortest", "squash", "pad", and
// "pad-127" where the fill is not black.
void clip_crop_fit_name(const struct clip_config *cfg, char name[SAMPLES_NAME]);

#endif
