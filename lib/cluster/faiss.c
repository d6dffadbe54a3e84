// SPDX-License-Identifier: Apache-2.0
// FAISS's Clustering with a flat inner-product index, through its C interface, one iteration a
// call, so that every iteration can be seen and saved. Training on exactly k points makes FAISS
// take these points as the centroids; that is how ours get in.
#include <limits.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#include <faiss/c_api/Clustering_c.h>
#include <faiss/c_api/IndexFlat_c.h>
#include <faiss/c_api/error_c.h>

#include "base/clock.h"
#include "cluster/run.h"
#include "system/signals.h"
#include "search/dot-block.h"

extern void openblas_set_num_threads(int n) __attribute__((weak));

// An element of FAISS's list of statistics (faiss/Clustering.h). The C interface gives the first
// and their number but not their size, and the first is of the call that set the centroids.
// check_layout looks whether the FAISS that is linked has them so.
struct element {
    float obj;
    double time, time_search, imbalance_factor;
    int nsplit;
};

static int failed(struct err *e)
{
    const char *why = faiss_get_last_error();
    return err_set(e, "FAISS: %s", why ? why : "unknown error");
}

// The statistics of the last call; NULL: there are none.
static FaissClusteringIterationStats *last_stats(FaissClustering *c)
{
    FaissClusteringIterationStats *all;
    size_t n = 0;
    faiss_Clustering_iteration_stats(c, &all, &n);
    return n ? (FaissClusteringIterationStats *)((struct element *)all + n - 1) : NULL;
}

static int iteration(const struct kmeans_job *j, FaissClustering *c, FaissIndexFlatIP *index, int i,
                     struct err *e)
{
    const struct kmeans_points *p = j->points;
    double began = clock_seconds();
    size_t n = 0, bytes = j->k * p->source->dim * sizeof(float);
    float *now;
    if (faiss_Clustering_train(c, (idx_t)p->n, p->cache, index))
        return failed(e);
    faiss_Clustering_centroids(c, &now, &n);
    if (n != j->k * p->source->dim)
        return err_set(e, "FAISS gave %zu values for %zu centroids", n, j->k);
    bool settled = !memcmp(now, j->centroids, bytes);
    memcpy(j->centroids, now, bytes);
    struct kmeans_step s = {.level = j->level,
                            .part = j->part,
                            .iteration = i,
                            .k = j->k,
                            .points = p->n,
                            .settled = settled,
                            .seconds = clock_seconds() - began};
    FaissClusteringIterationStats *last = last_stats(c);
    if (last) {
        s.objective = faiss_ClusteringIterationStats_obj(last) / (double)p->n;
        s.imbalance = faiss_ClusteringIterationStats_imbalance_factor(last);
        s.split = (size_t)faiss_ClusteringIterationStats_nsplit(last);
    }
    int r = j->step ? j->step(j->ctx, &s, e) : 0;
    return r ? -1 : settled ? 1 : 0;
}

// A Clustering that has the centroids and will do one iteration from them.
static int start(const struct kmeans_job *j, FaissClustering **c, FaissIndexFlatIP *index,
                 struct err *e)
{
    FaissClusteringParameters how;
    size_t dim = j->points->source->dim;
    faiss_ClusteringParameters_init(&how);
    how.niter = 1;
    how.spherical = 1;
    how.seed = (int)(j->seed & INT_MAX);
    how.min_points_per_centroid = 1;
    how.max_points_per_centroid = INT_MAX;
    if (faiss_Clustering_new_with_params(c, (int)dim, (int)j->k, &how))
        return failed(e);
    if (faiss_Clustering_train(*c, (idx_t)j->k, j->centroids, index)) {
        faiss_Clustering_free(*c);
        return failed(e);
    }
    return 0;
}

// Four points and two centroids whose objective, imbalance and splits are known.
static int check_layout(FaissIndexFlatIP *index, struct err *e)
{
    float x[] = {1, 0, 0.8F, 0.6F, 0, 1, 0.6F, 0.8F}, centroids[] = {1, 0, 0, 1};
    struct row_memory m;
    struct row_source source = row_source_memory(&m, x, 4, 2);
    struct kmeans_points p = {.source = &source, .n = 4, .cache = x, .borrowed = true};
    struct kmeans_job j = {.points = &p, .k = 2, .centroids = centroids, .seed = 1};
    FaissClustering *c = NULL;
    if (start(&j, &c, index, e))
        return -1;
    int r = faiss_Clustering_train(c, 4, x, index) ? failed(e) : 0;
    FaissClusteringIterationStats *last = r ? NULL : last_stats(c);
    if (!r && (!last || fabsf(faiss_ClusteringIterationStats_obj(last) - 3.6F) > 1e-4F ||
               fabs(faiss_ClusteringIterationStats_imbalance_factor(last) - 1) > 1e-6 ||
               faiss_ClusteringIterationStats_nsplit(last) != 0))
        r = err_set(e, "this FAISS keeps its statistics in another form than 1.7 does: use the "
                       "exact engine");
    faiss_Clustering_free(c);
    return r;
}

static int check_version(struct err *e)
{
    FaissIndexFlatIP *index = NULL;
    int r = faiss_IndexFlatIP_new_with(&index, 2) ? failed(e) : check_layout(index, e);
    if (index)
        faiss_IndexFlatIP_free(index);
    return r;
}

int kmeans_faiss(const struct kmeans_job *j, struct err *e)
{
    FaissIndexFlatIP *index = NULL;
    FaissClustering *c = NULL;
    if (j->k > INT_MAX || j->points->source->dim > INT_MAX || !j->points->cache)
        return err_set(e, "FAISS needs the points in memory, and not so many centroids");
    for (uint64_t i = 0; i < j->points->n; i++)
        if (row_failed(j->points->state[i]))
            return err_set(e, "the faiss engine takes no failed rows");
    omp_set_num_threads(j->threads);
    if (openblas_set_num_threads)
        openblas_set_num_threads(j->threads);
    int r = check_version(e);
    if (!r)
        r = faiss_IndexFlatIP_new_with(&index, (idx_t)j->points->source->dim) ? failed(e) : 0;
    for (int i = j->first; i < j->iterations && !r; i++) {
        if (signals_stop_wanted()) { // nobody can stop FAISS itself
            r = err_set(e, "stopped");
            break;
        }
        r = start(j, &c, index, e);
        if (!r) {
            r = iteration(j, c, index, i + 1, e);
            faiss_Clustering_free(c);
        }
    }
    if (index)
        faiss_IndexFlatIP_free(index);
    if (openblas_set_num_threads)
        openblas_set_num_threads(1);
    return r < 0 ? -1 : 0;
}
