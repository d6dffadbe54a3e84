// SPDX-License-Identifier: Apache-2.0
// Any bytes as the head and body of an answer: what is kept is text of visible ASCII.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "remote/answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *s, size_t room)
{
    if (strnlen(s, room) == room)
        abort();
    for (; *s; s++)
        if (*s < ' ' || *s > '~')
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct answer a = {0};
    for (size_t at = 0; at < size;) {
        const uint8_t *end = memchr(data + at, '\n', size - at);
        size_t n = end ? (size_t)(end - data) + 1 - at : size - at;
        answer_line(&a, (const char *)data + at, n, 1700000000);
        at += n;
    }
    answer_error(&a, (const char *)data, size);
    check(a.etag, sizeof a.etag);
    check(a.modified, sizeof a.modified);
    check(a.region, sizeof a.region);
    check(a.code, sizeof a.code);
    if (a.has_range && (a.to < a.from || (a.has_total && a.to >= a.total)))
        abort();
    if (a.retry_after > 86400)
        abort();
    return 0;
}
