// SPDX-License-Identifier: Apache-2.0
#include "shards/shard-list.h"

#include <string.h>

#include "unit/tap.h"

// The names of spec joined by spaces, or the error.
static const char *names(const char *spec)
{
    static char text[4096];
    struct shard_list l = {0};
    struct err e;
    text[0] = 0;
    if (shard_list_add(&l, spec, &e)) {
        snprintf(text, sizeof text, "error: %s", e.text);
    } else {
        for (size_t i = 0; i < l.n; i++) {
            strncat(text, i ? " " : "", sizeof text - strlen(text) - 1);
            strncat(text, l.names[i], sizeof text - strlen(text) - 1);
        }
    }
    shard_list_release(&l);
    return text;
}

#define gives(spec, want)                                                                          \
    do {                                                                                           \
        const char *got = names(spec);                                                             \
        ok(strcmp(got, want) == 0, "%s", spec);                                                    \
        if (strcmp(got, want))                                                                     \
            printf("# got: %s\n", got);                                                            \
    } while (0)
#define refuses(spec, why) ok(strstr(names(spec), why) == names(spec), "refused: %s", spec)

static void test_expand(void)
{
    gives("a.tar", "a.tar");
    gives("-", "-");
    gives("{00..03}.tar", "00.tar 01.tar 02.tar 03.tar");
    gives("{8..11}", "8 9 10 11");
    gives("{08..11}", "08 09 10 11");
    gives("{0..010..5}", "000 005 010");
    gives("{0..10..3}", "0 3 6 9");
    gives("{3..1}", "3 2 1");
    gives("{5..5}", "5");
    gives("{a,b,}x", "ax bx x");
    gives("{a,b}{0..1}", "a0 a1 b0 b1");
    gives("{a,b{1..2},{c,d}e}.tar", "a.tar b1.tar b2.tar ce.tar de.tar");
    gives("x/{0..1}.tar::y/{2..3}.tar", "x/0.tar x/1.tar y/2.tar y/3.tar");
    gives("a:b.tar::c", "a:b.tar c");
    gives("a\\:\\:b", "a::b");
    gives("a\\{0..1\\}", "a{0..1}");
    gives("{a\\,b,c}", "a,b c");
    gives("{a::b,c}", "a::b c");
    gives("{999999999999999998..999999999999999999}", "999999999999999998 999999999999999999");
}

static void test_errors(void)
{
    refuses("", "error: empty shard name");
    refuses("a::", "error: empty shard name");
    refuses("{0..3", "error: brace not closed");
    refuses("0..3}", "error: brace not opened");
    refuses("{a}", "error: neither");
    refuses("{0..3..0}", "error: neither");
    refuses("{0..99999999999999999999999}", "error: neither");
    refuses("{0..999999999999}", "error: more than 1000000 shards");
    refuses("{0..9999}{0..9999}", "error: more than 1000000 shards");
    refuses("pipe:curl x", "error: pipe:curl x: commands are not run");
    refuses("gs://b/{0..1}.tar", "error: gs://b/0.tar: only s3://, https:// and http:// are");
    gives("s3://b/{0..1}.tar::https://h/x?a=b", "s3://b/0.tar s3://b/1.tar https://h/x?a=b");
    refuses("-::-", "error: '-' is given twice");
    char deep[400];
    memset(deep, '{', sizeof deep - 1);
    deep[sizeof deep - 1] = 0;
    refuses(deep, "error: ");
    char many[1200] = "";
    for (int i = 0; i < 200; i++)
        strcat(many, "{,}");
    refuses(many, "error: ");
    char wide[5000];
    memset(wide, 'a', sizeof wide - 1);
    wide[sizeof wide - 1] = 0;
    refuses(wide, "error: shard name over");
}

int main(void)
{
    test_expand();
    test_errors();
    struct shard_list l = {0};
    struct err e;
    ok(shard_list_add(&l, "{00000..41454}.tar", &e) == 0 && l.n == 41455, "41,455 shards");
    ok(strcmp(l.names[41454], "41454.tar") == 0, "the last");
    shard_list_release(&l);
    return tap_done();
}
