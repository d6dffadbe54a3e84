// SPDX-License-Identifier: Apache-2.0
#include "base/url.h"

#include <string.h>

static bool begins(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

size_t url_scheme(const char *name)
{
    return begins(name, "s3://")      ? 5
           : begins(name, "http://")  ? 7
           : begins(name, "https://") ? 8
                                      : 0;
}

bool url_is(const char *name)
{
    return url_scheme(name) > 0;
}

size_t url_path_end(const char *name)
{
    return begins(name, "http") && url_is(name) ? strcspn(name, "?#") : strlen(name);
}

struct url_text {
    char *to;
    size_t n, room;
};

static void put(struct url_text *t, const char *p, size_t n)
{
    for (; n && t->n + 1 < t->room; n--)
        t->to[t->n++] = *p++;
}

// One URL from its scheme on; returns what follows it.
static const char *show_one(struct url_text *t, const char *p)
{
    size_t scheme = url_scheme(p);
    put(t, p, scheme);
    p += scheme;
    size_t host = strcspn(p, "/?# \t\n\"'");
    for (size_t i = host; i-- > 0;)
        if (p[i] == '@') {
            p += i + 1;
            host -= i + 1;
            break;
        }
    put(t, p, host);
    p += host;
    size_t path = strcspn(p, "?# \t\n\"'");
    put(t, p, path);
    p += path;
    if (*p != '?' && *p != '#')
        return p;
    put(t, "?...", 4);
    return p + strcspn(p, " \t\n\"'");
}

void url_show(const char *text, char *to, size_t room)
{
    struct url_text t = {to, 0, room};
    while (*text) {
        if (begins(text, "http") && url_is(text)) {
            text = show_one(&t, text);
        } else {
            put(&t, text, 1);
            text++;
        }
    }
    if (room)
        to[t.n] = '\0';
}
