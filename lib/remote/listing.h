// SPDX-License-Identifier: Apache-2.0
// A page of ListObjectsV2 in S3's XML, with encoding-type=url or without. Takes any bytes.
#ifndef LISTING_H
#define LISTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct listing_entry {
    char *key;  // owned; no control characters
    char *etag; // owned; "" where there is none; no control characters
    uint64_t size;
    int64_t modified; // seconds since 1970; -1 = not said
};

struct listing {
    struct listing_entry *entries;
    size_t n, cap;
    char *next; // the continuation token of the next page; NULL at the last one
};

// Appends the objects of a page, and sets l->next. Refuses text that is not such a page, a page
// that was cut off, an object without a key or size, and keys with control characters or NUL. 0 or
// -1; on an error the list may hold a part of the page.
int listing_page(struct listing *l, const char *xml, size_t n, struct err *e);
void listing_release(struct listing *l);

#endif
