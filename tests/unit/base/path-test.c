// SPDX-License-Identifier: Apache-2.0
#include "base/path.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "unit/tap.h"

static bool stem_is(const char *name, const char *want)
{
    size_t n = path_stem(name);
    return n == strlen(want) && memcmp(name, want, n) == 0;
}

int main(void)
{
    char path[PATH_BYTES], longest[PATH_BYTES + 8];
    struct err e = {.text = ""};
    ok(!path_join(path, "a", "b", &e) && !strcmp(path, "a/b"), "joined");
    ok(!path_join(path, "a/", "b", &e) && !strcmp(path, "a/b"), "one slash");
    ok(!path_join(path, "", "b", &e) && !strcmp(path, "b"), "no folder");
    char *p = path_new("/x", "y", &e);
    ok(p && !strcmp(p, "/x/y"), "on the heap");
    free(p);
    memset(longest, 'x', sizeof longest);
    longest[PATH_BYTES - 3] = '\0';
    ok(!path_join(path, longest, "b", &e) && strlen(path) == PATH_BYTES - 1, "as long as it goes");
    ok(path_join(path, longest, "bc", &e) == -1 && strstr(e.text, "too long"),
       "one more is refused, not cut: %s", e.text);
    ok(path_format(path, &e, "%s/%d.tar", longest, 12) == -1, "nor when printed");
    ok(!path_format(path, &e, "%s/%d.tar", "a", 12) && !strcmp(path, "a/12.tar"), "printed");
    ok(!strcmp(path_base("a/b/c.tar"), "c.tar") && !strcmp(path_base("c"), "c") &&
           !strcmp(path_base("a/"), ""),
       "the last part");
    ok(stem_is("00000.tar", "00000") && stem_is("a.tar.gz", "a") && stem_is("a.TAR", "a") &&
           stem_is("b.tgz", "b") && stem_is("b.tar.zst", "b"),
       "stems");
    ok(stem_is("x.tar.y.tar", "x.tar.y") && stem_is("x.tar.tar", "x.tar") &&
           stem_is("x.tarball.tar.gz", "x.tarball"),
       "one ending is taken off, at the end");
    ok(stem_is("plain", "plain") && stem_is(".tar", ".tar") && stem_is("a.tar.txt", "a.tar.txt"),
       "names without an ending");
    return tap_done();
}
