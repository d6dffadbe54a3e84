// SPDX-License-Identifier: Apache-2.0
// Texts of the tests, from a JSON file.
#ifndef UNIT_TEXT_TEXTS_H
#define UNIT_TEXT_TEXTS_H

#include <stdlib.h>
#include <string.h>
#include <cjson/cJSON.h>

#include "system/io.h"

// The parsed file, the caller's; NULL with e. cJSON cannot hold a NUL in a text: U+0001 stands in
// for it, since cleaning removes both.
static inline cJSON *texts_read(const char *path, struct err *e)
{
    struct map m;
    if (map_open(&m, path, e))
        return NULL;
    char *text = malloc(m.n + 1);
    memcpy(text, m.data, m.n);
    text[m.n] = 0;
    for (char *p = text; (p = strstr(p, "\\u0000"));)
        p[5] = '1';
    cJSON *j = cJSON_Parse(text);
    free(text);
    map_close(&m);
    return j;
}

#endif
