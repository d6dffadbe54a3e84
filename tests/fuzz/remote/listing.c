// SPDX-License-Identifier: Apache-2.0
// Any bytes as a page of a listing: refused, or names without control characters.
#include <stdint.h>
#include <stdlib.h>

#include "remote/listing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct listing l = {0};
    struct err e;
    listing_page(&l, (const char *)data, size, &e);
    for (size_t i = 0; i < l.n; i++) {
        check(l.entries[i].key);
        check(l.entries[i].etag);
    }
    if (l.next)
        check(l.next);
    listing_release(&l);
    return 0;
}
