// SPDX-License-Identifier: Apache-2.0
#include "balance/report.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "system/io.h"
#include "base/mem.h"

enum { BINS = 36 };

// 1, 2, 3, 4, then powers of two.
static size_t bin_of(uint64_t size, uint64_t *from, uint64_t *to)
{
    if (size <= 4) {
        *from = *to = size;
        return size - 1;
    }
    size_t bin = 4;
    for (*from = 5, *to = 8; size > *to; bin++) {
        *from = *to + 1;
        *to *= 2;
    }
    return bin;
}

static int add_histogram(cJSON *o, const uint32_t *size, uint64_t n, struct err *e)
{
    uint64_t groups[BINS] = {0}, rows[BINS] = {0}, from[BINS], to[BINS], a, b;
    for (uint64_t i = 0; i < n; i++) {
        if (!size[i])
            continue;
        size_t bin = bin_of(size[i], &a, &b);
        groups[bin]++;
        rows[bin] += size[i];
        from[bin] = a;
        to[bin] = b;
    }
    cJSON *list = json_add_array(o, "histogram", e);
    for (size_t i = 0; list && i < BINS; i++) {
        if (!groups[i])
            continue;
        cJSON *bin = json_add_object(list, NULL, e);
        if (!bin || json_add_u64(bin, "from", from[i], e) || json_add_u64(bin, "to", to[i], e) ||
            json_add_u64(bin, "groups", groups[i], e) || json_add_u64(bin, "rows", rows[i], e))
            return -1;
    }
    return list ? 0 : -1;
}

static int add_row(cJSON *o, const struct embedding_files *f, uint64_t row, struct err *e)
{
    const struct npy_part *p = &f->set.parts[npy_set_find(&f->set, row)];
    return o && !json_add_string(o, "file", path_base(p->path), e)
               ? json_add_u64(o, "row", row - p->first, e)
               : -1;
}

// The biggest groups, in order: size, then lowest kept row.
struct biggest {
    struct listed {
        uint32_t kept, size;
        size_t at, n; // its members: listed[at .. at + n), at most `members`
    } * group;
    size_t n, room;
    uint32_t *listed;
    size_t members;
};

// True if x comes after y in the list.
static bool behind(const struct listed *x, const struct listed *y)
{
    return x->size != y->size ? x->size < y->size : x->kept > y->kept;
}

// A heap whose top is the last of the list.
static void sink(struct biggest *b, size_t i)
{
    for (size_t child; (child = 2 * i + 1) < b->n; i = child) {
        if (child + 1 < b->n && behind(&b->group[child + 1], &b->group[child]))
            child++;
        if (!behind(&b->group[child], &b->group[i]))
            return;
        struct listed t = b->group[i];
        b->group[i] = b->group[child];
        b->group[child] = t;
    }
}

static void insert(struct biggest *b, struct listed g)
{
    if (b->n == b->room) {
        if (!behind(&b->group[0], &g))
            return;
        b->group[0] = g;
        sink(b, 0);
        return;
    }
    size_t i = b->n++;
    for (; i > 0 && behind(&g, &b->group[(i - 1) / 2]); i = (i - 1) / 2)
        b->group[i] = b->group[(i - 1) / 2];
    b->group[i] = g;
}

static int in_list(const void *x, const void *y)
{
    return behind(x, y) ? 1 : -1; // no two are alike
}

static int by_row(const void *x, const void *y)
{
    const struct listed *a = x, *b = y;
    return a->kept < b->kept ? -1 : a->kept > b->kept;
}

static void find_biggest(struct biggest *b, const struct balance_result *r, const uint32_t *size)
{
    for (uint64_t i = 0; i < r->rows && b->room; i++)
        if (size[i] > 1)
            insert(b, (struct listed){.kept = (uint32_t)i, .size = size[i]});
}

// The first members of each. Leaves the groups in the order of the list.
static int list_members(struct biggest *b, const struct balance_result *r, struct err *e)
{
    size_t all = 0;
    for (size_t i = 0; i < b->n; i++) {
        b->group[i].at = all;
        all += b->group[i].size < b->members ? b->group[i].size : b->members;
    }
    b->listed = mem_alloc(all, sizeof *b->listed, e);
    if (!b->listed)
        return -1;
    if (b->n)
        qsort(b->group, b->n, sizeof *b->group, by_row);
    for (uint64_t row = 0; row < r->rows && b->n; row++) {
        struct listed wanted = {.kept = r->group[row]};
        struct listed *g = wanted.kept == BALANCE_NONE
                               ? NULL
                               : bsearch(&wanted, b->group, b->n, sizeof *b->group, by_row);
        if (g && g->n < b->members)
            b->listed[g->at + g->n++] = (uint32_t)row;
    }
    if (b->n)
        qsort(b->group, b->n, sizeof *b->group, in_list);
    return 0;
}

static int add_group(cJSON *list, const struct biggest *b, const struct listed *l,
                     const struct embedding_files *f, struct err *e)
{
    cJSON *g = json_add_object(list, NULL, e);
    if (!g || json_add_u64(g, "rows", l->size, e) ||
        add_row(json_add_object(g, "kept", e), f, l->kept, e))
        return -1;
    cJSON *rows = json_add_array(g, "members", e);
    for (size_t m = 0; rows && m < l->n; m++)
        if (add_row(json_add_object(rows, NULL, e), f, b->listed[l->at + m], e))
            return -1;
    return rows ? 0 : -1;
}

uint64_t balance_report_bytes(uint64_t count, uint64_t members, uint64_t rows)
{
    enum { GROUP = 600, MEMBER = 420 }; // cJSON: a node for each value, and the names
    uint64_t groups = count < rows / 2 ? count : rows / 2;
    uint64_t listed = groups > rows / members ? rows : groups * members;
    return groups * GROUP + listed * MEMBER + 4 * rows;
}

static int add_biggest(cJSON *o, const struct balance_result *r, const struct embedding_files *f,
                       const uint32_t *size, size_t count, size_t members, struct err *e)
{
    struct biggest b = {.room = count < r->rows ? count : r->rows, .members = members};
    cJSON *list = json_add_array(o, "biggest", e);
    if (!list)
        return -1;
    b.group = mem_alloc(b.room, sizeof *b.group, e);
    int rc = b.group ? 0 : -1;
    if (!rc) {
        find_biggest(&b, r, size);
        rc = list_members(&b, r, e);
    }
    for (size_t i = 0; i < b.n && !rc; i++)
        rc = add_group(list, &b, &b.group[i], f, e);
    free(b.group);
    free(b.listed);
    return rc;
}

int balance_report_groups(cJSON *o, const struct balance_result *r, const struct embedding_files *f,
                          size_t count, size_t members, struct err *e)
{
    uint32_t *size = mem_alloc(r->rows, sizeof *size, e);
    if (!size)
        return -1;
    for (uint64_t i = 0; i < r->rows; i++)
        if (r->group[i] != BALANCE_NONE)
            size[r->group[i]]++;
    int rc = add_histogram(o, size, r->rows, e);
    if (!rc)
        rc = add_biggest(o, r, f, size, count, members, e);
    free(size);
    return rc;
}

int balance_report_curve(const char *path, const struct balance_result *r, size_t steps,
                         struct err *e)
{
    struct out o;
    char line[96] = "distance\tkept\tshare\n";
    if (out_open(&o, path, e))
        return -1;
    int rc = out_write(&o, line, strlen(line), e);
    size_t under = 0;
    for (size_t i = 0; i <= steps && !rc; i++) {
        double d = r->reach * (double)i / (double)steps;
        while (under < r->n_merges && r->merges[under] < d)
            under++;
        uint64_t kept = r->usable - under;
        int n = snprintf(line, sizeof line, "%.6g\t%llu\t%.6f\n", d, (unsigned long long)kept,
                         r->usable ? (double)kept / (double)r->usable : 1);
        rc = out_write(&o, line, (size_t)n, e);
    }
    if (!rc)
        rc = out_commit(&o, e);
    out_abort(&o);
    return rc;
}
