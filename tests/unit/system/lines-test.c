// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "system/lines.h"
#include "unit/tap.h"

static struct err e;
static char path[] = "/tmp/lines-test.XXXXXX";

static void put(const char *text, size_t n)
{
    FILE *f = fopen(path, "wb");
    fwrite(text, 1, n, f);
    fclose(f);
}

int main(void)
{
    struct lines l;
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    put("one\r\n\ntwo words\nlast", 20);
    ok(lines_read(&l, path, &e) == 0 && l.n == 4, "four lines");
    ok(!strcmp(l.line[0], "one") && !l.line[1][0] && !strcmp(l.line[2], "two words") &&
           !strcmp(l.line[3], "last"),
       "their text");
    lines_release(&l);
    put("\xef\xbb\xbfone\ntwo\n", 11);
    ok(lines_read(&l, path, &e) == 0 && l.n == 2 && !strcmp(l.line[0], "one"),
       "a byte order mark is no part of the first line");
    lines_release(&l);
    put("\xef\xbb\xbf", 3);
    ok(lines_read(&l, path, &e) == 0 && l.n == 0, "nor a line by itself");
    lines_release(&l);
    put("a\n\n\n", 4);
    ok(lines_read(&l, path, &e) == 0 && l.n == 1, "empty lines at the end are none");
    lines_release(&l);
    put("", 0);
    ok(lines_read(&l, path, &e) == 0 && l.n == 0, "an empty file");
    lines_release(&l);
    put("a\0b\n", 4);
    ok(lines_read(&l, path, &e) == -1 && strstr(e.text, "NUL"), "a NUL byte: %s", e.text);
    char *big = malloc(200001);
    for (size_t i = 0; i < 200000; i++)
        big[i] = i % 10 == 9 ? '\n' : 'x';
    put(big, 200000);
    ok(lines_read(&l, path, &e) == 0 && l.n == 20000 && !strcmp(l.line[19999], "xxxxxxxxx"),
       "more than a chunk");
    lines_release(&l);
    free(big);
    unlink(path);
    ok(lines_read(&l, path, &e) == -1, "no file: %s", e.text);
    return tap_done();
}
