// SPDX-License-Identifier: Apache-2.0
// FAISS is C++: its Clustering behind one C function.
extern "C" {
#include "cluster/faiss.h"
}

#include <faiss/Clustering.h>
#include <faiss/IndexFlat.h>

#include <climits>
#include <cstring>
#include <exception>

extern "C" int faiss_iterate(struct faiss_iteration *it, struct err *e)
{
    try {
        faiss::ClusteringParameters how;
        how.niter = 1;
        how.spherical = true;
        how.seed = it->seed;
        how.min_points_per_centroid = 1;
        how.max_points_per_centroid = INT_MAX; // FAISS would take 256 a centroid
        faiss::Clustering c((int)it->dim, (int)it->k, how);
        const size_t bytes = it->k * it->dim * sizeof(float);
        c.centroids.assign(it->centroids, it->centroids + it->k * it->dim);
        faiss::IndexFlatIP index((int64_t)it->dim);
        c.train((int64_t)it->n, it->points, index);
        if (c.centroids.size() != it->k * it->dim)
            return err_set(e, "FAISS gave %zu values for %zu centroids", c.centroids.size(), it->k);
        // With as many points as centroids FAISS takes the points and counts nothing.
        if (!c.iteration_stats.empty()) {
            const auto &last = c.iteration_stats.back();
            it->objective = last.obj;
            it->imbalance = last.imbalance_factor;
            it->split = (size_t)last.nsplit;
        }
        it->settled = !std::memcmp(c.centroids.data(), it->centroids, bytes);
        std::memcpy(it->centroids, c.centroids.data(), bytes);
        return 0;
    } catch (const std::exception &x) {
        return err_set(e, "FAISS: %s", x.what());
    }
}
