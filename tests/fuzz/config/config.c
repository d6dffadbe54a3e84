// SPDX-License-Identifier: Apache-2.0
// Any JSON as open_clip_config.json, config.json, preprocessor_config.json and
// processor_config.json: refused, or a config
// that its own check accepts, whose table can be built, and that is written and read back.
#include <stdint.h>
#include <stdlib.h>

#include "model/table.h"
#include "formats/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(struct clip_config *c)
{
    struct clip_config back;
    struct clip_table t;
    struct err e;
    if (clip_config_check(c, &e))
        abort();
    cJSON *j = clip_config_to_open_clip(c, &e);
    if (j && clip_config_from_open_clip(&back, j, &e))
        abort();
    cJSON_Delete(j);
    if (c->vision.layers + c->text.layers < 64 && !clip_table_init(&t, c, &e))
        clip_table_release(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char hf[] =
        "{\"model_type\":\"clip\",\"text_config\":{\"hidden_act\":\"gelu\"},\"vision_config\":{"
        "\"hidden_act\":\"gelu\"}}";
    struct clip_config c;
    struct err e;
    cJSON *j = json_parse((const char *)data, size, NULL, &e);
    cJSON *plain = json_parse(hf, sizeof hf - 1, NULL, &e);
    if (j) {
        if (!clip_config_from_open_clip(&c, j, &e))
            use(&c);
        if (!clip_config_from_hf(&c, j, NULL, NULL, &e))
            use(&c);
        if (plain && !clip_config_from_hf(&c, plain, j, NULL, &e))
            use(&c);
        if (plain && !clip_config_from_hf(&c, plain, NULL, j, &e))
            use(&c);
    }
    cJSON_Delete(j);
    cJSON_Delete(plain);
    return 0;
}
