// SPDX-License-Identifier: Apache-2.0
// comm-nccl.so: from GPU to GPU by NCCL, for --comm nccl. Ranks that know each other already
// (comm-mpi.so) open it. One file, so that a cluster's own NCCL can be used with tools that were
// built elsewhere:
//
//     cc -std=c11 -O2 -fPIC -shared -Ilib -I$CUDA/include -o comm-nccl.so plugins/comm-nccl.c
//        -L$CUDA/lib -lnccl
#include <nccl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/backend.h"

struct nccl {
    ncclComm_t comm;
    cudaStream_t stream;
};

static int failed(struct comm_backend *b, const char *where, ncclResult_t code)
{
    snprintf(b->why, sizeof b->why, "NCCL: %s: %s", where, ncclGetErrorString(code));
    return -1;
}

// Ends the group that was begun, after `code` of the calls in it.
static int end_group(struct comm_backend *b, const char *what, ncclResult_t code)
{
    ncclResult_t end = ncclGroupEnd();
    return code || end ? failed(b, what, code ? code : end) : 0;
}

static int gather(struct comm_backend *b, const char *what, const void *mine, const size_t *bytes,
                  void *all)
{
    const struct nccl *n = b->impl;
    bool even = true;
    for (int r = 1; r < b->size; r++)
        even &= bytes[r] == bytes[0];
    if (even) {
        ncclResult_t code = ncclAllGather(mine, all, bytes[0], ncclInt8, n->comm, n->stream);
        return code ? failed(b, what, code) : 0;
    }
    ncclResult_t code = ncclGroupStart();
    if (code)
        return failed(b, what, code);
    char *at = all;
    for (int r = 0; r < b->size && !code; r++) {
        code =
            ncclBroadcast(r == b->rank ? mine : at, at, bytes[r], ncclInt8, r, n->comm, n->stream);
        at += bytes[r];
    }
    return end_group(b, what, code);
}

// Both ways with one rank, inside a group.
static ncclResult_t both(const struct nccl *n, int peer, const char *give, size_t n_give,
                         char *take, size_t n_take)
{
    ncclResult_t code = ncclSuccess;
    if (n_give)
        code = ncclSend(give, n_give, ncclInt8, peer, n->comm, n->stream);
    if (n_take && !code)
        code = ncclRecv(take, n_take, ncclInt8, peer, n->comm, n->stream);
    return code;
}

static int exchange(struct comm_backend *b, const char *what, int peer, const void *give,
                    size_t n_give, void *take, size_t n_take)
{
    ncclResult_t code = ncclGroupStart();
    if (code)
        return failed(b, what, code);
    return end_group(b, what, both(b->impl, peer, give, n_give, take, n_take));
}

static int spread(struct comm_backend *b, const char *what, const void *give, const size_t *n_give,
                  void *take, const size_t *n_take)
{
    const char *out = give;
    char *in = take;
    ncclResult_t code = ncclGroupStart();
    if (code)
        return failed(b, what, code);
    for (int r = 0; r < b->size && !code; r++) {
        code = both(b->impl, r, out, n_give[r], in, n_take[r]);
        out += n_give[r];
        in += n_take[r];
    }
    return end_group(b, what, code);
}

static void finish(struct comm_backend *b)
{
    struct nccl *n = b->impl;
    ncclCommDestroy(n->comm);
    free(n);
}

// Rank 0's id on all ranks, or its failure.
static int share_id(struct comm_backend *host, struct comm_backend *b, ncclUniqueId *id)
{
    struct ticket {
        ncclResult_t code;
        ncclUniqueId id;
    } mine = {.code = ncclSuccess};
    size_t size = (size_t)b->size, *bytes = malloc(size * sizeof *bytes);
    struct ticket *all = malloc(size * sizeof *all);
    int rc = bytes && all ? 0 : -1;
    if (rc)
        snprintf(b->why, sizeof b->why, "out of memory");
    if (b->rank == 0)
        mine.code = ncclGetUniqueId(&mine.id);
    for (size_t r = 0; r < size && !rc; r++)
        bytes[r] = sizeof mine;
    if (!rc && host->gather(host, "NCCL's id", &mine, bytes, all)) {
        memcpy(b->why, host->why, sizeof b->why);
        rc = -1;
    }
    if (!rc && all[0].code)
        rc = failed(b, "its id", all[0].code);
    if (!rc)
        *id = all[0].id;
    free(bytes);
    free(all);
    return rc;
}

int clip_cid_comm_device(int version, struct comm_backend *host, void *stream,
                         struct comm_backend *b)
{
    if (version != COMM_VERSION) {
        snprintf(b->why, sizeof b->why, "it is of version %d, this program needs %d", COMM_VERSION,
                 version);
        return -1;
    }
    ncclUniqueId id;
    if (share_id(host, b, &id))
        return -1;
    struct nccl *n = calloc(1, sizeof *n);
    if (!n) {
        snprintf(b->why, sizeof b->why, "out of memory");
        return -1;
    }
    n->stream = stream;
    ncclResult_t code = ncclCommInitRank(&n->comm, b->size, id, b->rank);
    if (code) {
        free(n);
        return failed(b, "opening", code);
    }
    b->impl = n;
    b->gather = gather;
    b->exchange = exchange;
    b->spread = spread;
    b->close = finish;
    return 0;
}
