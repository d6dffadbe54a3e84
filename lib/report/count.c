// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "formats/npy.h"
#include "report/seen.h"
#include "report/report.h"
#include "formats/samples.h"

const char *const report_stages[] = {"read", "balance", "cluster", NULL};

// ---- one shard

// What the index says of each row.
struct counted_rows {
    uint8_t *status;
    size_t n, cap;
};

static int parse_index(struct counted_rows *r, const char *text, size_t n, struct err *e)
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

static int read_index(struct counted_rows *r, const char *work, const char *name, struct err *e)
{
    char path[PATH_BYTES];
    struct map m;
    if (path_format(path, e, "%s/index/%s.tsv", work, name) || map_open(&m, path, e))
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
    char path[PATH_BYTES];
    *a = (struct npy){0};
    if (path_format(path, e, "%s/%s/%s.npy", work, kind, name))
        return -1;
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

// A key that was there before and a json that does not parse are remarks: the sample has its
// picture and its caption, and every stage uses it.
static bool usable(uint8_t status)
{
    return status == SAMPLE_OK || status == SAMPLE_DUPLICATE_KEY || status == SAMPLE_BAD_JSON;
}

static int add_read(struct ledger *l, const struct counted_rows *rows, const char *name,
                    struct err *e)
{
    uint64_t count[SAMPLE_N_STATUS] = {0};
    struct ledger_row r;
    for (size_t i = 0; i < rows->n; i++)
        count[rows->status[i]]++;
    if (ledger_row_init(&r, report_stages[0], name, e))
        return -1;
    r.in = rows->n;
    int rc = 0;
    for (int k = 0; rc == 0 && k < SAMPLE_N_STATUS; k++)
        if (usable((uint8_t)k))
            r.out += count[k];
        else if (count[k])
            rc = ledger_drop(&r, sample_status_name((enum sample_status)k), count[k], e);
    rc = rc ? rc : ledger_add(l, &r, e);
    ledger_row_release(&r);
    return rc;
}

static int count_shard(struct ledger *l, const char *work, const char *name, struct err *e)
{
    struct counted_rows rows = {0};
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
        if (!usable(rows.status[i]))
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

static int by_shard(const void *a, const void *b)
{
    const struct ledger_row *x = *(const struct ledger_row *const *)a;
    const struct ledger_row *y = *(const struct ledger_row *const *)b;
    return strcmp(x->shard, y->shard);
}

// The rows of the ledger that is there, sorted by shard, and which files they were counted from.
struct old {
    struct ledger ledger;
    struct ledger_row **rows;
    struct report_seen seen;
};

static void old_release(struct old *o)
{
    free(o->rows);
    ledger_release(&o->ledger);
    report_seen_release(&o->seen);
}

static int old_read(struct old *o, const char *work, struct err *e)
{
    char path[PATH_BYTES];
    struct err ignored; // a damaged ledger is made anew
    *o = (struct old){0};
    if (path_format(path, e, "%s/ledger.tsv", work) || report_seen_read(&o->seen, work, e))
        return -1;
    if (o->seen.n && ledger_read(&o->ledger, path, &ignored))
        o->ledger = (struct ledger){0};
    o->rows = mem_alloc(o->ledger.n, sizeof *o->rows, e);
    if (!o->rows) {
        old_release(o);
        return -1;
    }
    for (size_t i = 0; i < o->ledger.n; i++)
        o->rows[i] = &o->ledger.rows[i];
    if (o->ledger.n)
        qsort(o->rows, o->ledger.n, sizeof *o->rows, by_shard);
    return 0;
}

static int copy_row(struct ledger *l, const struct ledger_row *from, struct err *e)
{
    struct ledger_row r;
    if (ledger_row_init(&r, from->stage, from->shard, e))
        return -1;
    r.in = from->in;
    r.out = from->out;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < from->n_reasons; i++)
        rc = ledger_drop(&r, from->reasons[i].name, from->reasons[i].count, e);
    rc = rc ? rc : ledger_add(l, &r, e);
    ledger_row_release(&r);
    return rc;
}

// Copies the shard's rows when its files are those that they were counted from: 1, 0 or -1.
static int old_take(struct old *o, struct ledger *l, const char *name, const char *files,
                    struct err *e)
{
    struct ledger_row key = {.shard = (char *)(uintptr_t)name}, *k = &key;
    if (!report_seen_has(&o->seen, name, files) || o->ledger.n == 0)
        return 0;
    struct ledger_row **found = bsearch(&k, o->rows, o->ledger.n, sizeof *o->rows, by_shard);
    if (!found)
        return 0;
    while (found > o->rows && strcmp(found[-1]->shard, name) == 0)
        found--;
    for (; found < o->rows + o->ledger.n && strcmp((*found)->shard, name) == 0; found++)
        if (copy_row(l, *found, e))
            return -1;
    return 1;
}

static int write_both(struct ledger *l, struct report_seen *seen, const char *work, struct err *e)
{
    char path[PATH_BYTES];
    return path_format(path, e, "%s/ledger.tsv", work) || ledger_write(path, l, e) ||
                   report_seen_write(seen, work, e)
               ? -1
               : 0;
}

int report_ledger(const char *work, const struct path_names *s, bool write, struct ledger *l,
                  struct err *e)
{
    struct old old;
    struct report_seen seen = {0};
    *l = (struct ledger){0};
    if (old_read(&old, work, e))
        return -1;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < s->n; i++) {
        char files[DIGEST_HEX];
        rc = report_seen_files(work, s->names[i], files, e);
        int taken = rc == 0 ? old_take(&old, l, s->names[i], files, e) : -1;
        if (taken == 0)
            rc = count_shard(l, work, s->names[i], e);
        else if (taken < 0)
            rc = -1;
        rc = rc ? rc : report_seen_add(&seen, s->names[i], files, e);
    }
    rc = rc ? rc : ledger_sort(l, report_stages, e);
    rc = rc ? rc : ledger_check(l, report_stages, e);
    if (rc == 0 && write)
        rc = write_both(l, &seen, work, e);
    report_seen_release(&seen);
    old_release(&old);
    if (rc)
        ledger_release(l);
    return rc;
}
