// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem.h"
#include "npy.h"
#include "report.h"
#include "samples.h"

enum { PATH_ROOM = 4096 };

const char *const report_stages[] = {"read", "balance", "cluster", NULL};

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int report_names_get(struct report_names *s, const char *work, struct err *e)
{
    char path[PATH_ROOM];
    *s = (struct report_names){0};
    snprintf(path, sizeof path, "%s/index", work);
    DIR *d = opendir(path);
    if (!d)
        return err_errno(e, "cannot read '%s'", path);
    int rc = 0;
    for (struct dirent *f; rc == 0 && (f = readdir(d));) {
        size_t n = strlen(f->d_name);
        if (f->d_name[0] == '.' || n <= 4 || strcmp(f->d_name + n - 4, ".tsv"))
            continue;
        void *p = s->names;
        rc = mem_grow(&p, &s->cap, s->n + 1, sizeof *s->names, e);
        s->names = p;
        f->d_name[n - 4] = '\0';
        if (rc == 0 && !(s->names[s->n++] = mem_strdup(f->d_name, e)))
            rc = -1;
    }
    closedir(d);
    if (rc)
        report_names_free(s);
    else if (s->n)
        qsort(s->names, s->n, sizeof *s->names, by_name);
    return rc;
}

void report_names_free(struct report_names *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->names[i]);
    free(s->names);
    *s = (struct report_names){0};
}

// ---- one shard

// What the index says of each row.
struct rows {
    uint8_t *status;
    size_t n, cap;
};

static int parse_index(struct rows *r, const char *text, size_t n, struct err *e)
{
    const char *end = text + n;
    for (const char *p = text; p < end;) {
        const char *line_end = memchr(p, '\n', (size_t)(end - p));
        if (!line_end)
            return err_set(e, "line %zu is cut short", r->n + 1);
        const char *field = p, *tab = NULL;
        for (int k = 0; k < 3; k++) {
            tab = memchr(field, '\t', (size_t)(line_end - field));
            if (!tab)
                return err_set(e, "line %zu has too few columns", r->n + 1);
            if (k < 2)
                field = tab + 1;
        }
        char name[32];
        snprintf(name, sizeof name, "%.*s", (int)(tab - field), field);
        int status = sample_status_of(name);
        p = line_end + 1;
        if (r->n == 0 && status < 0 && strcmp(name, "status") == 0)
            continue; // a heading
        if (status < 0)
            return err_set(e, "line %zu: status '%s' is not known", r->n + 1, name);
        void *grown = r->status;
        if (mem_grow(&grown, &r->cap, r->n + 1, 1, e))
            return -1;
        r->status = grown;
        r->status[r->n++] = (uint8_t)status;
    }
    return 0;
}

static int read_index(struct rows *r, const char *work, const char *name, struct err *e)
{
    char path[PATH_ROOM];
    struct map m;
    snprintf(path, sizeof path, "%s/index/%s.tsv", work, name);
    if (map_open(&m, path, e))
        return -1;
    int rc = m.n ? parse_index(r, (const char *)m.data, m.n, e) : 0;
    map_close(&m);
    return rc ? err_wrap(e, "%s", path) : 0;
}

// What a file of rows may hold: numbers a row at a time, or embeddings.
static bool right_type(const char *kind, const struct npy_header *h)
{
    if (strcmp(kind, "keep") == 0)
        return h->type == NPY_U1 && h->n_dims == 1;
    if (strcmp(kind, "labels") == 0)
        return h->type == NPY_I4;
    return h->type == NPY_F2 || h->type == NPY_F4;
}

// Opens work/kind/name.npy when it is there: 1, 0 absent, -1; its rows must be `rows`.
static int open_rows(struct npy *a, const char *work, const char *kind, const char *name,
                     uint64_t rows, struct err *e)
{
    char path[PATH_ROOM];
    snprintf(path, sizeof path, "%s/%s/%s.npy", work, kind, name);
    *a = (struct npy){0};
    if (access(path, F_OK))
        return 0;
    if (npy_open(a, path, e))
        return -1;
    if (a->h.rows == rows && right_type(kind, &a->h))
        return 1;
    if (a->h.rows == rows)
        err_set(e, "'%s' has type %s in %d dimensions, which is not what '%s' holds", path,
                npy_type_name(a->h.type), a->h.n_dims, kind);
    else
        err_set(e, "'%s' has %" PRIu64 " rows, the index %" PRIu64, path, a->h.rows, rows);
    npy_close(a);
    return -1;
}

static int check_embeddings(const char *work, const char *name, uint64_t rows, struct err *e)
{
    static const char *const kinds[] = {"embed/image", "embed/text"};
    for (size_t k = 0; k < 2; k++) {
        struct npy a;
        if (open_rows(&a, work, kinds[k], name, rows, e) < 0)
            return -1;
        npy_close(&a);
    }
    return 0;
}

static int add_row(struct ledger *l, const char *stage, const char *name, uint64_t in, uint64_t out,
                   const char *reason, struct err *e)
{
    struct ledger_row r;
    if (ledger_row_init(&r, stage, name, e))
        return -1;
    r.in = in;
    r.out = out;
    int rc = in > out ? ledger_drop(&r, reason, in - out, e) : 0;
    rc = rc ? rc : ledger_add(l, &r, e);
    ledger_row_release(&r);
    return rc;
}

static int add_read(struct ledger *l, const struct rows *rows, const char *name, struct err *e)
{
    uint64_t count[SAMPLE_N_STATUS] = {0};
    struct ledger_row r;
    for (size_t i = 0; i < rows->n; i++)
        count[rows->status[i]]++;
    if (ledger_row_init(&r, report_stages[0], name, e))
        return -1;
    r.in = rows->n;
    r.out = count[SAMPLE_OK];
    int rc = 0;
    for (int k = SAMPLE_OK + 1; rc == 0 && k < SAMPLE_N_STATUS; k++)
        if (count[k])
            rc = ledger_drop(&r, sample_status_name((enum sample_status)k), count[k], e);
    rc = rc ? rc : ledger_add(l, &r, e);
    ledger_row_release(&r);
    return rc;
}

static int count_shard(struct ledger *l, const char *work, const char *name, struct err *e)
{
    struct rows rows = {0};
    struct npy keep = {0}, label = {0};
    uint64_t ok = 0, kept = 0, labelled = 0;
    int rc = read_index(&rows, work, name, e), has_keep = 0, has_label = 0;
    if (rc == 0)
        rc = check_embeddings(work, name, rows.n, e);
    if (rc == 0 && (has_keep = open_rows(&keep, work, "keep", name, rows.n, e)) < 0)
        rc = -1;
    if (rc == 0 && (has_label = open_rows(&label, work, "labels", name, rows.n, e)) < 0)
        rc = -1;
    for (size_t i = 0; rc == 0 && i < rows.n; i++) {
        if (rows.status[i] != SAMPLE_OK)
            continue;
        ok++;
        if (!has_keep || !npy_item_i64(&keep, i))
            continue;
        kept++;
        labelled += has_label && npy_item_i64(&label, i * label.h.dim) >= 0;
    }
    if (rc == 0)
        rc = add_read(l, &rows, name, e);
    if (rc == 0 && has_keep)
        rc = add_row(l, report_stages[1], name, ok, kept, "near-duplicate", e);
    if (rc == 0 && has_label)
        rc = add_row(l, report_stages[2], name, kept, labelled, "no-label", e);
    npy_close(&keep);
    npy_close(&label);
    free(rows.status);
    return rc;
}

// ---- all shards

static double changed(const char *work, const char *kind, const char *name, const char *ext)
{
    char path[PATH_ROOM];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s%s%s", work, kind, name, ext);
    if (stat(path, &st))
        return -1;
    return (double)st.st_mtim.tv_sec + 1e-9 * (double)st.st_mtim.tv_nsec;
}

static int by_shard(const void *a, const void *b)
{
    const struct ledger_row *x = *(const struct ledger_row *const *)a;
    const struct ledger_row *y = *(const struct ledger_row *const *)b;
    return strcmp(x->shard, y->shard);
}

// The old rows, sorted by shard, to look up what need not be counted again.
struct old {
    struct ledger ledger;
    struct ledger_row **rows;
    double when;
};

static int old_read(struct old *o, const char *work, struct err *e)
{
    char path[PATH_ROOM];
    struct err ignored; // a damaged ledger is made anew
    *o = (struct old){.when = changed(work, "", "ledger", ".tsv")};
    snprintf(path, sizeof path, "%s/ledger.tsv", work);
    if (o->when < 0 || ledger_read(&o->ledger, path, &ignored))
        o->ledger = (struct ledger){0};
    o->rows = mem_alloc(o->ledger.n, sizeof *o->rows, e);
    if (!o->rows)
        return -1;
    for (size_t i = 0; i < o->ledger.n; i++)
        o->rows[i] = &o->ledger.rows[i];
    qsort(o->rows, o->ledger.n, sizeof *o->rows, by_shard);
    return 0;
}

// Moves the shard's rows over when all its files are older than the ledger and none came or went.
static bool old_take(struct old *o, struct ledger *l, const char *work, const char *name)
{
    static const struct {
        const char *kind, *ext;
    } files[] = {{"index/", ".tsv"}, {"keep/", ".npy"}, {"labels/", ".npy"}};
    struct ledger_row key = {.shard = (char *)(uintptr_t)name}, *k = &key;
    struct ledger_row **found =
        o->ledger.n ? bsearch(&k, o->rows, o->ledger.n, sizeof *o->rows, by_shard) : NULL;
    if (!found)
        return false;
    while (found > o->rows && strcmp(found[-1]->shard, name) == 0)
        found--;
    size_t n = 0;
    while (found + n < o->rows + o->ledger.n && strcmp(found[n]->shard, name) == 0)
        n++;
    for (size_t f = 0; f < 3; f++) {
        double t = changed(work, files[f].kind, name, files[f].ext);
        if (t >= o->when || (t >= 0) != (f < n))
            return false;
    }
    for (size_t i = 0; i < n; i++) {
        struct err e;
        struct ledger_row copy = *found[i];
        if (ledger_add(l, &copy, &e))
            return false;
        found[i]->stage = found[i]->shard = NULL; // taken over
        found[i]->reasons = NULL;
        found[i]->n_reasons = 0;
        found[i]->shard = mem_strdup(name, &e); // keeps the order for later look-ups
    }
    return true;
}

int report_ledger(const char *work, const struct report_names *s, struct ledger *l, struct err *e)
{
    char path[PATH_ROOM];
    struct old old;
    *l = (struct ledger){0};
    if (old_read(&old, work, e))
        return -1;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < s->n; i++)
        if (!old_take(&old, l, work, s->names[i]))
            rc = count_shard(l, work, s->names[i], e);
    if (rc == 0)
        rc = ledger_sort(l, report_stages, e);
    if (rc == 0)
        rc = ledger_check(l, report_stages, e);
    snprintf(path, sizeof path, "%s/ledger.tsv", work);
    if (rc == 0)
        rc = ledger_write(path, l, e);
    free(old.rows);
    ledger_release(&old.ledger);
    if (rc)
        ledger_release(l);
    return rc;
}
