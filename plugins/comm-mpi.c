// SPDX-License-Identifier: Apache-2.0
// comm-mpi.so: ranks over MPI, for --comm mpi. One file, so that a cluster's own MPI can be used
// with tools that were built elsewhere:
//
//     mpicc -std=c11 -O2 -fPIC -shared -Ilib -o comm-mpi.so plugins/comm-mpi.c
#include <limits.h>
#include <mpi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/backend.h"

#ifndef COMM_MPI_MOST
#define COMM_MPI_MOST (1 << 30) // bytes of one message: MPI counts in int
#endif

static int failed(struct comm_backend *b, int code)
{
    char text[MPI_MAX_ERROR_STRING] = "unknown";
    int n = 0;
    MPI_Error_string(code, text, &n);
    text[strcspn(text, "\n")] = '\0';
    snprintf(b->why, sizeof b->why, "MPI: %.*s", COMM_WHY - 8, text);
    return -1;
}

static int piece(size_t n, size_t at)
{
    return (int)(n - at < COMM_MPI_MOST ? n - at : COMM_MPI_MOST);
}

// n bytes to one rank, m from another, in pieces. Who has no more waits for nobody.
static int move(struct comm_backend *b, int to, const char *give, size_t n, int from, char *take,
                size_t m)
{
    for (size_t at = 0; at < n || at < m; at += COMM_MPI_MOST) {
        bool gives = at < n, takes = at < m;
        int code = MPI_Sendrecv(gives ? give + at : NULL, gives ? piece(n, at) : 0, MPI_BYTE,
                                gives ? to : MPI_PROC_NULL, 1, takes ? take + at : NULL,
                                takes ? piece(m, at) : 0, MPI_BYTE, takes ? from : MPI_PROC_NULL, 1,
                                MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (code)
            return failed(b, code);
    }
    return 0;
}

static int gather_whole(struct comm_backend *b, const void *mine, const size_t *bytes, char *all)
{
    size_t size = (size_t)b->size;
    int *n = malloc(2 * size * sizeof *n), at = 0;
    if (!n) {
        snprintf(b->why, sizeof b->why, "out of memory");
        return -1;
    }
    for (size_t r = 0; r < size; r++) {
        n[r] = (int)bytes[r];
        n[size + r] = at;
        at += n[r];
    }
    bool in_place = mine == all + n[size + (size_t)b->rank];
    int code = MPI_Allgatherv(in_place ? MPI_IN_PLACE : mine, n[b->rank], MPI_BYTE, all, n,
                              n + size, MPI_BYTE, MPI_COMM_WORLD);
    free(n);
    return code ? failed(b, code) : 0;
}

static int gather(struct comm_backend *b, const char *what, const void *mine, const size_t *bytes,
                  void *all)
{
    size_t sum = 0;
    int r = 0;
    (void)what;
    for (int i = 0; i < b->size; i++)
        sum += bytes[i];
    if (sum <= COMM_MPI_MOST)
        return gather_whole(b, mine, bytes, all);
    for (int s = 0; s < b->size && !r; s++) {
        int to = (b->rank + s) % b->size, from = (b->rank - s + b->size) % b->size;
        char *at = all;
        for (int i = 0; i < from; i++)
            at += bytes[i];
        if (s)
            r = move(b, to, mine, bytes[b->rank], from, at, bytes[from]);
        else if (at != mine)
            memcpy(at, mine, bytes[from]);
    }
    return r;
}

static int exchange(struct comm_backend *b, const char *what, int peer, const void *give,
                    size_t n_give, void *take, size_t n_take)
{
    (void)what;
    return move(b, peer, give, n_give, peer, take, n_take);
}

static int spread(struct comm_backend *b, const char *what, const void *give, const size_t *n_give,
                  void *take, const size_t *n_take)
{
    int r = 0;
    (void)what;
    for (int s = 0; s < b->size && !r; s++) {
        int to = (b->rank + s) % b->size, from = (b->rank - s + b->size) % b->size;
        const char *out = give;
        char *in = take;
        for (int i = 0; i < to; i++)
            out += n_give[i];
        for (int i = 0; i < from; i++)
            in += n_take[i];
        if (s)
            r = move(b, to, out, n_give[to], from, in, n_take[from]);
        else if (n_take[from])
            memcpy(in, out, n_take[from]);
    }
    return r;
}

static int barrier(struct comm_backend *b, const char *what)
{
    (void)what;
    int code = MPI_Barrier(MPI_COMM_WORLD);
    return code ? failed(b, code) : 0;
}

static void give_up(struct comm_backend *b, int status)
{
    (void)b;
    MPI_Abort(MPI_COMM_WORLD, status);
}

static void finish(struct comm_backend *b)
{
    (void)b;
    MPI_Finalize();
}

int clip_cid_comm(int version, struct comm_backend *b)
{
    int level, code;
    if (version != COMM_VERSION) {
        snprintf(b->why, sizeof b->why, "it is of version %d, this program needs %d", COMM_VERSION,
                 version);
        return -1;
    }
    code = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level);
    if (code)
        return failed(b, code);
    if (level < MPI_THREAD_SERIALIZED) {
        snprintf(b->why, sizeof b->why, "this MPI may not be called from a second thread");
        MPI_Finalize();
        return -1;
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    *b = (struct comm_backend){.gather = gather,
                               .exchange = exchange,
                               .spread = spread,
                               .barrier = barrier,
                               .abort = give_up,
                               .close = finish};
    MPI_Comm_rank(MPI_COMM_WORLD, &b->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &b->size);
    return 0;
}
