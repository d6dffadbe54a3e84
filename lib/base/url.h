// SPDX-License-Identifier: Apache-2.0
// Names of files on other machines: s3://BUCKET/KEY, https://HOST/PATH, http://HOST/PATH. A URL may
// hold a secret (a pre-signed query, a password): show or write it only through url_show.
#ifndef URL_H
#define URL_H

#include <stdbool.h>
#include <stddef.h>

// True if the name begins with s3://, https:// or http:// (in lower case).
bool url_is(const char *name);
// Bytes of the scheme with its slashes: 5 of "s3://...", 7 or 8 of the others, 0 of other names.
size_t url_scheme(const char *name);
// Bytes of the URL at `name` up to its query or fragment. A key of s3:// has neither.
size_t url_path_end(const char *name);

// Copies a text and takes the user, the password and the query out of every http URL in it:
// "https://u:p@h/x.tar?sig=1" becomes "https://h/x.tar?...". A query ends at a blank, a quote or
// the end of the text. What does not fit in `room` bytes is cut off.
void url_show(const char *text, char *to, size_t room);

#endif
