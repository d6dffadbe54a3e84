// SPDX-License-Identifier: Apache-2.0
#ifdef CLIPCID_REMOTE
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/url.h"
#include "remote/run.h"
#include "remote/sigv4.h"

enum {
    BODY_MAX = 2048,   // of an error
    HEADER_MAX = 8192, // a session token may be long
    FIRST_WAIT = 100,
    WAIT_MAX = 10000,   // ms
    ASKED_MAX = 300000, // ms that Retry-After is followed for
    UNREACHED = 2,      // retries while no server has answered at all
    REDIRECTS = 5
};

enum end { DONE, AGAIN, FAILED };

// One try.
struct
try {
    struct http_request *q;
    struct answer *a;
    struct err *e;
    bool refused; // by q->body, e is set
    char body[BODY_MAX];
    size_t n_body;
};

static size_t on_header(char *line, size_t one, size_t n, void *ctx)
{
    (void)one;
    answer_line(((struct try *)ctx)->a, line, n, (int64_t)time(NULL));
    return n;
}

static bool stopped(const struct http_request *q)
{
    return q->stop && atomic_load(q->stop);
}

static size_t on_body(char *data, size_t one, size_t n, void *ctx)
{
    struct try *t = ctx;
    (void)one;
    if (stopped(t->q))
        return 0;
    if (t->a->status == 200 || t->a->status == 206) {
        t->refused = t->q->body && t->q->body(t->q->ctx, t->a, data, n, t->e);
        return t->refused ? 0 : n;
    }
    size_t room = BODY_MAX - t->n_body, k = n < room ? n : room;
    memcpy(t->body + t->n_body, data, k);
    t->n_body += k;
    return n;
}

static int on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a, (void)b, (void)c, (void)d;
    return stopped(((struct try *)ctx)->q);
}

// Appends "name: value". False when memory ran out.
static bool add(struct curl_slist **l, const char *name, const char *value)
{
    char line[HEADER_MAX];
    int n = snprintf(line, sizeof line, "%s: %s", name, value);
    struct curl_slist *more = n > 0 && (size_t)n < sizeof line ? curl_slist_append(*l, line) : NULL;
    explicit_bzero(line, sizeof line);
    if (more)
        *l = more;
    return more != NULL;
}

// The headers that sign a request.
static int sign(const struct remote *r, const struct http_request *q, struct curl_slist **l,
                struct err *e)
{
    char date[32], value[2048];
    time_t now = time(NULL);
    struct tm t;
    strftime(date, sizeof date, "%Y%m%dT%H%M%SZ", gmtime_r(&now, &t));
    const struct sigv4_header headers[] = {{"host", place_host(q->place)},
                                           {"x-amz-content-sha256", SIGV4_EMPTY},
                                           {"x-amz-date", date},
                                           {"x-amz-security-token", r->aws.token}};
    const struct sigv4_key key = {r->aws.id, r->aws.secret, r->aws.region, "s3"};
    const struct sigv4_request s = {.method = q->head ? "HEAD" : "GET",
                                    .path = q->place->path,
                                    .query = q->place->query,
                                    .date = date,
                                    .headers = headers,
                                    .n_headers = *r->aws.token ? 4 : 3,
                                    .payload = SIGV4_EMPTY};
    if (sigv4_authorization(&key, &s, value, sizeof value, e))
        return -1;
    for (size_t i = 1; i < s.n_headers; i++)
        if (!add(l, headers[i].name, headers[i].value))
            return err_machine(e, "out of memory");
    return add(l, "Authorization", value) ? 0 : err_machine(e, "out of memory");
}

static int headers(const struct remote *r, const struct http_request *q, struct curl_slist **l,
                   struct err *e)
{
    if (q->if_match && *q->if_match && !add(l, "If-Match", q->if_match))
        return err_machine(e, "out of memory");
    return q->place->store && !aws_anonymous(&r->aws) ? sign(r, q, l, e) : 0;
}

static void set_protocols(CURL *h, const struct place *p)
{
    bool tls = !strncmp(p->origin, "https", 5);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h, CURLOPT_REDIR_PROTOCOLS_STR, tls ? "https" : "http,https");
#else
    curl_easy_setopt(h, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
    curl_easy_setopt(h, CURLOPT_REDIR_PROTOCOLS,
                     (long)(tls ? CURLPROTO_HTTPS : CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
}

static void set_up(CURL *h, const struct remote *r, struct try *t, const char *url,
                   const struct curl_slist *l)
{
    const struct http_request *q = t->q;
    curl_easy_reset(h); // keeps the connection
    set_protocols(h, q->place);
    curl_easy_setopt(h, CURLOPT_URL, url);
    curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(h, CURLOPT_USERAGENT, "clip-cid/" CLIPCID_VERSION);
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, l);
    curl_easy_setopt(h, CURLOPT_NOBODY, q->head ? 1L : 0L);
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_BUFFERSIZE, 512L * 1024);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, (long)r->o.timeout);
    curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, (long)r->o.timeout);
    curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, q->place->store ? 0L : 1L);
    curl_easy_setopt(h, CURLOPT_MAXREDIRS, (long)REDIRECTS);
    curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(h, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(h, CURLOPT_XFERINFODATA, t);
    curl_easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
    if (*r->aws.ca)
        curl_easy_setopt(h, CURLOPT_CAINFO, r->aws.ca);
    if (q->range) {
        char range[64];
        snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)q->from,
                 (unsigned long long)q->to);
        curl_easy_setopt(h, CURLOPT_RANGE, range);
    }
}

// What to do about a store's code, for a user.
static const char *advice(const struct remote *r, const struct http_request *q,
                          const struct answer *a)
{
    static const char *const known[][2] = {
        {"SignatureDoesNotMatch", ": the secret access key is wrong"},
        {"InvalidAccessKeyId", ": the store does not know the access key id"},
        {"ExpiredToken", ": the session token has expired"},
        {"InvalidToken", ": the session token is wrong"},
        {"RequestTimeTooSkewed", ": the clock of this machine is wrong"},
        {"NoSuchBucket", ": there is no such bucket"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(a->code, known[i][0]))
            return known[i][1];
    if ((a->status == 401 || a->status == 403) && q->place->store && aws_anonymous(&r->aws))
        return ": the request was anonymous, as no keys were found (AWS_ACCESS_KEY_ID, ~/.aws)";
    if ((a->status == 401 || a->status == 403) && *q->place->query)
        return ": the signature in the URL is wrong or has expired";
    return a->status == 403 ? ": access denied" : "";
}

static enum end judge_status(const struct remote *r, const struct try *t)
{
    struct answer *a = t->a;
    answer_error(a, t->body, t->n_body);
    const char *space = *a->code ? " " : "";
    bool later = a->status == 408 || a->status == 429 || a->status == 500 ||
                 (a->status >= 502 && a->status <= 504) || !strcmp(a->code, "RequestTimeout");
    if (a->status == 200 || a->status == 206 || a->status == 416 ||
        (a->status == 404 && strcmp(a->code, "NoSuchBucket")))
        return DONE;
    if (a->status == 412)
        err_machine(t->e, "it was changed while it was read");
    else if (*a->region && strcmp(a->region, r->aws.region) && t->q->place->store && !later)
        err_machine(t->e, "the bucket is in the region %s, not %s: set AWS_REGION", a->region,
                    r->aws.region);
    else
        err_machine(t->e, "the server answers %d%s%s%s", a->status, space, a->code,
                    advice(r, t->q, a));
    return later ? AGAIN : FAILED;
}

// After an error of the library.
static enum end judge_error(const struct remote *r, const struct try *t, CURLcode rc,
                            const char *said)
{
    if (t->refused)
        return FAILED;
    if (stopped(t->q)) {
        err_machine(t->e, "stopped");
        return FAILED;
    }
    if (rc == CURLE_OPERATION_TIMEDOUT)
        err_machine(t->e, "no byte came for %llu s", (unsigned long long)r->o.timeout);
    else
        err_machine(t->e, "%s", *said ? said : curl_easy_strerror(rc));
    switch (rc) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_TOO_MANY_REDIRECTS:
    case CURLE_OUT_OF_MEMORY:
        return FAILED;
    default:
        return AGAIN;
    }
}

static CURL *take_connection(struct remote *r)
{
    pthread_mutex_lock(&r->lock);
    CURL *h = r->n_idle ? r->idle[--r->n_idle] : NULL;
    pthread_mutex_unlock(&r->lock);
    return h ? h : curl_easy_init();
}

static void give_connection(struct remote *r, CURL *h)
{
    struct err unused;
    pthread_mutex_lock(&r->lock);
    bool kept = !mem_grow(&r->idle, &r->cap_idle, r->n_idle + 1, sizeof *r->idle, &unused);
    if (kept)
        r->idle[r->n_idle++] = h;
    pthread_mutex_unlock(&r->lock);
    if (!kept)
        curl_easy_cleanup(h);
}

void http_close(void *connection)
{
    curl_easy_cleanup(connection);
}

static enum end send_once(struct remote *r, struct http_request *q, struct answer *a, struct err *e)
{
    struct try t = {.q = q, .a = a, .e = e};
    struct curl_slist *l = NULL;
    char url[PLACE_ORIGIN + PLACE_PATH + PLACE_QUERY + 2], said[CURL_ERROR_SIZE] = "";
    enum end end = FAILED;
    *a = (struct answer){0};
    snprintf(url, sizeof url, "%s%s%s%s", q->place->origin, q->place->path,
             *q->place->query ? "?" : "", q->place->query);
    CURL *h = headers(r, q, &l, e) ? NULL : take_connection(r);
    if (h) {
        set_up(h, r, &t, url, l);
        curl_easy_setopt(h, CURLOPT_ERRORBUFFER, said);
        CURLcode rc = curl_easy_perform(h);
        if (a->status)
            atomic_store(&r->reached, true);
        end = rc == CURLE_OK ? judge_status(r, &t) : judge_error(r, &t, rc, said);
        curl_easy_setopt(h, CURLOPT_ERRORBUFFER, NULL);
        curl_easy_setopt(h, CURLOPT_HTTPHEADER, NULL);
        give_connection(r, h);
    }
    curl_slist_free_all(l);
    return end;
}

// Waits before try number `tries`, from 1: 0.1 s, doubling, up to 10 s, half of it at random, so
// that many readers do not come back at once.
static void wait_before(const struct http_request *q, uint64_t tries, unsigned asked)
{
    struct timespec now, part = {.tv_nsec = 20000000};
    struct rng rng;
    unsigned ms = tries > 7 ? WAIT_MAX : FIRST_WAIT << (tries - 1);
    ms = ms < WAIT_MAX ? ms : WAIT_MAX;
    clock_gettime(CLOCK_MONOTONIC, &now);
    rng_init(&rng, (uint64_t)now.tv_nsec, (uint64_t)(uintptr_t)q);
    ms = ms / 2 + (unsigned)rng_below(&rng, ms / 2 + 1);
    if (asked && asked * 1000ull > ms)
        ms = asked * 1000ull < ASKED_MAX ? asked * 1000 : ASKED_MAX;
    for (unsigned done = 0; done < ms && !stopped(q); done += 20)
        nanosleep(&part, NULL);
}

int http_send(struct remote *r, struct http_request *q, struct answer *a, struct err *e)
{
    for (uint64_t tries = 0;;) {
        enum end end = send_once(r, q, a, e);
        if (end != AGAIN)
            return end == DONE ? 0 : -1;
        if (q->again && q->again(q->ctx, q))
            tries = 0;
        uint64_t most = r->o.retries;
        if (!atomic_load(&r->reached) && most > UNREACHED)
            most = UNREACHED;
        if (tries++ >= most) {
            char why[ERR_TEXT_MAX];
            snprintf(why, sizeof why, "%s", e->text);
            return err_machine(e, "%s (%llu tries)", why, (unsigned long long)tries);
        }
        wait_before(q, tries, a->retry_after);
        if (stopped(q))
            return err_machine(e, "stopped");
    }
}
#endif
