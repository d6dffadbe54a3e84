// SPDX-License-Identifier: Apache-2.0
// Where a name leads: the parts of the request that reads it. The path and the query are sent and
// signed in the same bytes.
#ifndef PLACE_H
#define PLACE_H

#include <stdbool.h>

#include "base/err.h"
#include "remote/aws.h"

enum { PLACE_ORIGIN = 512, PLACE_PATH = 13000, PLACE_QUERY = 8192 };

struct place {
    char origin[PLACE_ORIGIN]; // scheme://host[:port], the port left out where it is the usual one
    char path[PLACE_PATH];     // "/" at least, percent-encoded
    char query[PLACE_QUERY];   // without "?", or ""
    bool store;                // S3: requests are signed, unless they are anonymous
};

// The object s3://BUCKET/KEY, or the file https://... or http://.... An S3 key is taken as it
// stands and encoded here (all but letters, digits and -_.~/); of a URL only bytes that no URL may
// hold. Errors: no bucket, no key, no host, a user or password in a URL, too long, an endpoint that
// is no URL. 0 or -1.
int place_of(struct place *p, const char *name, const struct aws *a, struct err *e);
// What lists the objects of s3://BUCKET/PREFIX whose names have no further slash behind the prefix:
// ListObjectsV2, from `after` on (a continuation token, or ""). 0 or -1.
int place_list(struct place *p, const char *name, const char *after, const struct aws *a,
               struct err *e);
// The host and port, as the header Host has them.
const char *place_host(const struct place *p);
// The text after its scheme and bucket: the key or prefix of an s3:// name.
const char *place_key(const char *name);

#endif
