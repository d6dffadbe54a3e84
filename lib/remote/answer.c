// SPDX-License-Identifier: Apache-2.0
#include "remote/answer.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { DAY = 86400 };

// A decimal number of at most 18 digits from *p up to end; moves *p behind it.
static bool take_number(const char **p, const char *end, uint64_t *v)
{
    const char *start = *p;
    *v = 0;
    for (; *p < end && **p >= '0' && **p <= '9' && *p - start < 18; (*p)++)
        *v = *v * 10 + (uint64_t)(**p - '0');
    return *p > start && (*p == end || **p < '0' || **p > '9');
}

static bool take_word(const char **p, const char *end, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(end - *p) < n || strncasecmp(*p, word, n))
        return false;
    *p += n;
    return true;
}

// "HTTP/1.1 206 Partial Content", "HTTP/2 200"
static bool take_status(struct answer *a, const char *p, const char *end)
{
    uint64_t v;
    if (!take_word(&p, end, "HTTP/"))
        return false;
    while (p < end && *p != ' ')
        p++;
    while (p < end && *p == ' ')
        p++;
    *a = (struct answer){.status = -1};
    if (take_number(&p, end, &v) && v >= 100 && v <= 999)
        a->status = (int)v;
    return true;
}

// "bytes 0-99/1000", "bytes */0". Of several lines the last holds, a wrong one too.
static void take_range(struct answer *a, const char *p, const char *end)
{
    a->has_range = a->has_total = false;
    if (!take_word(&p, end, "bytes "))
        return;
    bool star = p < end && *p == '*';
    if (star) {
        p++;
    } else {
        if (!take_number(&p, end, &a->from) || !take_word(&p, end, "-") ||
            !take_number(&p, end, &a->to) || a->to < a->from)
            return;
    }
    if (!take_word(&p, end, "/"))
        return;
    a->has_total = take_number(&p, end, &a->total) && p == end;
    a->has_range = !star && (!a->has_total || a->to < a->total);
}

// Visible ASCII and blanks only, since it goes into a message or a request again.
static void take_text(char *to, size_t room, const char *p, const char *end)
{
    to[0] = '\0';
    if ((size_t)(end - p) >= room)
        return;
    for (const char *q = p; q < end; q++)
        if ((unsigned char)*q < ' ' || (unsigned char)*q > '~')
            return;
    memcpy(to, p, (size_t)(end - p));
    to[end - p] = '\0';
}

int64_t answer_time(const char *text)
{
    struct tm t = {0};
    const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &t);
    return end && !*end ? (int64_t)timegm(&t) : -1;
}

static void take_retry(struct answer *a, const char *p, const char *end, int64_t now)
{
    uint64_t v;
    char text[ANSWER_WORD];
    const char *q = p;
    if (take_number(&q, end, &v) && q == end) {
        a->retry_after = v < DAY ? (unsigned)v : DAY;
        return;
    }
    take_text(text, sizeof text, p, end);
    int64_t at = answer_time(text);
    if (at > now)
        a->retry_after = at - now < DAY ? (unsigned)(at - now) : DAY;
}

void answer_line(struct answer *a, const char *line, size_t n, int64_t now)
{
    const char *end = line + n, *p = line;
    while (end > line && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ' || end[-1] == '\t'))
        end--;
    if (take_status(a, line, end))
        return;
    const char *colon = memchr(line, ':', (size_t)(end - line));
    if (!colon)
        return;
    const char *v = colon + 1;
    while (v < end && (*v == ' ' || *v == '\t'))
        v++;
    if (take_word(&p, colon, "etag") && p == colon)
        take_text(a->etag, sizeof a->etag, v, end);
    else if (p = line, take_word(&p, colon, "last-modified") && p == colon)
        take_text(a->modified, sizeof a->modified, v, end);
    else if (p = line, take_word(&p, colon, "content-range") && p == colon)
        take_range(a, v, end);
    else if (p = line, take_word(&p, colon, "content-length") && p == colon)
        a->has_length = take_number(&v, end, &a->length) && v == end;
    else if (p = line, take_word(&p, colon, "retry-after") && p == colon)
        take_retry(a, v, end, now);
    else if (p = line, take_word(&p, colon, "x-amz-bucket-region") && p == colon)
        take_text(a->region, sizeof a->region, v, end);
}

void answer_error(struct answer *a, const char *body, size_t n)
{
    static const char mark[] = "<Code>";
    size_t m = sizeof mark - 1, k = 0;
    const char *p = memmem(body, n, mark, m), *end = body + n;
    a->code[0] = '\0';
    if (!p)
        return;
    for (p += m; p < end && k + 1 < sizeof a->code; p++) {
        char c = *p;
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '-' || c == '_'))
            break;
        a->code[k++] = c;
    }
    a->code[k] = '\0';
}

bool answer_strong(const char *etag)
{
    return *etag == '"';
}
