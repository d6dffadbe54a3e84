// SPDX-License-Identifier: Apache-2.0
// Private to config*.c: how Hugging Face's files say that pictures are prepared.
#ifndef CONFIG_PROCESSOR_H
#define CONFIG_PROCESSOR_H

#include "config/config.h"

// From preprocessor_config.json and processor_config.json (either may be NULL). `p` holds the
// defaults and keeps them where neither says anything. 0, or -1 with the file and key named.
int clip_processor_read(struct clip_preprocess *p, const cJSON *preprocessor,
                        const cJSON *processor, struct err *e);

#endif
