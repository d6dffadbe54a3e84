// SPDX-License-Identifier: Apache-2.0
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "system/io.h"
#include "formats/ledger.h"
#include "unit/tap.h"

static struct err e;
static char path[64];
static const char *const stages[] = {"read", "embed", "balance", "train", NULL};

static int add(const char *stage, const char *shard, uint64_t in, uint64_t out, const char *reason)
{
    struct ledger_row r;
    if (ledger_row_init(&r, stage, shard, &e))
        return -1;
    r.in = in;
    r.out = out;
    int rc = reason ? ledger_drop(&r, reason, in - out, &e) : 0;
    rc = rc ? rc : ledger_append(path, &r, &e);
    ledger_row_release(&r);
    return rc;
}

static int check(void)
{
    struct ledger l;
    if (ledger_read(&l, path, &e))
        return -1;
    int rc = ledger_check(&l, stages, &e);
    ledger_release(&l);
    return rc;
}

static void replace(const char *text)
{
    struct out o;
    if (out_open(&o, path, &e) || out_write(&o, text, strlen(text), &e) || out_commit(&o, &e))
        exit(1);
}

static void append_raw(const char *text)
{
    FILE *f = fopen(path, "a");
    if (!f || fputs(text, f) < 0 || fclose(f))
        exit(1);
}

static bool holds(const char *text)
{
    struct map m;
    if (map_open(&m, path, &e))
        return false;
    bool same = m.n == strlen(text) && memcmp(m.data, text, m.n) == 0;
    map_close(&m);
    return same;
}

static void test_rows(void)
{
    struct ledger_row r;
    ledger_row_init(&r, "read", "00000.tar", &e);
    r.in = 10;
    r.out = 7;
    ok(ledger_drop(&r, "no-caption", 1, &e) == 0 && ledger_drop(&r, "bad-image", 1, &e) == 0 &&
           ledger_drop(&r, "no-caption", 1, &e) == 0 && ledger_drop(&r, "none", 0, &e) == 0,
       "reasons");
    ok(r.n_reasons == 2 && strcmp(r.reasons[0].name, "bad-image") == 0 && r.reasons[1].count == 2 &&
           ledger_dropped(&r) == 3,
       "sorted and added up");
    ok(ledger_row_check(&r, &e) == 0, "in = out + dropped");
    r.out = 8;
    ok(ledger_row_check(&r, &e) == -1 && strstr(e.text, "in 10 is not out 8 + dropped 3"), "%s",
       e.text);
    ok(ledger_append(path, &r, &e) == -1, "is not written");
    r.out = 11;
    ok(ledger_row_check(&r, &e) == -1, "more out than in");
    ok(ledger_drop(&r, "Bad=Reason", 1, &e) == -1 && ledger_drop(&r, "x", UINT64_MAX, &e) == 0 &&
           ledger_drop(&r, "x", 1, &e) == -1,
       "bad names, counts that overflow");
    ledger_row_release(&r);
    ok(ledger_row_init(&r, "a\tb", "c", &e) == -1 && ledger_row_init(&r, "a", "", &e) == -1,
       "bad names of stage and shard");
}

static void test_file(void)
{
    struct ledger l;
    struct ledger_row sum;
    ok(ledger_read(&l, path, &e) == 0 && l.n == 0, "no file: an empty ledger");
    ok(add("read", "00001.tar", 10, 10, NULL) == 0 &&
           add("read", "00000.tar", 10, 8, "bad-image") == 0,
       "two shards");
    ok(add("embed", "00000.tar", 8, 8, NULL) == 0 && add("embed", "00001.tar", 9, 9, NULL) == 0,
       "a second stage");
    ok(check() == -1 && strstr(e.text, "shard '00001.tar': 10 came out of stage 'read', but 9"),
       "%s", e.text);
    ok(add("embed", "00001.tar", 10, 10, NULL) == 0 && check() == 0, "done again, it adds up");
    ok(add("balance", "*", 18, 12, "duplicate") == 0 && check() == 0, "a stage over all shards");
    ok(add("train", "*", 13, 13, NULL) == 0 && check() == -1, "%s", e.text);
    ok(add("train", "*", 12, 12, NULL) == 0 && check() == 0, "mended");
    append_raw("train\t*\t99");
    ok(check() == 0, "a torn last line is passed over");
    ok(add("train", "*", 12, 12, NULL) == 0 && check() == 0, "and removed by the next");
    ok(ledger_rewrite(path, stages, &e) == 0 &&
           holds("stage\tshard\tin\tout\tdropped\treasons\n"
                 "read\t00000.tar\t10\t8\t2\tbad-image=2\nread\t00001.tar\t10\t10\t0\t\n"
                 "embed\t00000.tar\t8\t8\t0\t\nembed\t00001.tar\t10\t10\t0\t\n"
                 "balance\t*\t18\t12\t6\tduplicate=6\ntrain\t*\t12\t12\t0\t\n"),
       "rewritten in order, one line each");
    ledger_read(&l, path, &e);
    ok(ledger_sum(&l, "read", &sum, &e) == 1 && sum.in == 20 && sum.out == 18 &&
           sum.reasons[0].count == 2,
       "sum");
    ledger_row_release(&sum);
    ok(ledger_sum(&l, "none", &sum, &e) == 0, "no such stage");
    char *text;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    ok(ledger_print(&l, stages, f, &e) == 0, "printed");
    fclose(f);
    ok(strstr(text, "duplicate=6") && strstr(text, "\nread "), "with sums and reasons");
    free(text);
    ledger_release(&l);
    ok(add("embed", "00002.tar", 1, 1, NULL) == 0 && check() == -1 &&
           strstr(e.text, "shard '00002.tar' of stage 'embed' is not in stage 'read'"),
       "%s", e.text);
    ok(add("read", "00002.tar", 1, 1, NULL) == 0 && add("read", "00003.tar", 1, 1, NULL) == 0 &&
           check() == -1 && strstr(e.text, "missing from stage 'embed'"),
       "%s", e.text);
}

static void test_bad_files(void)
{
    static const char *const bad[] = {
        "x\n",
        "stage\tshard\tin\tout\tdropped\treasons\nread\ta\t1\t1\t0\n",
        "stage\tshard\tin\tout\tdropped\treasons\nread\ta\t1\t1\t0\t\tx\n",
        "stage\tshard\tin\tout\tdropped\treasons\nread\ta\t-1\t1\t0\t\n",
        "stage\tshard\tin\tout\tdropped\treasons\nread\ta\t2\t1\t1\tbad\n",
        "stage\tshard\tin\tout\tdropped\treasons\nread\ta\t2\t1\t1\tbad=2\n",
        "stage\tshard\tin\tout\tdropped\treasons\n\ta\t2\t1\t1\tbad=1\n",
        "stage\tshard\tin\tout\tdropped\treasons\nread\ta\t2\t1\t1\tbad=99999999999999999999\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        replace(bad[i]);
        struct ledger l;
        ok(ledger_read(&l, path, &e) == -1 && strstr(e.text, "line "), "refused: %s", e.text);
    }
}

// Many writers at once lose nothing.
static void test_parallel(void)
{
    enum { WRITERS = 4, LINES = 25 };
    unlink(path);
    fflush(stdout);
    for (int i = 0; i < WRITERS; i++)
        if (fork() == 0) {
            for (int j = 0; j < LINES; j++) {
                char shard[16];
                snprintf(shard, sizeof shard, "%d-%02d", i, j);
                if (add("read", shard, 2, 1, "bad-image"))
                    _exit(1);
            }
            _exit(0);
        }
    int status, failed = 0;
    while (wait(&status) > 0)
        failed += status != 0;
    struct ledger l;
    ok(failed == 0 && ledger_read(&l, path, &e) == 0 && l.n == WRITERS * LINES, "%d writers",
       WRITERS);
    ledger_release(&l);
}

int main(void)
{
    char dir[] = "/tmp/ledger-test.XXXXXX", lock[80];
    if (!mkdtemp(dir))
        return 1;
    snprintf(path, sizeof path, "%s/ledger.tsv", dir);
    snprintf(lock, sizeof lock, "%s.lock", path);
    test_rows();
    test_file();
    test_bad_files();
    test_parallel();
    unlink(path);
    unlink(lock);
    rmdir(dir);
    return tap_done();
}
