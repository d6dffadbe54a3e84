// SPDX-License-Identifier: Apache-2.0
#include "balance-report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io.h"
#include "mem.h"

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

static int add_row(cJSON *o, const struct sim_files *f, uint64_t row, struct err *e)
{
    const struct npy_part *p = &f->set.parts[npy_set_find(&f->set, row)];
    const char *slash = strrchr(p->path, '/');
    return o && !json_add_string(o, "file", slash ? slash + 1 : p->path, e)
               ? json_add_u64(o, "row", row - p->first, e)
               : -1;
}

// The biggest groups, in order: size, then lowest kept row.
struct biggest {
    size_t n, room;
    uint64_t *kept;   // room
    size_t *n_listed; // room
    uint64_t *listed; // room x members
    size_t members;
};

static void insert(struct biggest *b, const uint32_t *size, uint64_t row)
{
    if (b->n == b->room && size[row] <= size[b->kept[b->n - 1]])
        return;
    size_t i = b->n < b->room ? b->n++ : b->n - 1;
    for (; i > 0 && size[b->kept[i - 1]] < size[row]; i--)
        b->kept[i] = b->kept[i - 1];
    b->kept[i] = row;
}

static void find_biggest(struct biggest *b, const struct balance_result *r, const uint32_t *size)
{
    for (uint64_t i = 0; i < r->rows && b->room; i++)
        if (size[i] > 1)
            insert(b, size, i);
}

// The first members of each.
static void list_members(struct biggest *b, const struct balance_result *r, const uint32_t *size)
{
    uint32_t least = b->n ? size[b->kept[b->n - 1]] : UINT32_MAX;
    for (uint64_t row = 0; row < r->rows && b->n; row++) {
        uint32_t group = r->group[row];
        if (group == BALANCE_NONE || size[group] < least)
            continue;
        for (size_t i = 0; i < b->n; i++)
            if (b->kept[i] == group && b->n_listed[i] < b->members)
                b->listed[i * b->members + b->n_listed[i]++] = row;
    }
}

static int add_group(cJSON *list, const struct biggest *b, size_t i, const struct sim_files *f,
                     uint32_t size, struct err *e)
{
    cJSON *g = json_add_object(list, NULL, e);
    if (!g || json_add_u64(g, "rows", size, e) ||
        add_row(json_add_object(g, "kept", e), f, b->kept[i], e))
        return -1;
    cJSON *rows = json_add_array(g, "members", e);
    for (size_t m = 0; rows && m < b->n_listed[i]; m++)
        if (add_row(json_add_object(rows, NULL, e), f, b->listed[i * b->members + m], e))
            return -1;
    return rows ? 0 : -1;
}

static int add_biggest(cJSON *o, const struct balance_result *r, const struct sim_files *f,
                       const uint32_t *size, size_t count, size_t members, struct err *e)
{
    struct biggest b = {.room = count, .members = members};
    size_t listed;
    cJSON *list = json_add_array(o, "biggest", e);
    if (!list)
        return -1;
    if (!mem_mul(count, members, &listed))
        return err_set(e, "too many groups to list");
    b.kept = mem_alloc(count, sizeof *b.kept, e);
    b.n_listed = b.kept ? mem_alloc(count, sizeof *b.n_listed, e) : NULL;
    b.listed = b.n_listed ? mem_alloc(listed, sizeof *b.listed, e) : NULL;
    int rc = b.listed ? 0 : -1;
    if (!rc) {
        find_biggest(&b, r, size);
        list_members(&b, r, size);
    }
    for (size_t i = 0; i < b.n && !rc; i++)
        rc = add_group(list, &b, i, f, size[b.kept[i]], e);
    free(b.kept);
    free(b.n_listed);
    free(b.listed);
    return rc;
}

int balance_report_groups(cJSON *o, const struct balance_result *r, const struct sim_files *f,
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
