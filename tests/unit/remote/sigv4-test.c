// SPDX-License-Identifier: Apache-2.0
// Signatures that AWS publishes: the Signature Version 4 test suite (aws-sig-v4-test-suite) and the
// examples of "Authenticating Requests: Using the Authorization Header", Amazon S3 API Reference.
#include "remote/sigv4.h"

#include <string.h>

#include "unit/tap.h"

#ifdef CLIPCID_REMOTE
static const struct sigv4_key suite = {"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
                                       "us-east-1", "service"};
static const struct sigv4_key s3 = {"AKIAIOSFODNN7EXAMPLE",
                                    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1", "s3"};

static void signs(const char *what, const struct sigv4_key *k, const struct sigv4_request *r,
                  const char *names, const char *signature)
{
    char got[1024], want[1024];
    struct err e = {.text = ""};
    snprintf(want, sizeof want,
             "AWS4-HMAC-SHA256 Credential=%s/%.8s/us-east-1/%s/aws4_request, SignedHeaders=%s, "
             "Signature=%s",
             k->id, r->date, k->service, names, signature);
    int rc = sigv4_authorization(k, r, got, sizeof got, &e);
    ok(!rc && !strcmp(got, want), "%s: %s", what, rc ? e.text : got);
}

static void test_suite(void)
{
    const char *date = "20150830T123600Z";
    const struct sigv4_header plain[] = {{"host", "example.amazonaws.com"}, {"x-amz-date", date}};
    const struct sigv4_header more[] = {{"x-amz-date", date},
                                        {"my-header2", " \"a   b   c\""},
                                        {"my-header1", " value1"},
                                        {"host", "example.amazonaws.com"}};
    struct sigv4_request r = {.method = "GET",
                              .path = "/",
                              .query = "",
                              .date = date,
                              .headers = plain,
                              .n_headers = 2,
                              .payload = SIGV4_EMPTY};
    signs("get-vanilla", &suite, &r, "host;x-amz-date",
          "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    r.query = "Param2=value2&Param1=value1";
    signs("get-vanilla-query-order-key-case", &suite, &r, "host;x-amz-date",
          "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500");
    r.query = "";
    r.path = "/%E1%88%B4";
    signs("get-utf8", &suite, &r, "host;x-amz-date",
          "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85");
    r.path = "/";
    r.headers = more;
    r.n_headers = 4;
    signs("get-header-value-trim", &suite, &r, "host;my-header1;my-header2;x-amz-date",
          "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736");
    r.method = "POST";
    r.headers = plain;
    r.n_headers = 2;
    signs("post-vanilla", &suite, &r, "host;x-amz-date",
          "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
}

static void test_s3(void)
{
    const char *date = "20130524T000000Z", *host = "examplebucket.s3.amazonaws.com";
    const struct sigv4_header h[] = {{"host", host},
                                     {"x-amz-content-sha256", SIGV4_EMPTY},
                                     {"x-amz-date", date},
                                     {"range", "bytes=0-9"}};
    struct sigv4_request r = {.method = "GET",
                              .path = "/test.txt",
                              .query = "",
                              .date = date,
                              .headers = h,
                              .n_headers = 4,
                              .payload = SIGV4_EMPTY};
    signs("an object, by range", &s3, &r, "host;range;x-amz-content-sha256;x-amz-date",
          "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    r.n_headers = 3;
    r.path = "/";
    r.query = "lifecycle";
    signs("a parameter without a value", &s3, &r, "host;x-amz-content-sha256;x-amz-date",
          "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    r.query = "prefix=J&max-keys=2";
    signs("a listing", &s3, &r, "host;x-amz-content-sha256;x-amz-date",
          "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void test_limits(void)
{
    const struct sigv4_header h[] = {{"host", "h"}, {"x-amz-date", "20130524T000000Z"}};
    struct sigv4_request r = {.method = "GET",
                              .path = "/",
                              .query = "",
                              .date = "20130524T000000Z",
                              .headers = h,
                              .n_headers = 2,
                              .payload = SIGV4_EMPTY};
    char small[100], long_secret[600];
    struct err e;
    ok(sigv4_authorization(&s3, &r, small, sizeof small, &e) == -1, "no room: %s", e.text);
    memset(long_secret, 'x', sizeof long_secret - 1);
    long_secret[sizeof long_secret - 1] = '\0';
    const struct sigv4_key k = {"id", long_secret, "r", "s3"};
    char to[1024];
    ok(sigv4_authorization(&k, &r, to, sizeof to, &e) == -1 && !strstr(e.text, "xxx"),
       "a secret that is too long is not shown: %s", e.text);
    r.n_headers = 17;
    ok(sigv4_authorization(&s3, &r, to, sizeof to, &e) == -1, "too many headers: %s", e.text);
}

int main(void)
{
    test_suite();
    test_s3();
    test_limits();
    return tap_done();
}
#else
int main(void)
{
    printf("1..0 # skip this build has no libcurl\n");
    return 0;
}
#endif
