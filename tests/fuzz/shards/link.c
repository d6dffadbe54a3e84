// SPDX-License-Identifier: Apache-2.0
// Any bytes as a link to a remote shard: no link, a spoilt one, or a URL.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/url.h"
#include "shards/shard-link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char url[SHARD_NAME_MAX];
    char *copy = malloc(size + 1); // of its exact size, for the sanitizer
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    bool link = shard_link_read(copy, size, url);
    free(copy);
    if ((*url && (!link || !url_is(url))) || strchr(url, '\n'))
        abort();
    return 0;
}
