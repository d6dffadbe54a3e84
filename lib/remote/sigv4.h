// SPDX-License-Identifier: Apache-2.0
// AWS Signature Version 4 in the Authorization header: "Create a signed AWS API request", AWS
// Identity and Access Management User Guide. Checked in tests/unit/remote/sigv4-test.c against the
// examples that AWS publishes. Built only where the remote reader is (CLIPCID_REMOTE).
#ifndef SIGV4_H
#define SIGV4_H

#include <stddef.h>

#include "base/err.h"

// The SHA-256 of no bytes, as a request without a body says in x-amz-content-sha256.
#define SIGV4_EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct sigv4_key {
    const char *id, *secret, *region, *service;
};

struct sigv4_header {
    const char *name, *value; // the name in lower case
};

struct sigv4_request {
    const char *method;
    const char *path;                   // as it is sent: encoded, "/" at least
    const char *query;                  // as it is sent, encoded; "" for none. Sorted here.
    const char *date;                   // 20130524T000000Z, also a header of the request
    const struct sigv4_header *headers; // all that are signed, host and x-amz-date among them
    size_t n_headers;                   // 16 at most
    const char *payload;                // hexadecimal SHA-256 of the body, or UNSIGNED-PAYLOAD
};

// The value of the header Authorization, NUL-terminated, into `to`. 0, or -1: it does not fit, more
// headers or parameters than there is room for, or the library failed.
int sigv4_authorization(const struct sigv4_key *k, const struct sigv4_request *r, char *to,
                        size_t room, struct err *e);

#endif
