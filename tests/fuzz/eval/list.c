// SPDX-License-Identifier: Apache-2.0
// Any bytes as a Python or JSON file of lists: refused, or lists whose texts end.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "eval/list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(struct eval_named_lists *all)
{
    for (size_t i = 0; i < all->n; i++)
        for (size_t k = 0; k < all->list[i].items.n; k++)
            if (strlen(all->list[i].items.lines[k]) > (size_t)1 << 24)
                abort();
    eval_named_lists_release(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    struct eval_named_lists python = {0}, json = {0};
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    eval_list_python(&python, text, &e);
    look(&python);
    eval_list_json(&json, text, size, &e);
    look(&json);
    free(text);
    return 0;
}
