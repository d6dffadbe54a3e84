// SPDX-License-Identifier: Apache-2.0
// io: an output is there whole or not at all; a full disk is an error.
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io.h"
#include "tap.h"

static char dir[] = "/tmp/io-test.XXXXXX";

static size_t temporaries(void)
{
    char pattern[64];
    snprintf(pattern, sizeof pattern, "%s/.*.tmp", dir);
    glob_t g;
    size_t n = glob(pattern, 0, NULL, &g) == 0 ? g.gl_pathc : 0;
    globfree(&g);
    return n;
}

static void test_commit(void)
{
    char path[64], big[300000];
    struct err e;
    struct out o;
    memset(big, 'x', sizeof big);
    snprintf(path, sizeof path, "%s/a", dir);
    ok(out_open(&o, path, &e) == 0 && access(path, F_OK) != 0, "not there while it is written");
    ok(temporaries() == !o.nameless, "at most a temporary file beside it");
    ok(out_write(&o, "head", 4, &e) == 0 && out_write(&o, big, sizeof big, &e) == 0, "write");
    ok(out_pwrite(&o, "HE", 2, 0, &e) == 0 && o.written == 300004, "patch the start");
    ok(out_commit(&o, &e) == 0 && temporaries() == 0, "commit leaves no temporary");
    struct map m;
    ok(map_open(&m, path, &e) == 0 && m.n == 300004 && !memcmp(m.data, "HEadxx", 6), "the bytes");
    map_close(&m);

    ok(out_open(&o, path, &e) == 0 && out_write(&o, "other", 5, &e) == 0, "write again");
    out_abort(&o);
    ok(map_open(&m, path, &e) == 0 && m.n == 300004 && temporaries() == 0,
       "abort leaves the old file");
    map_close(&m);
    out_abort(&o);
    unlink(path);
}

static void test_failures(void)
{
    struct err e;
    struct out o;
    struct map m;
    ok(out_open(&o, "/nonexistent/x", &e) == -1 &&
           !strcmp(e.text, "cannot create '/nonexistent/x': No such file or directory"),
       "no directory");
    ok(out_open(&o, dir, &e) == -1 && strstr(e.text, "': Is a directory"), "a directory: %s",
       e.text);
    ok(out_open(&o, "", &e) == -1 && !strcmp(e.text, "cannot write '': No such file or directory"),
       "no name");
    ok(out_open(&o, "nowhere/", &e) == -1 && strstr(e.text, "Is a directory"), "%s", e.text);
    char name[300];
    memset(name, 'a', sizeof name);
    name[250] = '\0'; // a name may have 255 bytes, but the temporary one has more
    ok(out_open(&o, name, &e) == -1 && strstr(e.text, "File name too long"), "a name too long");
    ok(map_open(&m, dir, &e) == -1, "a directory cannot be mapped");
    int saved = dup(STDOUT_FILENO), full = open("/dev/full", O_WRONLY);
    fflush(stdout);
    dup2(full, STDOUT_FILENO);
    int bad = out_open(&o, "-", &e) == 0 && out_write(&o, "x", 1, &e) == 0 && out_commit(&o, &e);
    dup2(saved, STDOUT_FILENO);
    ok(bad, "a full disk is an error at commit: %s", e.text);
    bad = out_open(&o, "/dev/full", &e) == 0 && out_write(&o, "x", 1, &e) == 0;
    ok(bad && out_commit(&o, &e) && access("/dev/full", F_OK) == 0, "a device by name: %s", e.text);
}

int main(void)
{
    if (!mkdtemp(dir))
        return 1;
    test_commit();
    test_failures();
    rmdir(dir);
    return tap_done();
}
