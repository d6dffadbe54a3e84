// SPDX-License-Identifier: Apache-2.0
#include "base/url.h"

#include <string.h>

#include "base/path.h"
#include "unit/tap.h"

static void shows(const char *text, const char *want)
{
    char got[256];
    url_show(text, got, sizeof got);
    ok(!strcmp(got, want), "'%s' is shown as '%s': %s", text, want, got);
}

static void named(const char *path, const char *want)
{
    const char *base = path_base(path);
    size_t n = path_stem(base);
    ok(n == strlen(want) && !memcmp(base, want, n), "the stem of '%s' is %s", path, want);
}

int main(void)
{
    char small[8];
    ok(url_is("s3://b/k") && url_is("https://h/x") && url_is("http://h"), "the three schemes");
    ok(!url_is("gs://b/k") && !url_is("S3://b") && !url_is("a/s3://b") && !url_is("https:/x"),
       "and no others");
    ok(url_path_end("https://h/x.tar?sig=1#y") == 15 && url_path_end("s3://b/a?b") == 10,
       "a key has no query");
    shows("x.tar", "x.tar");
    shows("s3://b/a?b#c@d", "s3://b/a?b#c@d");
    shows("https://h/x.tar?X-Amz-Signature=00", "https://h/x.tar?...");
    shows("https://h?sig=1", "https://h?...");
    shows("https://me:pass@h:1/x@y", "https://h:1/x@y");
    shows("http://a@b@h/x", "http://h/x");
    shows("cat 'https://h/x?sig=1' \"http://u@h/?b\" | c",
          "cat 'https://h/x?...' \"http://h/?...\" | c");
    shows("--shards=https://h/x?s/://@1::http://g/y?t", "--shards=https://h/x?...");
    shows("http", "http");
    shows("http://", "http://");
    url_show("https://h/x", small, sizeof small);
    ok(!strcmp(small, "https:/"), "what does not fit is cut off");
    named("s3://b/f/00000.tar", "00000");
    named("https://h/f/00000.tar?a=b/c.tar", "00000");
    named("https://h/f/00000.tar.gz#z/y", "00000.tar.gz#z/y");
    named("dir/a?b.tar", "a?b");
    named("x.tar?y/00001.tgz", "00001");
    return tap_done();
}
