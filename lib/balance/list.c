// SPDX-License-Identifier: Apache-2.0
// Which row was dropped for which, as a table.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "balance/keys.h"
#include "balance/report.h"
#include "system/io.h"
#include "base/mem.h"
#include "search/dot-block.h"

enum { BATCH = 2048 };

struct pairs {
    const struct row_source *source;
    const struct embedding_files *files;
    struct out out;
    uint64_t row[BATCH], kept[BATCH];
    size_t n;
    float *x, *y;             // BATCH x dim
    uint64_t *sorted;         // kept rows in their order, and where each came from: 2 x BATCH
    struct balance_keys keys; // place NULL: without keys
};

static const char *name_of(const struct embedding_files *f, uint64_t row, uint64_t *in_file)
{
    const struct npy_part *p = &f->set.parts[npy_set_find(&f->set, row)];
    *in_file = row - p->first;
    return path_base(p->path);
}

static int by_row(const void *x, const void *y)
{
    const uint64_t *a = x, *b = y;
    return a[0] < b[0] ? -1 : a[0] > b[0];
}

// The kept rows of a batch to y, read in the order of the files.
static int read_kept(struct pairs *p, struct err *e)
{
    size_t dim = p->source->dim;
    uint64_t rows[BATCH];
    for (size_t i = 0; i < p->n; i++) {
        p->sorted[2 * i] = p->kept[i];
        p->sorted[2 * i + 1] = i;
    }
    qsort(p->sorted, p->n, 2 * sizeof *p->sorted, by_row);
    for (size_t i = 0; i < p->n; i++)
        rows[i] = p->sorted[2 * i];
    if (p->source->gather(p->source->ctx, rows, p->n, p->x, e))
        return -1;
    for (size_t i = 0; i < p->n; i++)
        memcpy(p->y + p->sorted[2 * i + 1] * dim, p->x + i * dim, dim * sizeof *p->y);
    return 0;
}

static int put_text(struct pairs *p, const char *text, struct err *e)
{
    char clean[2] = "?";
    for (; *text; text++) { // a name with a TAB or a line feed must not make another column
        clean[0] = (unsigned char)*text < 0x20 ? '?' : *text;
        if (out_write(&p->out, clean, 1, e))
            return -1;
    }
    return 0;
}

static int put_keys(struct pairs *p, size_t i, struct err *e)
{
    char key[BALANCE_KEY];
    const uint64_t rows[2] = {p->row[i], p->kept[i]};
    for (int k = 0; k < 2 && p->keys.place; k++)
        if (balance_keys_get(&p->keys, rows[k], key, e) || out_write(&p->out, "\t", 1, e) ||
            put_text(p, key, e))
            return -1;
    return 0;
}

static int put_line(struct pairs *p, size_t i, struct err *e)
{
    size_t dim = p->source->dim;
    const float *x = p->x + i * dim, *y = p->y + i * dim;
    double cosine = dot_exact(x, y, dim) / sqrt(dot_exact(x, x, dim) * dot_exact(y, y, dim));
    uint64_t row, kept;
    char figures[64];
    const char *name = name_of(p->files, p->row[i], &row);
    const char *other = name_of(p->files, p->kept[i], &kept);
    int n = snprintf(figures, sizeof figures, "\t%llu\t", (unsigned long long)row);
    if (put_text(p, name, e) || out_write(&p->out, figures, (size_t)n, e) || put_text(p, other, e))
        return -1;
    n = snprintf(figures, sizeof figures, "\t%llu\t%.6f", (unsigned long long)kept, cosine);
    return out_write(&p->out, figures, (size_t)n, e) || put_keys(p, i, e) ||
                   out_write(&p->out, "\n", 1, e)
               ? -1
               : 0;
}

static int flush(struct pairs *p, struct err *e)
{
    if (!p->n)
        return 0;
    if (read_kept(p, e) || p->source->gather(p->source->ctx, p->row, p->n, p->x, e))
        return -1;
    for (size_t i = 0; i < p->n; i++)
        if (put_line(p, i, e))
            return -1;
    p->n = 0;
    return 0;
}

static int put_all(struct pairs *p, const struct balance_result *r, struct err *e)
{
    const char *head = p->keys.place ? "file\trow\tkept_file\tkept_row\tcosine\tkey\tkept_key\n"
                                     : "file\trow\tkept_file\tkept_row\tcosine\n";
    if (out_write(&p->out, head, strlen(head), e))
        return -1;
    for (uint64_t i = 0; i < r->rows; i++) {
        if (r->group[i] == BALANCE_NONE || r->group[i] == i)
            continue;
        p->row[p->n] = i;
        p->kept[p->n++] = r->group[i];
        if (p->n == BATCH && flush(p, e))
            return -1;
    }
    return flush(p, e);
}

int balance_report_pairs(const char *path, const struct balance_result *r,
                         const struct embedding_files *f, const char *index_dir, struct err *e)
{
    struct pairs *p = mem_alloc(1, sizeof *p, e);
    if (!p)
        return -1;
    p->source = &f->source;
    p->files = f;
    p->out.fd = -1;
    p->x = mem_alloc(BATCH * f->set.dim, sizeof *p->x, e);
    p->y = p->x ? mem_alloc(BATCH * f->set.dim, sizeof *p->y, e) : NULL;
    p->sorted = p->y ? mem_alloc(BATCH * 2, sizeof *p->sorted, e) : NULL;
    int rc = p->sorted && !(index_dir && balance_keys_open(&p->keys, index_dir, f, e)) &&
                     !out_open(&p->out, path, e)
                 ? put_all(p, r, e)
                 : -1;
    balance_keys_close(&p->keys);
    if (!rc)
        rc = out_commit(&p->out, e);
    out_abort(&p->out);
    free(p->x);
    free(p->y);
    free(p->sorted);
    free(p);
    return rc;
}
