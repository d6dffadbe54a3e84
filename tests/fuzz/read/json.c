// SPDX-License-Identifier: Apache-2.0
// What the strict reader takes, the lenient check of a sample's json must take too.
#include <stdlib.h>

#include "formats/json.h"
#include "read/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    int rc = read_json_check(data, size, &e);
    cJSON *tree = json_parse((const char *)data, size, NULL, &e);
    if (tree && rc)
        abort();
    free(read_json_string(data, size, "caption", &e));
    cJSON_Delete(tree);
    return 0;
}
