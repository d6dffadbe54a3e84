// SPDX-License-Identifier: Apache-2.0
// Operations played again: a CUDA graph of what was launched, for one launch in place of hundreds.
// The first time they run as they are, which sizes the slots and chooses the products; the second
// time they are captured; afterwards the graph is launched, until a slot gets other memory. Where
// something cannot be captured, and with CLIP_CID_CUDA_GRAPHS=0 in the environment, they run as
// they are for ever.
#include <cstdlib>

#include "device/cuda/cuda.h"

struct dev_record {
    bool warm, never;
    uint64_t slot_moves; // of the device, when it was captured
    cudaGraphExec_t exec;
};

static void drop(struct dev *d, struct dev_record *r)
{
    if (r->exec)
        cuda_check(d, cudaGraphExecDestroy(r->exec), "graphs");
    r->exec = NULL;
}

bool cuda_record(struct dev *d, struct dev_record **at)
{
    struct cuda *c = cuda_of(d);
    struct err e;
    if (!cuda_enter(d))
        return true; // nothing more is launched
    if (!*at && !(*at = (struct dev_record *)mem_alloc(1, sizeof **at, &e)))
        return true;
    struct dev_record *r = *at;
    if (r->exec && r->slot_moves == c->slot_moves) {
        cuda_check(d, cudaGraphLaunch(r->exec, c->stream), "graphs");
        return false;
    }
    drop(d, r);
    const char *graphs = getenv("CLIP_CID_CUDA_GRAPHS");
    r->never = r->never || (graphs && graphs[0] == '0');
    bool was_warm = r->warm;
    r->warm = true;
    if (!was_warm || r->never)
        return true;
    if (cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess) {
        c->recording = r;
        r->slot_moves = c->slot_moves;
        return true;
    }
    (void)cudaGetLastError();
    r->never = true;
    return true;
}

// What was captured has not run: it is launched, or given again by the caller.
bool cuda_recorded(struct dev *d, struct dev_record *r)
{
    struct cuda *c = cuda_of(d);
    if (!r || c->recording != r)
        return false;
    c->recording = NULL;
    cudaGraph_t graph = NULL;
    bool good = cudaStreamEndCapture(c->stream, &graph) == cudaSuccess && graph &&
                !cuda_failed(d) && r->slot_moves == c->slot_moves &&
                cudaGraphInstantiate(&r->exec, graph, 0) == cudaSuccess;
    if (!good) {
        (void)cudaGetLastError();
        d->failure.text[0] = '\0'; // of the capture: there was none before it
        r->never = true;
        r->exec = NULL;
    }
    if (graph)
        cuda_check(d, cudaGraphDestroy(graph), "graphs");
    if (good)
        cuda_check(d, cudaGraphLaunch(r->exec, c->stream), "graphs");
    return !good;
}

void cuda_record_free(struct dev *d, struct dev_record *r)
{
    if (r)
        drop(d, r);
    free(r);
}
