// SPDX-License-Identifier: Apache-2.0
#include "report/report.h"
#include "report/seen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "system/io.h"
#include "base/mem.h"
#include "base/path.h"

enum { SETTLED_SECONDS = 2 }; // coarser than any file system's clock

int report_seen_files(const char *work, const char *name, char hex[DIGEST_HEX], struct err *e)
{
    static const struct {
        const char *folder, *ending;
    } files[] = {{"index", "tsv"},
                 {"embed/image", "npy"},
                 {"embed/text", "npy"},
                 {"keep", "npy"},
                 {"labels", "npy"}};
    char all[5 * 100] = "";
    size_t n = 0;
    time_t now = time(NULL);
    hex[0] = '\0';
    for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
        char path[PATH_BYTES];
        struct stat st;
        if (path_format(path, e, "%s/%s/%s.%s", work, files[k].folder, name, files[k].ending))
            return -1;
        if (stat(path, &st)) {
            n += (size_t)snprintf(all + n, sizeof all - n, "-\n");
            continue;
        }
        if (st.st_ctim.tv_sec + SETTLED_SECONDS > now)
            return 0;
        n += (size_t)snprintf(all + n, sizeof all - n, "%llu %lld %lld.%09ld %lld.%09ld\n",
                              (unsigned long long)st.st_ino, (long long)st.st_size,
                              (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
                              (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
    }
    digest_bytes(all, n, hex);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct report_seen_shard *x = a, *y = b;
    return strcmp(x->name, y->name);
}

bool report_seen_has(const struct report_seen *s, const char *name, const char *files)
{
    struct report_seen_shard key = {.name = (char *)(uintptr_t)name};
    const struct report_seen_shard *found =
        s->n && files[0] ? bsearch(&key, s->shard, s->n, sizeof *s->shard, by_name) : NULL;
    return found && strcmp(found->files, files) == 0;
}

int report_seen_add(struct report_seen *s, const char *name, const char *files, struct err *e)
{
    if (!files[0])
        return 0;
    void *p = s->shard;
    int rc = mem_grow(&p, &s->cap, s->n + 1, sizeof *s->shard, e);
    s->shard = p;
    if (rc || !(s->shard[s->n].name = mem_strdup(name, e)))
        return -1;
    memcpy(s->shard[s->n++].files, files, DIGEST_HEX);
    return 0;
}

// "DIGEST TAB NAME" a line; the first one is the ledger's, without a name.
static int parse(struct report_seen *s, const char *text, size_t n, const char *ledger,
                 struct err *e)
{
    const char *end = text + n, *stop;
    bool first = true;
    for (const char *p = text; p < end; p = stop + 1, first = false) {
        char files[DIGEST_HEX], name[PATH_BYTES];
        stop = memchr(p, '\n', (size_t)(end - p));
        size_t length = stop ? (size_t)(stop - p) : 0;
        if (length < DIGEST_HEX || length >= sizeof name || p[DIGEST_HEX - 1] != '\t')
            return 0;
        memcpy(files, p, DIGEST_HEX - 1);
        files[DIGEST_HEX - 1] = '\0';
        memcpy(name, p + DIGEST_HEX, length - DIGEST_HEX);
        name[length - DIGEST_HEX] = '\0';
        if (first && strcmp(files, ledger) != 0)
            return 0;
        if (!first && report_seen_add(s, name, files, e))
            return -1;
    }
    return 0;
}

int report_seen_read(struct report_seen *s, const char *work, struct err *e)
{
    char path[PATH_BYTES], ledger[DIGEST_HEX];
    struct map m;
    struct err ignored; // without it all is counted
    *s = (struct report_seen){0};
    if (path_format(path, e, "%s/ledger.tsv", work))
        return -1;
    if (access(path, F_OK) || digest_file(path, ledger, &ignored))
        return 0;
    if (path_format(path, e, "%s/.ledger.seen", work))
        return -1;
    if (access(path, F_OK) || map_open(&m, path, &ignored))
        return 0;
    int rc = parse(s, (const char *)m.data, m.n, ledger, e);
    map_close(&m);
    if (rc)
        report_seen_release(s);
    else if (s->n)
        qsort(s->shard, s->n, sizeof *s->shard, by_name);
    return rc;
}

int report_seen_write(struct report_seen *s, const char *work, struct err *e)
{
    char path[PATH_BYTES], ledger[DIGEST_HEX];
    struct out o;
    if (path_format(path, e, "%s/ledger.tsv", work) || digest_file(path, ledger, e) ||
        path_format(path, e, "%s/.ledger.seen", work) || out_open(&o, path, e))
        return -1;
    int rc = out_write(&o, ledger, strlen(ledger), e) || out_write(&o, "\t\n", 2, e);
    for (size_t i = 0; rc == 0 && i < s->n; i++)
        rc = out_write(&o, s->shard[i].files, strlen(s->shard[i].files), e) ||
             out_write(&o, "\t", 1, e) ||
             out_write(&o, s->shard[i].name, strlen(s->shard[i].name), e) ||
             out_write(&o, "\n", 1, e);
    rc = rc || out_commit(&o, e) ? -1 : 0;
    out_abort(&o);
    return rc;
}

void report_seen_release(struct report_seen *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->shard[i].name);
    free(s->shard);
    *s = (struct report_seen){0};
}

uint64_t report_stamp(const char *work)
{
    struct path_names l = {0};
    struct err ignored;
    char path[PATH_BYTES];
    uint64_t stamp = 1;
    if (path_names_of(&l, work, "", &ignored))
        return 0;
    for (size_t i = 0; i < l.n; i++) {
        struct stat st;
        const char *name = l.names[i];
        if (!strcmp(name, "log") || !strncmp(name, "ledger", 6) || !strncmp(name, "report.", 7) ||
            path_format(path, &ignored, "%s/%s", work, name) || stat(path, &st))
            continue;
        stamp = stamp * 1000003 + (uint64_t)st.st_mtim.tv_sec * 1000000007 +
                (uint64_t)st.st_mtim.tv_nsec + (uint64_t)st.st_size * 31 + (uint64_t)st.st_ino;
    }
    path_names_free(&l);
    return stamp;
}
