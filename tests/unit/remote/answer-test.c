// SPDX-License-Identifier: Apache-2.0
#include "remote/answer.h"

#include <string.h>

#include "unit/tap.h"

static struct answer read_head(const char *text)
{
    struct answer a = {0};
    for (size_t n; *text; text += n) {
        n = strcspn(text, "\n");
        n += text[n] == '\n';
        answer_line(&a, text, n, 1369353600 - 60);
    }
    return a;
}

static void test_head(void)
{
    struct answer a = read_head("HTTP/1.1 206 Partial Content\r\nETAG:  \"ab-1\" \r\n"
                                "content-range: bytes 5-9/100\r\nContent-Length: 5\r\n"
                                "Last-Modified: Fri, 24 May 2013 00:00:00 GMT\r\n"
                                "x-amz-bucket-region: eu-1\r\n\r\n");
    ok(a.status == 206 && !strcmp(a.etag, "\"ab-1\"") && answer_strong(a.etag), "status and tag");
    ok(a.has_range && a.from == 5 && a.to == 9 && a.has_total && a.total == 100, "range");
    ok(a.has_length && a.length == 5, "length");
    ok(answer_time(a.modified) == 1369353600 && !strcmp(a.region, "eu-1"), "time and region");
    a = read_head("HTTP/1.1 302 Found\r\nETag: \"x\"\r\nRetry-After: 9\r\n\r\nHTTP/2 200\r\n\r\n");
    ok(a.status == 200 && !*a.etag && !a.retry_after, "a redirect's head is forgotten");
    ok(!answer_strong("W/\"x\"") && !answer_strong(""), "weak tags");
}

static void test_odd(void)
{
    static char line[2000] = "ETag: \"";
    ok(read_head("Retry-After: 7\n").retry_after == 7, "seconds");
    ok(read_head("Retry-After: Fri, 24 May 2013 00:00:00 GMT\n").retry_after == 60, "a date");
    ok(read_head("Retry-After: Fri, 24 May 1999 00:00:00 GMT\n").retry_after == 0, "an old one");
    ok(read_head("Retry-After: 99999999\n").retry_after == 86400, "a day at most");
    ok(read_head("Retry-After: soon\n").retry_after == 0, "no number");
    ok(read_head("HTTP/1.1\r\n").status == -1 && read_head("HTTP/1.1 20\r\n").status == -1,
       "no status");
    struct answer a = read_head("Content-Range: bytes 0-9/*\n");
    ok(a.has_range && !a.has_total, "an unknown length");
    ok(!read_head("Content-Range: bytes 0-9/10\nContent-Range: bytes 9-5/x\n").has_range,
       "a wrong range after a good one is none");
    a = read_head("Content-Range: bytes */0\n");
    ok(!a.has_range && a.has_total && !a.total, "of an empty file");
    ok(!read_head("Content-Range: bytes 9-5/10\n").has_range &&
           !read_head("Content-Range: bytes 0-10/10\n").has_range &&
           !read_head("Content-Range: bytes 0-9\n").has_range,
       "ranges that are none");
    ok(!read_head("Content-Length: 99999999999999999999\n").has_length &&
           !read_head("Content-Length: 5x\n").has_length,
       "lengths that are none");
    memset(line + 7, 'x', sizeof line - 8);
    ok(!*read_head(line).etag && !*read_head("ETag: \"a\tb\"\n").etag,
       "tags that are not sent back");
    a = (struct answer){0};
    const char body[] = "<?xml?><Error><Code>SlowDown</Code></Error>";
    answer_error(&a, body, sizeof body - 1);
    ok(!strcmp(a.code, "SlowDown"), "the code of an error");
    answer_error(&a, "<Code>a\033[1m", 11);
    ok(!strcmp(a.code, "a"), "without escapes");
    answer_error(&a, "<Cod", 4);
    ok(!*a.code, "none");
}

int main(void)
{
    test_head();
    test_odd();
    return tap_done();
}
