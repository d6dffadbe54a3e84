// SPDX-License-Identifier: Apache-2.0
// One owner at a time: a lock that is held, of a process that is gone, of another host.
#include "system/folder-lock.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "system/process.h"
#include "unit/tap.h"

enum { RACERS = 8 };

static char dir[] = "/tmp/folder-lock-test.XXXXXX", path[64];
static struct err e;

static bool there(void)
{
    struct stat st;
    return !stat(path, &st);
}

static void put_lock(const struct process *p)
{
    FILE *f = fopen(path, "w");
    fprintf(f, "tool trainer\nhost %s\npid %ld\nstart %" PRIu64 "\nboot %s\nsince noon\n", p->host,
            p->pid, p->start, p->boot);
    fclose(f);
}

// A process that holds the lock and waits to be killed.
static pid_t holder(void)
{
    int ready[2];
    char c;
    if (pipe(ready))
        exit(1);
    pid_t pid = fork();
    if (!pid) {
        struct folder_lock l;
        if (folder_lock_take(&l, dir, "holder", &e))
            _exit(1);
        if (write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(ready[1]);
    if (read(ready[0], &c, 1) != 1)
        exit(1);
    close(ready[0]);
    return pid;
}

static void test_held(void)
{
    struct folder_lock l, m;
    char who[64];
    ok(!folder_lock_take(&l, dir, "test", &e) && there(), "taken");
    ok(folder_lock_take(&m, dir, "test", &e) == -1, "not twice");
    folder_lock_release(&l);
    folder_lock_release(&m);
    ok(!there(), "given back");
    pid_t pid = holder();
    snprintf(who, sizeof who, "holder, process %ld", (long)pid);
    ok(folder_lock_take(&l, dir, "test", &e) == -1 && strstr(e.text, who), "held: %s", e.text);
    ok(there(), "and left alone");
    kill(pid, SIGKILL);
    siginfo_t info;
    waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT); // ended, and not waited for
    ok(!folder_lock_take(&l, dir, "test", &e), "taken over after kill -9");
    waitpid(pid, NULL, 0);
    folder_lock_release(&l);
    ok(!there(), "given back");
}

static void test_others(void)
{
    struct folder_lock l;
    struct process p;
    process_self(&p);
    p.start++;
    put_lock(&p);
    ok(!folder_lock_take(&l, dir, "test", &e), "of an earlier process of the same number");
    folder_lock_release(&l);
    process_self(&p);
    strcpy(p.boot, "00000000-0000-0000-0000-000000000000");
    put_lock(&p);
    ok(!folder_lock_take(&l, dir, "test", &e), "of a process before the last start of the host");
    folder_lock_release(&l);
    strcpy(p.host, "elsewhere.example");
    p.pid = 4711;
    p.start = 815;
    put_lock(&p);
    ok(folder_lock_take(&l, dir, "test", &e) == -1, "of another host");
    ok(strstr(e.text, "elsewhere.example") && strstr(e.text, "4711") && strstr(e.text, "815") &&
           strstr(e.text, path),
       "%s", e.text);
    FILE *f = fopen(path, "w");
    fputs("what is this?\n", f);
    fclose(f);
    ok(folder_lock_take(&l, dir, "test", &e) == -1 && strstr(e.text, path), "%s", e.text);
    unlink(path);
    ok(folder_lock_take(&l, "/nowhere", "test", &e) == -1, "%s", e.text);
}

// Many find the lock of a process that is gone; one has it.
static void test_race(void)
{
    struct process p;
    process_self(&p);
    p.start++;
    put_lock(&p);
    int go[2], status, won = 0;
    if (pipe(go))
        exit(1);
    for (int i = 0; i < RACERS; i++)
        if (!fork()) {
            struct folder_lock l;
            char c;
            close(go[1]);
            if (read(go[0], &c, 1) < 0) // until all are there
                _exit(2);
            if (folder_lock_take(&l, dir, "racer", &e))
                _exit(1);
            usleep(300000); // the others come meanwhile
            _exit(0);
        }
    close(go[0]);
    close(go[1]);
    for (int i = 0; i < RACERS; i++)
        if (wait(&status) > 0 && WIFEXITED(status) && !WEXITSTATUS(status))
            won++;
    ok(won == 1, "%d of %d took over a lock of a process that is gone", won, RACERS);
    unlink(path);
}

int main(void)
{
    if (!mkdtemp(dir))
        return 1;
    snprintf(path, sizeof path, "%s/.lock", dir);
    test_held();
    test_others();
    for (int i = 0; i < 3; i++)
        test_race();
    ok(!rmdir(dir), "nothing else is left in the folder");
    return tap_done();
}
