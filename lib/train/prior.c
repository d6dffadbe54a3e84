// SPDX-License-Identifier: Apache-2.0
#include "train/prior.h"

#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/path.h"
#include "formats/npy.h"

static int open_mask(struct npy *m, const char *keep, const char *name, uint64_t rows,
                     struct err *e)
{
    char path[PATH_MAX];
    *m = (struct npy){0};
    if (!keep)
        return 0;
    if (path_join(path, keep, name, e) || npy_open(m, path, e))
        return -1;
    if (m->h.type == NPY_U1 && m->h.n_dims == 1 && m->h.rows == rows)
        return 0;
    npy_close(m);
    return err_set(e, "%s: no keep mask of %llu rows", path, (unsigned long long)rows);
}

static int count_file(const char *labels, const char *keep, const char *name, size_t k,
                      uint64_t *count, struct err *e)
{
    char path[PATH_MAX];
    struct npy a, mask;
    if (path_join(path, labels, name, e) || npy_open(&a, path, e))
        return -1;
    int rc = a.h.type == NPY_I4 ? open_mask(&mask, keep, name, a.h.rows, e)
                                : err_set(e, "%s: labels are <i4", path);
    const int32_t *y = a.data;
    size_t n = a.h.dim ? a.h.dim : 1;
    for (uint64_t i = 0; i < a.h.rows * n && !rc; i++) {
        if (y[i] >= 0 && (size_t)y[i] >= k)
            rc = err_set(e, "%s: label %d: there are %zu centroids", path, (int)y[i], k);
        else if (y[i] >= 0 && (!mask.data || npy_item_i64(&mask, i / n)))
            count[y[i]]++;
    }
    npy_close(&a);
    if (!rc)
        npy_close(&mask);
    return rc;
}

// count[k]: labels of the set; *all: their sum. 0 or -1.
static int count_set(const struct prior_set *s, size_t k, uint64_t *count, uint64_t *all,
                     struct err *e)
{
    memset(count, 0, k * sizeof *count);
    for (const char *p = s->names; *p;) {
        char name[NAME_MAX + 1];
        size_t n = strcspn(p, "\n");
        if (n >= sizeof name)
            return err_set(e, "a name of a file is too long");
        memcpy(name, p, n);
        name[n] = '\0';
        if (count_file(s->labels, s->keep, name, k, count, e))
            return -1;
        p += n + (p[n] == '\n');
    }
    *all = 0;
    for (size_t i = 0; i < k; i++)
        *all += count[i];
    return *all ? 0 : err_set(e, "--cluster-prior: no sample of '%s' has a label", s->labels);
}

int train_prior(const struct prior_set *sets, size_t n, double tau, size_t k, float *prior,
                struct err *e)
{
    uint64_t *count = mem_alloc(k, sizeof *count, e), all;
    double *share = mem_alloc(k, sizeof *share, e), sum = 0, half = 0;
    int rc = count && share ? 0 : -1;
    for (size_t i = 0; i < n; i++)
        sum += sets[i].weight;
    for (size_t s = 0; s < n && !rc; s++) {
        rc = count_set(&sets[s], k, count, &all, e);
        double w = sets[s].weight / sum;
        for (size_t i = 0; i < k && !rc; i++)
            share[i] += w * ((double)count[i] / (double)all);
        half += rc ? 0 : w * (0.5 / (double)all);
    }
    for (size_t i = 0; i < k && !rc; i++)
        prior[i] = (float)(tau * log(share[i] > 0 ? share[i] : half));
    free(count);
    free(share);
    return rc;
}
