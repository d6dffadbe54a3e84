// SPDX-License-Identifier: Apache-2.0
// What a server answers: the status line and those headers that reading needs, and the code of an
// error in S3's XML. Takes any bytes.
#ifndef ANSWER_H
#define ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ANSWER_TAG = 256, ANSWER_WORD = 64 };

struct answer {
    int status;                 // 0 before the status line
    char etag[ANSWER_TAG];      // with its quotes and W/; "" = none, or too long to be sent back
    char modified[ANSWER_WORD]; // the text of Last-Modified
    bool has_range;             // Content-Range: bytes from-to/total
    uint64_t from, to, total;
    bool has_total; // false for ".../*"
    bool has_length;
    uint64_t length;          // Content-Length
    unsigned retry_after;     // seconds, at most a day; 0 = not said
    char region[ANSWER_WORD]; // x-amz-bucket-region
    char code[ANSWER_WORD];   // of an error's body
};

// One line of the head, n bytes, its end included or not. A status line clears what was there:
// redirects send several heads. `now`: seconds since 1970, for a Retry-After that is a date.
void answer_line(struct answer *a, const char *line, size_t n, int64_t now);
// The first <Code> of an error's body into a->code: letters, digits, dots, - and _ only.
void answer_error(struct answer *a, const char *body, size_t n);
// Seconds since 1970 of an HTTP date ("Fri, 24 May 2013 00:00:00 GMT"), -1 for other text.
int64_t answer_time(const char *text);
// True where the tag may be sent in If-Match: it is there and not weak.
bool answer_strong(const char *etag);

#endif
