// SPDX-License-Identifier: Apache-2.0
// Private to lib/config: the preprocessing in Hugging Face's files.
#ifndef CONFIG_PROCESSOR_H
#define CONFIG_PROCESSOR_H

#include "config/config.h"

// From preprocessor_config.json and processor_config.json (either may be NULL). `p` holds the
// defaults and keeps those that neither file sets. 0, or -1 with the file and key named.
int clip_processor_read(struct clip_preprocess *p, const cJSON *preprocessor,
                        const cJSON *processor, struct err *e);

#endif
