// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "system/io.h"
#include "formats/ledger.h"
#include "base/mem.h"

#define HEADING "stage\tshard\tin\tout\tdropped\treasons\n"

enum { LINE_MAX_BYTES = 16384, MAX_STAGES = 256 };

// One at a time, by a file of its own: ledger.tsv itself is replaced by ledger_rewrite.
static int lock_ledger(const char *path, struct err *e)
{
    char name[4096];
    if (snprintf(name, sizeof name, "%s.lock", path) >= (int)sizeof name)
        return err_set(e, "path too long: '%.100s'", path);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_errno(e, "cannot open '%s'", name);
    while (flock(fd, LOCK_EX))
        if (errno != EINTR) {
            close(fd);
            return err_errno(e, "cannot lock '%s'", name);
        }
    return fd;
}

// Bytes of the line, or -1: too long.
static int format_row(const struct ledger_row *r, char *line, size_t room)
{
    int n = snprintf(line, room, "%s\t%s\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t", r->stage,
                     r->shard, r->in, r->out, ledger_dropped(r));
    for (size_t i = 0; i < r->n_reasons && n >= 0 && (size_t)n < room; i++)
        n += snprintf(line + n, room - (size_t)n, "%s%s=%" PRIu64, i ? "," : "", r->reasons[i].name,
                      r->reasons[i].count);
    if (n >= 0 && (size_t)n < room)
        n += snprintf(line + n, room - (size_t)n, "\n");
    return n >= 0 && (size_t)n < room ? n : -1;
}

// The file ends after its last line feed; what follows it was cut short by a crash.
static int cut_tail(int fd, off_t size)
{
    char buf[4096];
    while (size > 0) {
        size_t n = size < (off_t)sizeof buf ? (size_t)size : sizeof buf;
        if (pread(fd, buf, n, size - (off_t)n) != (ssize_t)n)
            return -1;
        const char *last = memrchr(buf, '\n', n);
        if (last)
            return ftruncate(fd, size - (off_t)n + (last - buf) + 1);
        size -= (off_t)n;
    }
    return ftruncate(fd, 0);
}

static int append_line(int fd, const char *line, size_t n)
{
    struct stat st;
    if (fstat(fd, &st) || cut_tail(fd, st.st_size) || lseek(fd, 0, SEEK_END) < 0)
        return -1;
    if (lseek(fd, 0, SEEK_CUR) == 0 && io_write_all(fd, HEADING, strlen(HEADING)))
        return -1;
    return io_write_all(fd, line, n) || fdatasync(fd);
}

int ledger_append(const char *path, const struct ledger_row *r, struct err *e)
{
    char line[LINE_MAX_BYTES];
    if (ledger_row_check(r, e))
        return -1;
    int n = format_row(r, line, sizeof line);
    if (n < 0)
        return err_set(e, "ledger: a line of shard '%.100s' too long", r->shard);
    int lock = lock_ledger(path, e);
    if (lock < 0)
        return -1;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    int rc = 0;
    if (fd < 0)
        rc = err_errno(e, "cannot open '%s'", path);
    else if (append_line(fd, line, (size_t)n))
        rc = err_errno(e, "cannot write '%s'", path);
    if (fd >= 0)
        close(fd);
    close(lock);
    return rc;
}

static int parse_u64(const char *s, uint64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoull(s, &end, 10);
    return *s < '0' || *s > '9' || *end || errno ? -1 : 0;
}

static int parse_reasons(struct ledger_row *r, char *s, struct err *e)
{
    char *save;
    for (char *part = strtok_r(s, ",", &save); part; part = strtok_r(NULL, ",", &save)) {
        char *eq = strchr(part, '=');
        uint64_t n;
        if (!eq)
            return err_set(e, "a reason without count");
        *eq = '\0';
        if (parse_u64(eq + 1, &n))
            return err_set(e, "a reason without count");
        if (ledger_drop(r, part, n, e))
            return -1;
    }
    return 0;
}

// `line` is changed; *r is filled, to be released on error too.
static int parse_line(char *line, struct ledger_row *r, struct err *e)
{
    char *field[6], *p = line;
    uint64_t dropped;
    int n = 0;
    for (; p && n < 6; n++) {
        field[n] = p;
        p = strchr(p, '\t');
        if (p)
            *p++ = '\0';
    }
    if (n < 6 || p)
        return err_set(e, "%s than 6 columns", p ? "more" : "fewer");
    if (ledger_row_init(r, field[0], field[1], e))
        return -1;
    if (parse_u64(field[2], &r->in) || parse_u64(field[3], &r->out) ||
        parse_u64(field[4], &dropped))
        return err_set(e, "a count that is not a number");
    if (parse_reasons(r, field[5], e))
        return -1;
    if (ledger_dropped(r) != dropped)
        return err_set(e, "dropped is %" PRIu64 ", but its reasons add up to %" PRIu64, dropped,
                       ledger_dropped(r));
    return 0;
}

static int add_line(struct ledger *l, const char *s, size_t n, struct err *e)
{
    char line[LINE_MAX_BYTES];
    void *p = l->rows;
    if (n >= sizeof line || memchr(s, '\0', n))
        return err_set(e, "line too long, or with a NUL");
    if (mem_grow(&p, &l->cap, l->n + 1, sizeof *l->rows, e))
        return -1;
    l->rows = p;
    l->rows[l->n] = (struct ledger_row){0};
    memcpy(line, s, n);
    line[n] = '\0';
    int rc = parse_line(line, &l->rows[l->n], e);
    if (rc)
        ledger_row_release(&l->rows[l->n]);
    else
        l->n++;
    return rc;
}

static int parse_text(struct ledger *l, const char *s, size_t n, struct err *e)
{
    size_t number = 1;
    for (const char *end; (end = memchr(s, '\n', n)) != NULL; number++) {
        size_t len = (size_t)(end - s);
        if (number == 1 && (len + 1 != strlen(HEADING) || memcmp(s, HEADING, len)))
            return err_set(e, "line 1: not the heading of a ledger");
        if (number > 1 && len > 0 && add_line(l, s, len, e))
            return err_wrap(e, "line %zu", number);
        s += len + 1;
        n -= len + 1;
    }
    return 0; // a last line without line feed was cut short by a crash
}

struct order {
    const char *names[MAX_STAGES];
    size_t n;
};

static size_t place(const struct order *o, const char *stage)
{
    size_t i = 0;
    while (i < o->n && strcmp(o->names[i], stage))
        i++;
    return i;
}

struct entry {
    struct ledger_row row;
    size_t stage, line;
};

static int by_place(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->stage != y->stage)
        return x->stage < y->stage ? -1 : 1;
    int c = strcmp(x->row.stage, y->row.stage);
    c = c ? c : strcmp(x->row.shard, y->row.shard);
    return c ? c : x->line < y->line ? -1 : x->line > y->line;
}

// Sorts, and drops all but the last row of each stage and shard.
static int sort_rows(struct ledger *l, const struct order *o, struct err *e)
{
    struct entry *all = mem_alloc(l->n, sizeof *all, e);
    if (!all)
        return -1;
    for (size_t i = 0; i < l->n; i++)
        all[i] = (struct entry){l->rows[i], place(o, l->rows[i].stage), i};
    qsort(all, l->n, sizeof *all, by_place);
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++) {
        bool again = i + 1 < l->n && strcmp(all[i].row.stage, all[i + 1].row.stage) == 0 &&
                     strcmp(all[i].row.shard, all[i + 1].row.shard) == 0;
        if (again)
            ledger_row_release(&all[i].row);
        else
            l->rows[n++] = all[i].row;
    }
    l->n = n;
    free(all);
    return 0;
}

static int read_sorted(struct ledger *l, const char *path, const char *const *stages, struct err *e)
{
    struct order o = {0};
    struct map m;
    *l = (struct ledger){0};
    if (access(path, F_OK) && errno == ENOENT)
        return 0;
    if (map_open(&m, path, e))
        return -1;
    int rc = m.n ? parse_text(l, (const char *)m.data, m.n, e) : 0;
    map_close(&m);
    for (; stages && *stages && o.n < MAX_STAGES; stages++)
        o.names[o.n++] = *stages;
    for (size_t i = 0; i < l->n && !stages && o.n < MAX_STAGES; i++)
        if (place(&o, l->rows[i].stage) == o.n)
            o.names[o.n++] = l->rows[i].stage;
    // The names point into rows that sort_rows may release, but only after the places are known.
    if (rc)
        err_wrap(e, "%s", path);
    else if (l->n)
        rc = sort_rows(l, &o, e);
    if (rc)
        ledger_release(l);
    return rc;
}

int ledger_read(struct ledger *l, const char *path, struct err *e)
{
    return read_sorted(l, path, NULL, e);
}

static int write_rows(const char *path, const struct ledger *l, struct err *e)
{
    char line[LINE_MAX_BYTES];
    struct out f;
    if (out_open(&f, path, e))
        return -1;
    int rc = out_write(&f, HEADING, strlen(HEADING), e);
    for (size_t i = 0; i < l->n && rc == 0; i++) {
        int n = format_row(&l->rows[i], line, sizeof line);
        rc = n < 0 ? err_set(e, "ledger: line too long") : out_write(&f, line, (size_t)n, e);
    }
    if (rc == 0)
        rc = out_commit(&f, e);
    out_abort(&f);
    return rc;
}

int ledger_rewrite(const char *path, const char *const *stages, struct err *e)
{
    static const char *const none[] = {NULL};
    struct ledger l;
    int lock = lock_ledger(path, e);
    if (lock < 0)
        return -1;
    int rc = read_sorted(&l, path, stages ? stages : none, e);
    if (rc == 0) {
        rc = write_rows(path, &l, e);
        ledger_release(&l);
    }
    close(lock);
    return rc;
}

int ledger_sort(struct ledger *l, const char *const *stages, struct err *e)
{
    struct order o = {0};
    for (; *stages && o.n < MAX_STAGES; stages++)
        o.names[o.n++] = *stages;
    return l->n ? sort_rows(l, &o, e) : 0;
}

int ledger_write(const char *path, const struct ledger *l, struct err *e)
{
    int lock = lock_ledger(path, e);
    if (lock < 0)
        return -1;
    int rc = write_rows(path, l, e);
    close(lock);
    return rc;
}

int ledger_add(struct ledger *l, struct ledger_row *r, struct err *e)
{
    void *p = l->rows;
    if (ledger_row_check(r, e) || mem_grow(&p, &l->cap, l->n + 1, sizeof *l->rows, e))
        return -1;
    l->rows = p;
    l->rows[l->n++] = *r;
    *r = (struct ledger_row){0};
    return 0;
}

int ledger_print(const struct ledger *l, const char *const *stages, FILE *f, struct err *e)
{
    fprintf(f, "%-12s %14s %14s %14s  %s\n", "stage", "in", "out", "dropped", "reasons");
    for (; *stages; stages++) {
        struct ledger_row sum;
        int rc = ledger_sum(l, *stages, &sum, e);
        if (rc < 0)
            return -1;
        if (rc == 0)
            continue;
        fprintf(f, "%-12s %14" PRIu64 " %14" PRIu64 " %14" PRIu64 " ", sum.stage, sum.in, sum.out,
                ledger_dropped(&sum));
        for (size_t i = 0; i < sum.n_reasons; i++)
            fprintf(f, " %s=%" PRIu64, sum.reasons[i].name, sum.reasons[i].count);
        fprintf(f, "\n");
        ledger_row_release(&sum);
    }
    return ferror(f) ? err_errno(e, "cannot write") : 0;
}
