// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>

#include "cluster/kmeans.h"
#include "base/mem.h"

int kmeans_prefetch_init(struct kmeans_prefetch *a, const struct kmeans_points *p, size_t most,
                         int threads, bool ahead, struct err *e)
{
    size_t items;
    *a = (struct kmeans_prefetch){.points = p, .threads = threads, .ahead = ahead && !p->cache};
    if (p->cache)
        return 0;
    if (!mem_mul(most, p->source->dim, &items))
        return err_set(e, "too many points for memory: %zu", most);
    for (int i = 0; i < 1 + a->ahead; i++) {
        a->rows[i] = mem_alloc(items, sizeof *a->rows[i], e);
        a->state[i] = a->rows[i] ? mem_alloc(most, 1, e) : NULL;
        if (!a->state[i])
            return -1;
    }
    return 0;
}

static void wait_for(struct kmeans_prefetch *a)
{
    if (a->reading)
        pthread_join(a->thread, NULL);
    a->reading = false;
}

void kmeans_prefetch_release(struct kmeans_prefetch *a)
{
    wait_for(a);
    for (int i = 0; i < 2; i++) {
        free(a->rows[i]);
        free(a->state[i]);
    }
    *a = (struct kmeans_prefetch){0};
}

static int read_side(struct kmeans_prefetch *a, int side, uint64_t first, uint64_t n,
                     const float **rows, const uint8_t **state, struct err *e)
{
    return kmeans_points_read(a->points, a->threads, first, n, a->rows[side], a->state[side], rows,
                              state, e);
}

static void *reader(void *arg)
{
    struct kmeans_prefetch *a = arg;
    const float *rows;
    const uint8_t *state;
    a->failed = read_side(a, !a->side, a->first, a->n, &rows, &state, &a->e) != 0;
    return NULL;
}

int kmeans_prefetch_read(struct kmeans_prefetch *a, uint64_t first, uint64_t n, uint64_t next,
                         const float **rows, const uint8_t **state, struct err *e)
{
    bool there = a->reading && a->first == first && a->n == n;
    wait_for(a);
    if (there && a->failed) {
        *e = a->e;
        return -1;
    }
    if (there) {
        a->side = !a->side;
        *rows = a->rows[a->side];
        *state = a->state[a->side];
    } else if (read_side(a, a->side, first, n, rows, state, e)) {
        return -1;
    }
    if (!a->ahead || !next)
        return 0;
    a->first = first + n;
    a->n = next;
    a->reading = pthread_create(&a->thread, NULL, reader, a) == 0; // else it is read when asked for
    return 0;
}
