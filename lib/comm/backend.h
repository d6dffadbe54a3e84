// SPDX-License-Identifier: Apache-2.0
// What moves bytes between ranks. A back end does no arithmetic, so it cannot change a result. A
// plug-in (comm-mpi.so, comm-nccl.so) includes this header alone and can be compiled on the machine
// that it is for.
#ifndef COMM_BACKEND_H
#define COMM_BACKEND_H

#include <stddef.h>

// Changes with anything below. A plug-in of another version is refused.
enum { COMM_VERSION = 1, COMM_WHY = 256 };

// Every function returns 0, or -1 with `why` set: one line, no capital, no full stop. All sizes are
// in bytes. `what` names the message; it lives as long as the call. All ranks make the same calls
// in the same order, from one thread at a time. rank and size are known once the back end is open.
struct comm_backend {
    int rank, size;
    void *impl;
    char why[COMM_WHY];
    // all = the `mine` of all ranks, in their order: bytes[r] of rank r, the same bytes[] on all.
    // `mine` may be its own place in `all`.
    int (*gather)(struct comm_backend *b, const char *what, const void *mine, const size_t *bytes,
                  void *all);
    // With one other rank, both ways at once: gives n_give bytes, takes n_take. They do not
    // overlap.
    int (*exchange)(struct comm_backend *b, const char *what, int peer, const void *give,
                    size_t n_give, void *take, size_t n_take);
    // Of everyone to everyone: n_give[r] bytes for rank r, those of the ranks one after the other;
    // n_take[r] bytes of rank r likewise. A rank's own are copied. They do not overlap.
    int (*spread)(struct comm_backend *b, const char *what, const void *give, const size_t *n_give,
                  void *take, const size_t *n_take);
    int (*barrier)(struct comm_backend *b, const char *what);
    // Ends the other ranks' calls, or the other ranks; may end this process with `status`.
    void (*abort)(struct comm_backend *b, int status);
    void (*close)(struct comm_backend *b);
};

// What a plug-in exports. Fills *b; `why` says what is wrong where it returns -1.
typedef int comm_plugin_fn(int version, struct comm_backend *b);
#define COMM_PLUGIN_NAME "clip_cid_comm"
int clip_cid_comm(int version, struct comm_backend *b);

// What a plug-in exports that moves bytes from device to device. All pointers of its functions are
// then the device's, and its calls are queued on `stream` (the device's own type of it), in order
// with everything else there. `host` opens it: all ranks call this together, and it outlives *b.
// *b has neither barrier nor abort.
typedef int comm_device_fn(int version, struct comm_backend *host, void *stream,
                           struct comm_backend *b);
#define COMM_DEVICE_NAME "clip_cid_comm_device"
int clip_cid_comm_device(int version, struct comm_backend *host, void *stream,
                         struct comm_backend *b);

#endif
