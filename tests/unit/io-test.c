// SPDX-License-Identifier: Apache-2.0
// io: an output is there whole or not at all; a full disk is an error.
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io.h"
#include "sig.h"
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

// A mapped input that is cut off while it is read; an output was begun. The child's last words.
static void test_cut_off(void)
{
    enum { BYTES = 1 << 20 };
    char path[64], other[64], said[256] = "";
    int to[2], status = 0;
    snprintf(path, sizeof path, "%s/in", dir);
    snprintf(other, sizeof other, "%s/out", dir);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    bool made = fd >= 0 && ftruncate(fd, BYTES) == 0 && pipe(to) == 0;
    pid_t pid = made ? fork() : -1;
    if (pid == 0) {
        struct err e;
        struct map m;
        struct out o;
        dup2(to[1], STDERR_FILENO);
        sig_install();
        if (out_open(&o, other, &e) || out_write(&o, "x", 1, &e) || map_open(&m, path, &e) ||
            truncate(path, 100))
            _exit(3);
        volatile const uint8_t *bytes = m.data;
        _exit(bytes[BYTES / 2] ? 4 : 5);
    }
    close(fd);
    close(to[1]);
    ssize_t n = read(to[0], said, sizeof said - 1);
    close(to[0]);
    ok(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 1,
       "a mapped input that becomes shorter ends the run with status 1 (%d)", status);
    ok(n > 0 && strstr(said, ": cannot read '") && strstr(said, "in': it became shorter"), "%s",
       strtok(said, "\n"));
    ok(temporaries() == 0 && access(other, F_OK), "and nothing half-written stays");
    unlink(path);
}

int main(void)
{
    if (!mkdtemp(dir))
        return 1;
    test_commit();
    test_failures();
    test_cut_off();
    rmdir(dir);
    return tap_done();
}
