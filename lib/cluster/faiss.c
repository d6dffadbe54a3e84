// SPDX-License-Identifier: Apache-2.0
// FAISS's Clustering with a flat inner-product index, one iteration a call (faiss-train.cc), so
// that every iteration can be seen and saved.
#include "cluster/faiss.h"

#include <limits.h>
#include <omp.h>
#include <string.h>

#include "base/clock.h"
#include "cluster/run.h"
#include "search/dot-block.h"
#include "system/signals.h"

#ifdef CLIPCID_FAISS
extern void openblas_set_num_threads(int n) __attribute__((weak));

bool kmeans_has_faiss(void)
{
    return true;
}

// 0 go on, 1 settled, -1 error.
static int iteration(const struct kmeans_job *j, int i, struct err *e)
{
    const struct kmeans_points *p = j->points;
    double began = clock_seconds();
    struct faiss_iteration f = {.dim = p->source->dim,
                                .k = j->k,
                                .n = p->n,
                                .points = p->cache,
                                .centroids = j->centroids,
                                .seed = (int)(j->seed & INT_MAX)};
    if (faiss_iterate(&f, e))
        return -1;
    struct kmeans_step s = {.level = j->level,
                            .part = j->part,
                            .iteration = i,
                            .k = j->k,
                            .points = p->n,
                            .objective = f.objective / (double)p->n,
                            .imbalance = f.imbalance,
                            .split = f.split,
                            .settled = f.settled,
                            .seconds = clock_seconds() - began};
    int r = j->step ? j->step(j->ctx, &s, e) : 0;
    return r ? -1 : f.settled;
}

int kmeans_faiss(const struct kmeans_job *j, struct err *e)
{
    if (j->k > INT_MAX || j->points->source->dim > INT_MAX || !j->points->cache)
        return err_set(e, "FAISS needs the points in memory, and not so many centroids");
    for (uint64_t i = 0; i < j->points->n; i++)
        if (row_failed(j->points->state[i]))
            return err_set(e, "the faiss engine takes no failed rows");
    omp_set_num_threads(j->threads);
    if (openblas_set_num_threads)
        openblas_set_num_threads(j->threads);
    int r = 0;
    for (int i = j->first; i < j->iterations && !r; i++)
        r = signals_stop_wanted() ? err_set(e, "stopped") // nobody can stop FAISS itself
                                  : iteration(j, i + 1, e);
    if (openblas_set_num_threads)
        openblas_set_num_threads(1);
    return r < 0 ? -1 : 0;
}
#else
bool kmeans_has_faiss(void)
{
    return false;
}

int kmeans_faiss(const struct kmeans_job *j, struct err *e)
{
    (void)j;
    return err_set(e, "this program was built without FAISS (make FAISS=1, with libfaiss-dev)");
}
#endif
