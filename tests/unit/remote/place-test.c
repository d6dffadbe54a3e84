// SPDX-License-Identifier: Apache-2.0
#include "remote/place.h"

#include <string.h>

#include "unit/tap.h"

static struct aws aws(char *region, char *endpoint)
{
    static char none[] = "";
    return (struct aws){.id = none,
                        .secret = none,
                        .token = none,
                        .region = region,
                        .endpoint = endpoint,
                        .ca = none};
}

static void leads(const char *name, char *endpoint, const char *want)
{
    static struct place p;
    char region[] = "eu-1", got[4096];
    struct aws a = aws(region, endpoint);
    struct err e = {.text = ""};
    int rc = place_of(&p, name, &a, &e);
    snprintf(got, sizeof got, "%s%s%s%s", p.origin, p.path, *p.query ? "?" : "", p.query);
    ok(!strcmp(rc ? e.text : got, want), "%s: %s", name, rc ? e.text : got);
}

static void test_objects(void)
{
    char none[] = "", own[] = "http://127.0.0.1:9000", base[] = "https://h:443/s3";
    leads("s3://buck/a/b.tar", none, "https://buck.s3.eu-1.amazonaws.com/a/b.tar");
    leads("s3://my.buck/b.tar", none, "https://s3.eu-1.amazonaws.com/my.buck/b.tar");
    leads("s3://buck/b.tar", own, "http://127.0.0.1:9000/buck/b.tar");
    leads("s3://buck/b.tar", base, "https://h/s3/buck/b.tar");
    leads("s3://buck/a b+c:d%41?#\xc3\xbc~'(/../x//y.tar", own,
          "http://127.0.0.1:9000/buck/a%20b%2Bc%3Ad%2541%3F%23%C3%BC~%27%28/../x//y.tar");
    leads("s3://buck", none, "no key in it: a name is s3://BUCKET/KEY");
    leads("s3://buck/", none, "no key in it: a name is s3://BUCKET/KEY");
    leads("s3:///x", none, "no bucket in it: a name is s3://BUCKET/KEY");
    leads("s3://../x", none, "no bucket in it: a name is s3://BUCKET/KEY");
    leads("s3://a@b/x", none, "'a@b' is no name of a bucket");
    char bad[] = "ftp://h";
    leads("s3://buck/x", bad, "AWS_ENDPOINT_URL: no host in it");
    static char deep[8000];
    struct place *p = &(struct place){0};
    char region[] = "r";
    struct aws a = aws(region, none);
    struct err e;
    snprintf(deep, sizeof deep, "s3://b/%07000d", 0);
    ok(!place_of(p, deep, &a, &e), "a long key");
    memset(deep + 7, ' ', 6900);
    ok(place_of(p, deep, &a, &e) == -1 && !strcmp(e.text, "the name is too long"), "one too long");
}

static void test_urls(void)
{
    char none[] = "";
    leads("https://h", none, "https://h/");
    leads("https://h/x?a=b/c&d#e", none, "https://h/x?a=b/c&d");
    leads("https://h:443/x%20y z\"\xc3\xbc", none, "https://h/x%20y%20z%22%C3%BC");
    leads("http://h:80/x", none, "http://h/x");
    leads("http://h:443/x", none, "http://h:443/x");
    leads("http://[::1]:9/x", none, "http://[::1]:9/x");
    leads("https:///x", none, "no host in it");
    leads("https://h\xc3\xbc/x", none, "a host name with a blank or a byte that is not ASCII");
    char region[] = "r";
    static struct place p;
    struct aws a = aws(region, none);
    struct err e;
    ok(place_of(&p, "https://u:pw@h/x", &a, &e) == -1 && !strstr(e.text, "pw"),
       "a password is refused and not shown: %s", e.text);
}

static void test_listing(void)
{
    char region[] = "eu-1", none[] = "";
    static struct place p;
    struct aws a = aws(region, none);
    struct err e;
    ok(!place_list(&p, "s3://b/a b/", "", &a, &e) && !strcmp(p.path, "/") &&
           !strcmp(p.query, "delimiter=%2F&encoding-type=url&list-type=2&prefix=a%20b%2F"),
       "a listing: %s", p.query);
    ok(!place_list(&p, "s3://b", "x/+=", &a, &e) &&
           !strcmp(p.query, "continuation-token=x%2F%2B%3D&delimiter=%2F&encoding-type=url&"
                            "list-type=2&prefix="),
       "its next page: %s", p.query);
}

int main(void)
{
    test_objects();
    test_urls();
    test_listing();
    return tap_done();
}
