// SPDX-License-Identifier: Apache-2.0
// io: an output is there whole or not at all; a full disk is an error.
#include <fcntl.h>
#include <glob.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit/child.h"
#include "system/io.h"
#include "system/signals.h"
#include "unit/tap.h"

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
    char name[300], path[400];
    memset(name, 'a', sizeof name);
    name[256] = '\0';
    ok(out_open(&o, name, &e) == -1 && strstr(e.text, "File name too long"), "a name too long");
    name[255] = '\0';
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ok(out_open(&o, path, &e) == 0 && out_commit(&o, &e) == 0 && unlink(path) == 0,
       "the longest name: the temporary one is cut");
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

static size_t size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) ? 0 : (size_t)st.st_size;
}

static int put(const char *path, const char *text, struct err *e)
{
    struct out o;
    return out_open(&o, path, e) || out_write(&o, text, strlen(text), e) || out_commit(&o, e);
}

static void test_links(void)
{
    char real[64], link[64], chain[64], made[64];
    struct err e;
    struct stat st;
    snprintf(real, sizeof real, "%s/real", dir);
    snprintf(link, sizeof link, "%s/link", dir);
    snprintf(chain, sizeof chain, "%s/chain", dir);
    snprintf(made, sizeof made, "%s/new", dir);
    ok(put(real, "a", &e) == 0 && chmod(real, 0640) == 0 && symlink("real", link) == 0 &&
           symlink(link, chain) == 0,
       "links");
    ok(put(chain, "longer", &e) == 0 && size_of(real) == 6, "an output goes through them");
    ok(lstat(link, &st) == 0 && S_ISLNK(st.st_mode) && lstat(chain, &st) == 0 &&
           S_ISLNK(st.st_mode),
       "they stay links");
    ok(stat(real, &st) == 0 && (st.st_mode & 0777) == 0640, "the file keeps its mode");
    if (geteuid() == 0)
        ok(chown(real, 12, 34) == 0 && put(link, "x", &e) == 0 && stat(real, &st) == 0 &&
               st.st_uid == 12 && st.st_gid == 34,
           "and, where that is allowed, its owner and group");
    unlink(link);
    ok(symlink("new", link) == 0 && put(link, "abc", &e) == 0 && size_of(made) == 3,
       "one that leads nowhere makes the file");
    unlink(link);
    ok(symlink("link", link) == 0 && put(link, "x", &e) && strstr(e.text, "Too many levels"), "%s",
       e.text);
    unlink(link), unlink(chain), unlink(real), unlink(made);
}

static void test_streams(void)
{
    char path[64], link[64], name[64];
    struct err e;
    struct stat st;
    snprintf(path, sizeof path, "%s/s", dir);
    snprintf(link, sizeof link, "%s/l", dir);
    int fd = open(path, O_RDWR | O_CREAT, 0600), in = open("/dev/null", O_RDONLY);
    snprintf(name, sizeof name, "/dev/fd/%d", fd);
    ok(io_is_stream("-") && io_is_stream("/dev/stdout") && io_is_stream(name) &&
           io_is_stream("/dev/full") && !io_is_stream(path) && !io_is_stream("/nonexistent/x"),
       "what is a stream");
    ok(put(name, "one", &e) == 0 && put(name, "two", &e) == 0 && size_of(path) == 6,
       "a descriptor by name is written where it stands");
    ok(symlink(name, link) == 0 && put(link, "three", &e) == 0 && size_of(path) == 11 &&
           lstat(link, &st) == 0 && S_ISLNK(st.st_mode),
       "through a link too");
    snprintf(name, sizeof name, "/proc/self/fd/%d", in);
    ok(put(name, "x", &e) && strstr(e.text, "Bad file descriptor") && io_check_output(name, &e),
       "one that is open for reading is refused: %s", e.text);
    close(fd), close(in), unlink(path), unlink(link);
    ok(put("/dev/fd/99", "x", &e) && strstr(e.text, "Bad file descriptor"), "%s", e.text);
}

// In a root folder without /proc. The bytes of the output, 0 where the machine does not let us.
static uint64_t without_proc(void)
{
    struct err e;
    uid_t uid = getuid();
    if (uid && unshare(CLONE_NEWUSER))
        return 0;
    if (chroot(dir) || chdir("/"))
        return 0;
    return put("/kept", "kept", &e) == 0 && put("/kept", "again", &e) == 0 ? size_of("/kept") : 1;
}

static void test_without_proc(void)
{
    uint64_t r;
    char path[64];
    int status = child("T", "", without_proc, &r);
    snprintf(path, sizeof path, "%s/kept", dir);
    if (status == 0 && !r)
        ok(true, "without /proc # SKIP no chroot here");
    else
        ok(status == 0 && r == 5 && size_of(path) == 5 && temporaries() == 0,
           "without /proc a whole file gets its name all the same");
    unlink(path);
}

static void test_checks(void)
{
    char path[64], folder[64];
    struct err e;
    bool made;
    snprintf(path, sizeof path, "%s/c", dir);
    snprintf(folder, sizeof folder, "%s/folder", dir);
    ok(io_check_output(path, &e) == 0 && access(path, F_OK),
       "an output that can be; nothing is made");
    ok(io_check_output("/nonexistent/x", &e) && strstr(e.text, "No such file"), "%s", e.text);
    ok(io_check_output(dir, &e) && strstr(e.text, "Is a directory"), "%s", e.text);
    ok(io_make_folder(folder, &made, &e) == 0 && made && io_make_folder(folder, &made, &e) == 0 &&
           !made,
       "a folder is made once");
    strcat(folder, "/a/b");
    ok(io_make_folder(folder, &made, &e) && strstr(e.text, "No such file"), "%s", e.text);
    ok(put(path, "x", &e) == 0 && io_make_folder(path, &made, &e) &&
           strstr(e.text, "Not a directory"),
       "%s", e.text);
    ok(io_check_output("/dev/null", &e) == 0, "a device");
    unlink(path);
    snprintf(folder, sizeof folder, "%s/folder", dir);
    rmdir(folder);
    snprintf(folder, sizeof folder, "%s/fifo", dir);
    ok(mkfifo(folder, 0600) == 0 && io_check_output(folder, &e) == 0, "a pipe, without its reader");
    unlink(folder);
}

// 1: the system's word on the pages of a file is taken, 0: not. As somebody who neither owns
// /etc/passwd nor may write it.
static uint64_t foreign_pages(void)
{
    struct err e;
    struct map m;
    if (geteuid() == 0 && seteuid(65534))
        return 7;
    if (map_open(&m, "/etc/passwd", &e))
        return 8;
    return map_resident(&m);
}

static void test_resident(void)
{
    char path[64];
    struct err e;
    struct map m;
    uint64_t r;
    snprintf(path, sizeof path, "%s/r", dir);
    ok(put(path, "just written", &e) == 0 && map_open(&m, path, &e) == 0 && map_resident(&m),
       "a file of our own that was just written is in the cache");
    map_close(&m);
    unlink(path);
    ok(child("T", "", foreign_pages, &r) == 0 && r == 0,
       "of a file of others nothing is believed (%d)", (int)r);
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
        signals_install();
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
    test_links();
    test_streams();
    test_without_proc();
    test_checks();
    test_resident();
    rmdir(dir);
    return tap_done();
}
