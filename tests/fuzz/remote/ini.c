// SPDX-License-Identifier: Apache-2.0
// Any bytes as a file of ~/.aws: names and values are trimmed, and values not empty.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "remote/ini.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take(void *ctx, const struct ini_value *v)
{
    (void)ctx;
    size_t n = strlen(v->value);
    if (!n || strchr(" \t\r", v->value[0]) || strchr(" \t\r", v->value[n - 1]))
        abort();
    if (strchr(v->section, '\n') || strchr(v->group, '\n') || strchr(v->name, '='))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    ini_each(text, take, NULL);
    free(text);
    return 0;
}
