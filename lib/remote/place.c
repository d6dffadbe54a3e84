// SPDX-License-Identifier: Apache-2.0
#include "remote/place.h"

#include <stdio.h>
#include <string.h>

#include "base/url.h"

enum { BUCKET_MAX = 255 };

static bool unreserved(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == '~';
}

// Appends a byte, or its %XX where it is not `plain`. 0, or -1: no room.
static int put(char *to, size_t *n, size_t room, unsigned char c, bool plain)
{
    if (*n + 4 > room)
        return -1;
    if (plain)
        to[(*n)++] = (char)c;
    else
        *n += (size_t)sprintf(to + *n, "%%%02X", c);
    to[*n] = '\0';
    return 0;
}

// Appends text encoded as S3 does; slashes stay where `slash`.
static int encode(char *to, size_t *n, size_t room, const char *text, bool slash)
{
    for (; *text; text++)
        if (put(to, n, room, (unsigned char)*text,
                unreserved((unsigned char)*text) || (slash && *text == '/')))
            return -1;
    return 0;
}

// Appends n bytes of a URL; only what no URL may hold is encoded.
static int copy(char *to, size_t *n, size_t room, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (put(to, n, room, c, c > ' ' && c < 0x7f && !strchr("\"<>\\^`{|}", c)))
            return -1;
    }
    return 0;
}

// scheme://host[:port] of a URL into p->origin. Returns what follows, NULL with e set.
static const char *take_origin(struct place *p, const char *url, struct err *e)
{
    size_t scheme = url_scheme(url), host = strcspn(url + scheme, "/?#");
    if (strncmp(url, "http", 4) || !scheme || !host || scheme + host >= sizeof p->origin)
        return err_set(e, "no host in it"), NULL;
    if (memchr(url + scheme, '@', host))
        return err_set(e, "a user or password in a URL would be seen by others on this machine; "
                          "use a pre-signed URL"),
               NULL;
    const char *usual = scheme == 8 ? ":443" : ":80";
    size_t n = host, k = strlen(usual);
    if (n > k && !memcmp(url + scheme + n - k, usual, k))
        n -= k;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)url[scheme + i] <= ' ' || (unsigned char)url[scheme + i] >= 0x7f)
            return err_set(e, "a host name with a blank or a byte that is not ASCII"), NULL;
    snprintf(p->origin, sizeof p->origin, "%.*s", (int)(scheme + n), url);
    return url + scheme + host;
}

const char *place_host(const struct place *p)
{
    return p->origin + url_scheme(p->origin);
}

const char *place_key(const char *name)
{
    const char *slash = strchr(name + url_scheme(name), '/');
    return slash ? slash + 1 : "";
}

static int too_long(struct err *e)
{
    return err_set(e, "the name is too long");
}

// The bucket of an s3:// name: 0, or -1 for a name that could not be a host or a folder.
static int take_bucket(char bucket[BUCKET_MAX + 1], const char *name, struct err *e)
{
    const char *b = name + url_scheme(name);
    size_t n = strcspn(b, "/");
    if (!n || n > BUCKET_MAX || *b == '.')
        return err_set(e, "no bucket in it: a name is s3://BUCKET/KEY");
    for (size_t i = 0; i < n; i++)
        if (!unreserved((unsigned char)b[i]) || b[i] == '~')
            return err_set(e, "'%.*s' is no name of a bucket", (int)n, b);
    snprintf(bucket, BUCKET_MAX + 1, "%.*s", (int)n, b);
    return 0;
}

// Origin and the path up to the key. Amazon's own wants the bucket in the host's name, where its
// certificate can hold it (no dots); other stores take it in the path.
static int take_store(struct place *p, const char *name, const struct aws *a, size_t *n,
                      struct err *e)
{
    char bucket[BUCKET_MAX + 1];
    *p = (struct place){.store = true};
    if (take_bucket(bucket, name, e))
        return -1;
    for (const char *c = a->region; *c; c++)
        if (!unreserved((unsigned char)*c))
            return err_set(e, "'%s' is no name of a region", a->region);
    *n = 0;
    if (*a->endpoint) {
        const char *rest = take_origin(p, a->endpoint, e);
        if (!rest)
            return err_wrap(e, "AWS_ENDPOINT_URL");
        if (copy(p->path, n, sizeof p->path, rest, strcspn(rest, "?#")))
            return too_long(e);
    } else {
        bool inside = !strchr(bucket, '.');
        const char *end = strncmp(a->region, "cn-", 3) ? "amazonaws.com" : "amazonaws.com.cn";
        snprintf(p->origin, sizeof p->origin, "https://%s%ss3.%s.%s", inside ? bucket : "",
                 inside ? "." : "", a->region, end);
        if (inside)
            return put(p->path, n, sizeof p->path, '/', true);
    }
    if (put(p->path, n, sizeof p->path, '/', true) ||
        encode(p->path, n, sizeof p->path, bucket, false) ||
        put(p->path, n, sizeof p->path, '/', true))
        return too_long(e);
    return 0;
}

static int place_url(struct place *p, const char *name, struct err *e)
{
    size_t n = 0;
    *p = (struct place){.store = false};
    const char *rest = take_origin(p, name, e);
    if (!rest)
        return -1;
    size_t path = strcspn(rest, "?#");
    if (path ? copy(p->path, &n, sizeof p->path, rest, path)
             : put(p->path, &n, sizeof p->path, '/', true))
        return too_long(e);
    rest += path;
    n = 0;
    if (*rest == '?' && copy(p->query, &n, sizeof p->query, rest + 1, strcspn(rest + 1, "#")))
        return too_long(e);
    return 0;
}

int place_of(struct place *p, const char *name, const struct aws *a, struct err *e)
{
    size_t n;
    if (strncmp(name, "s3://", 5))
        return place_url(p, name, e);
    if (take_store(p, name, a, &n, e))
        return -1;
    if (!*place_key(name))
        return err_set(e, "no key in it: a name is s3://BUCKET/KEY");
    return encode(p->path, &n, sizeof p->path, place_key(name), true) ? too_long(e) : 0;
}

int place_list(struct place *p, const char *name, const char *after, const struct aws *a,
               struct err *e)
{
    size_t n;
    if (take_store(p, name, a, &n, e))
        return -1;
    // In the order of their names, which the signature wants too.
    static const char words[] = "delimiter=%2F&encoding-type=url&list-type=2&prefix=";
    char *q = p->query;
    n = 0;
    if (*after) {
        n = (size_t)sprintf(q, "continuation-token=");
        if (encode(q, &n, sizeof p->query - sizeof words - 8, after, false))
            return err_set(e, "the store's continuation token is too long");
        q[n++] = '&';
    }
    n += (size_t)sprintf(q + n, "%s", words);
    return encode(q, &n, sizeof p->query, place_key(name), false) ? too_long(e) : 0;
}
