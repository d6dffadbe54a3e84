// SPDX-License-Identifier: Apache-2.0
#ifdef CLIPCID_REMOTE
#include "remote/sigv4.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { SHA = 32, HEX = 2 * SHA + 1, HEADERS_MAX = 16, PARAMETERS_MAX = 64 };

// A text that grows in a buffer of fixed size; `full` once something did not fit.
struct signed_text {
    char *p;
    size_t n, room;
    bool full;
};

static void put_n(struct signed_text *t, const char *s, size_t n)
{
    if (n >= t->room - t->n) {
        t->full = true;
        return;
    }
    memcpy(t->p + t->n, s, n);
    t->n += n;
    t->p[t->n] = '\0';
}

static void put(struct signed_text *t, const char *s)
{
    put_n(t, s, strlen(s));
}

static void to_hex(const uint8_t digest[SHA], char hex[HEX])
{
    for (int i = 0; i < SHA; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

static bool sha256_hex(const void *data, size_t n, char hex[HEX])
{
    uint8_t digest[SHA];
    if (!EVP_Digest(data, n, digest, NULL, EVP_sha256(), NULL))
        return false;
    to_hex(digest, hex);
    return true;
}

// to = HMAC-SHA256(key, text)
static bool hmac(const void *key, size_t n_key, const char *text, uint8_t to[SHA])
{
    unsigned n = SHA;
    return HMAC(EVP_sha256(), key, (int)n_key, (const uint8_t *)text, strlen(text), to, &n) != NULL;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct sigv4_header *)a)->name, ((const struct sigv4_header *)b)->name);
}

// The parameters in order; one without "=" gets it. Sorting "name=value" as a whole would put "a-b"
// before "a=", since "-" is less than "=": the "=" is the least character while sorting.
static int put_query(struct signed_text *t, const char *query, struct err *e)
{
    char *copy = mem_strdup(query, e), *save = NULL, *one[PARAMETERS_MAX];
    size_t n = 0;
    if (!copy)
        return -1;
    for (char *p = strtok_r(copy, "&", &save); p && n <= PARAMETERS_MAX;
         p = strtok_r(NULL, "&", &save)) {
        if (n == PARAMETERS_MAX)
            t->full = true;
        else
            one[n++] = p;
        char *equals = strchr(p, '=');
        if (equals)
            *equals = '\1';
    }
    qsort(one, n, sizeof *one, by_text);
    for (size_t i = 0; i < n; i++) {
        size_t name = strcspn(one[i], "\1");
        put(t, i ? "&" : "");
        put_n(t, one[i], name);
        put(t, "=");
        put(t, one[i][name] ? one[i] + name + 1 : "");
    }
    free(copy);
    return 0;
}

// A value without blanks at its ends, runs of blanks in it as one.
static void put_value(struct signed_text *t, const char *v)
{
    bool any = false;
    while (*v) {
        size_t blanks = strspn(v, " \t"), n = strcspn(v + blanks, " \t");
        if (n && any && blanks)
            put(t, " ");
        put_n(t, v + blanks, n);
        any |= n > 0;
        v += blanks + n;
    }
}

static void put_headers(struct signed_text *t, const struct sigv4_header *h, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        put(t, h[i].name);
        put(t, ":");
        put_value(t, h[i].value);
        put(t, "\n");
    }
}

static void put_names(struct signed_text *t, const struct sigv4_header *h, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        put(t, i ? ";" : "");
        put(t, h[i].name);
    }
}

// The digest of the canonical request. `h`: sorted.
static int canonical(const struct sigv4_request *r, const struct sigv4_header *h, char hex[HEX],
                     struct err *e)
{
    size_t room = 4096 + 2 * (strlen(r->path) + strlen(r->query)) + 256 * r->n_headers;
    for (size_t i = 0; i < r->n_headers; i++)
        room += 2 * strlen(h[i].name) + strlen(h[i].value);
    struct signed_text t = {.p = mem_alloc(room, 1, e), .room = room};
    if (!t.p)
        return -1;
    put(&t, r->method);
    put(&t, "\n");
    put(&t, r->path);
    put(&t, "\n");
    int rc = put_query(&t, r->query, e);
    put(&t, "\n");
    put_headers(&t, h, r->n_headers);
    put(&t, "\n");
    put_names(&t, h, r->n_headers);
    put(&t, "\n");
    put(&t, r->payload);
    if (!rc && (t.full || !sha256_hex(t.p, t.n, hex)))
        rc = err_set(e, "cannot sign the request");
    free(t.p);
    return rc;
}

// The signature of a text on the day that `date` begins with.
static bool sign(const struct sigv4_key *k, const char *date, const char *text, char hex[HEX])
{
    char first[512], day[9];
    uint8_t a[SHA], b[SHA];
    snprintf(day, sizeof day, "%.8s", date);
    int n = snprintf(first, sizeof first, "AWS4%s", k->secret);
    bool good = n > 0 && (size_t)n < sizeof first && hmac(first, (size_t)n, day, a) &&
                hmac(a, SHA, k->region, b) && hmac(b, SHA, k->service, a) &&
                hmac(a, SHA, "aws4_request", b) && hmac(b, SHA, text, a);
    explicit_bzero(first, sizeof first);
    if (good)
        to_hex(a, hex);
    return good;
}

int sigv4_authorization(const struct sigv4_key *k, const struct sigv4_request *r, char *to,
                        size_t room, struct err *e)
{
    struct sigv4_header h[HEADERS_MAX];
    char request[HEX], signature[HEX], scope[256], text[512];
    if (r->n_headers > HEADERS_MAX)
        return err_set(e, "cannot sign more than %d headers", HEADERS_MAX);
    memcpy(h, r->headers, r->n_headers * sizeof *h);
    qsort(h, r->n_headers, sizeof *h, by_name);
    if (canonical(r, h, request, e))
        return -1;
    int n =
        snprintf(scope, sizeof scope, "%.8s/%s/%s/aws4_request", r->date, k->region, k->service);
    int m = snprintf(text, sizeof text, "AWS4-HMAC-SHA256\n%s\n%s\n%s", r->date, scope, request);
    if (n < 0 || (size_t)n >= sizeof scope || m < 0 || (size_t)m >= sizeof text ||
        !sign(k, r->date, text, signature))
        return err_set(e, "cannot sign the request");
    struct signed_text t = {.p = to, .room = room};
    put(&t, "AWS4-HMAC-SHA256 Credential=");
    put(&t, k->id);
    put(&t, "/");
    put(&t, scope);
    put(&t, ", SignedHeaders=");
    put_names(&t, h, r->n_headers);
    put(&t, ", Signature=");
    put(&t, signature);
    return t.full ? err_set(e, "cannot sign the request: the keys are too long") : 0;
}
#endif
