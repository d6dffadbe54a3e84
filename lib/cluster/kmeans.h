// SPDX-License-Identifier: Apache-2.0
// Spherical k-means (Lloyd's algorithm on unit rows; Dhillon & Modha 2001; the empty cells as FAISS
// splits them): exact labels (search/nearest.h), sums in float64 in the order of the rows. So the
// centroids depend neither on the threads, nor on the memory, nor on how rows are read. Rows may
// be more than memory holds: they are read again in each iteration.
//
// kmeans_train has one or two levels. With two, K1 coarse clusters are found on a sample, every
// point goes to its coarse cluster, and each of these is cut into its share of the K clusters,
// proportional to its size.
#ifndef CLUSTER_KMEANS_H
#define CLUSTER_KMEANS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "system/digest.h"
#include "base/err.h"
#include "search/row-source.h"

enum kmeans_engine {
    KMEANS_EXACT, // this library's
    KMEANS_FAISS  // FAISS's Clustering with a flat index, one iteration a call; points in memory
};
// Whether this program was built with FAISS.
bool kmeans_has_faiss(void);

// What one iteration found. The objective is that of the centroids it began with.
struct kmeans_step {
    int level;     // 1, or 2 = within a coarse cluster
    uint32_t part; // of which coarse cluster
    int iteration; // 1 .. iterations
    size_t k;
    uint64_t points;  // usable ones
    uint64_t failed;  // zero and non-finite ones, left out
    double objective; // mean inner product with the nearest centroid
    double imbalance; // k * sum of (share of a cluster)^2; 1 = all alike
    size_t split;     // empty clusters, replaced by half of a big one
    bool settled;     // the centroids did not change: there is nothing more to do
    double seconds;
};

struct kmeans_state;
struct comm;
struct search_device;
struct kmeans_options {
    size_t k;
    int iterations;
    int levels;             // 1 or 2
    size_t coarse;          // K1; 0 = the square root of k
    uint64_t coarse_points; // training points of the coarse level; 0 = 2048 * K1
    uint64_t seed;
    bool normalize;    // false: rows are taken as they are; centroids are unit rows all the same
    const float *init; // k x dim centroids to start from (levels 1), or NULL: k random points
    enum kmeans_engine engine;
    struct search_device *device; // KMEANS_EXACT: makes the products; NULL = this processor
    int threads;
    uint64_t mem; // bytes that may be used, all in all
    // Several ranks (comm/comm.h), or NULL. All give the same points and options; all get the same
    // centroids, which do not depend on the number of ranks. With one level the points are dealt to
    // them (cluster/flat.h), with KMEANS_EXACT alone. With two the coarse level is done by each;
    // of level 2 a rank's state has its own part until the end.
    struct comm *comm;
    // After each iteration, in order within a part; from one thread at a time. 0 or -1.
    int (*step)(void *ctx, const struct kmeans_step *s, struct err *e);
    // When `state` is worth keeping: after each iteration of level 1 and each batch of parts of
    // level 2, and once more where signals_stop_wanted() ends the training. 0 or -1.
    int (*save)(void *ctx, const struct kmeans_state *s, struct err *e);
    void *ctx;
};

// Where a run stands. All zero = at the start. Continuing from a saved one gives the same centroids
// as not stopping.
struct kmeans_state {
    int level, iteration; // level 0: not begun; iterations of level 1 that are done
    size_t k1, dim, k;
    float *coarse;    // k1 x dim (levels 2)
    float *centroids; // k x dim
    uint8_t *done;    // per coarse cluster: its centroids are there
};
void kmeans_state_release(struct kmeans_state *s); // safe on a zeroed struct
// What a state belongs to.
struct kmeans_tag {
    char options[DIGEST_HEX]; // all that change the result
    char rows[DIGEST_HEX];    // the inputs and what chooses among their rows
};
// One file with a checksum, whole or not at all.
// kmeans_state_load: 1 read, 0 there is no such file, 2 it is of another run or version (e says
// what differs), -1 error.
int kmeans_state_save(const struct kmeans_state *s, const struct kmeans_tag *tag, const char *path,
                      struct err *e);
int kmeans_state_load(struct kmeans_state *s, const struct kmeans_tag *tag, const char *path,
                      struct err *e);

// The points to train on: rows of the source, ascending, or all (rows NULL).
struct kmeans_points {
    const struct row_source *source;
    const uint32_t *rows;
    uint64_t n;
    bool normalize;
    float *cache; // n x dim once loaded, or NULL
    uint8_t *state;
    bool borrowed; // cache and state belong to another struct
};
int kmeans_points_load(struct kmeans_points *p, int threads, struct err *e);
void kmeans_points_release(struct kmeans_points *p);
// Points [first, first + count): either copies into out and state (or sets *rows to the cache).
int kmeans_points_read(const struct kmeans_points *p, int threads, uint64_t first, uint64_t count,
                       float *out, uint8_t *out_state, const float **rows, const uint8_t **state,
                       struct err *e);

// Points at[0 .. n), ascending, to out (n x dim) and state.
int kmeans_points_gather(const struct kmeans_points *p, int threads, const uint64_t *at, uint64_t n,
                         float *out, uint8_t *state, struct err *e);

// Reads runs of points with one run of read-ahead on a helper thread, so that disk and device work
// overlap.
struct kmeans_prefetch {
    const struct kmeans_points *points;
    int threads;
    bool ahead;
    float *rows[2]; // the second with `ahead` only; none where the points are in memory
    uint8_t *state[2];
    int side; // of rows and state: the one that was returned last
    // The run that is being read into the other side
    pthread_t thread;
    bool reading, failed;
    uint64_t first, n;
    struct err e;
};
// `most`: the maximum of points in a run. Without `ahead` a run is read when it is requested. Call
// kmeans_prefetch_release after a failure too. 0 or -1.
int kmeans_prefetch_init(struct kmeans_prefetch *a, const struct kmeans_points *p, size_t most,
                         int threads, bool ahead, struct err *e);
void kmeans_prefetch_release(struct kmeans_prefetch *a); // safe on a zeroed struct
// *rows [n, dim] and *state [n]: points [first, first + n), valid until the next call. `next`: how
// many points behind these the next call will request, 0 = none. 0 or -1.
int kmeans_prefetch_read(struct kmeans_prefetch *a, uint64_t first, uint64_t n, uint64_t next,
                         const float **rows, const uint8_t **state, struct err *e);

// Trains; the result is s->centroids [k, dim] float32. 0 or -1. A signal that asks for the stop
// also gives -1, within about a second, with *s as after the last whole iteration (FAISS: after the
// current one).
int kmeans_train(const struct kmeans_points *p, const struct kmeans_options *o,
                 struct kmeans_state *s, struct err *e);
// The least `mem` that kmeans_train accepts for n points of dim values; 0 when none would do.
uint64_t kmeans_min_mem(uint64_t n, size_t dim, const struct kmeans_options *o);
// Points of the sample [0, n) as ascending rows of [0, of): the first n of a permutation. Heap.
uint32_t *kmeans_sample(uint64_t n, uint64_t of, uint64_t seed, uint64_t stream, struct err *e);
// How many of k rows are equal, bit for bit, to an earlier one. -1 when memory is short.
int64_t kmeans_duplicates(const float *centroids, size_t k, size_t dim);

#endif
