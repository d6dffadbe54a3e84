// SPDX-License-Identifier: Apache-2.0
// Any bytes: refused, or a tree whose text is JSON again and stays the same from then on.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "formats/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *again(const char *text, size_t n, bool pretty)
{
    struct err e;
    cJSON *t = json_parse(text, n, NULL, &e);
    if (!t)
        abort();
    char *s = json_text(t, pretty, &e);
    if (!s)
        abort();
    cJSON_Delete(t);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    cJSON *t = json_parse((const char *)data, size, NULL, &e);
    if (!t)
        return 0;
    cJSON_Delete(t);
    char *one = again((const char *)data, size, true);
    char *two = again(one, strlen(one), true);
    char *line = again(two, strlen(two), false);
    char *three = again(line, strlen(line), true);
    if (strcmp(one, two) || strcmp(two, three))
        abort();
    free(one);
    free(two);
    free(line);
    free(three);
    return 0;
}
