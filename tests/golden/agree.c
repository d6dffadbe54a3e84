// SPDX-License-Identifier: Apache-2.0
// Two files of embeddings, as two devices made them: the largest difference of a value.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "golden.h"
#include "base/mem.h"
#include "formats/npy.h"

// Largest difference of row r; infinity for a NaN on one side. -1 with err.
static double row_difference(const struct npy *a, const struct npy *b, uint64_t r, float *x,
                             float *y, struct err *e)
{
    double most = 0;
    if (npy_rows_f32(a, r, 1, x, e) || npy_rows_f32(b, r, 1, y, e))
        return -1;
    for (size_t i = 0; i < a->h.dim; i++) {
        double d = fabs((double)x[i] - (double)y[i]);
        if (d != d && (x[i] == x[i] || y[i] == y[i]))
            d = INFINITY;
        most = d > most ? d : most;
    }
    return most;
}

static int compare(const struct npy *a, const struct npy *b, double bound, struct err *e)
{
    double most = 0, d = 0;
    if (a->h.rows != b->h.rows || a->h.dim != b->h.dim || !a->h.rows)
        return err_set(e, "%llu x %zu against %llu x %zu values", (unsigned long long)a->h.rows,
                       a->h.dim, (unsigned long long)b->h.rows, b->h.dim);
    float *x = mem_alloc(2 * a->h.dim, sizeof *x, e);
    if (!x)
        return -1;
    for (uint64_t r = 0; r < a->h.rows && d >= 0; r++) {
        d = row_difference(a, b, r, x, x + a->h.dim, e);
        most = d > most ? d : most;
    }
    free(x);
    if (d < 0)
        return -1;
    printf("%llu rows: the largest difference is %.2e, the bound %.2e\n",
           (unsigned long long)a->h.rows, most, bound);
    return most <= bound ? 0 : 1;
}

int golden_agree(const char *a_path, const char *b_path, double bound)
{
    struct npy a = {0}, b = {0};
    struct err e = {0};
    int rc = npy_open(&a, a_path, &e);
    rc = rc ? rc : npy_open(&b, b_path, &e);
    rc = rc ? rc : compare(&a, &b, bound, &e);
    if (rc < 0)
        fprintf(stderr, "golden: %s\n", e.text);
    npy_close(&a);
    npy_close(&b);
    return rc ? 1 : 0;
}
