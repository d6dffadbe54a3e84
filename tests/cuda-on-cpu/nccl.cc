// SPDX-License-Identifier: Apache-2.0
// NCCL's stand-in: processes of one host, through shared memory. A call or a group is work of its
// stream. Each ordered pair of ranks has a box of BOX bytes, full or empty; messages of a pair go
// through it in their order.
#include "nccl.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "cuda_runtime.h"

namespace
{
const size_t BOX = 32 << 10;
const int PATIENCE = 100; // seconds

struct box {
    std::atomic<uint32_t> bytes; // 0: empty
    char data[BOX];
};
struct board {
    std::atomic<int> here;
    box boxes[1]; // [size * size]: from, to
};
struct message {
    int peer;
    bool give;
    char *at;
    size_t left;
};

[[noreturn]] void die(const char *what)
{
    fprintf(stderr, "nccl on cpu: %s\n", what);
    abort();
}
} // namespace

struct ncclComm {
    int rank, size;
    board *b;
    size_t mapped;
};

namespace
{
int depth;
std::vector<message> group;
ncclComm_t group_comm;
cudaStream_t group_stream;

// One box full, one way: true if something moved.
bool step(ncclComm *c, message &m)
{
    int from = m.give ? c->rank : m.peer, to = m.give ? m.peer : c->rank;
    box &x = c->b->boxes[from * c->size + to];
    uint32_t held = x.bytes.load(std::memory_order_acquire);
    if (m.give == (held != 0))
        return false;
    if (m.give) {
        held = (uint32_t)(m.left < BOX ? m.left : BOX);
        memcpy(x.data, m.at, held);
    } else {
        if (held > m.left)
            die("more was sent than is received");
        memcpy(m.at, x.data, held);
    }
    m.at += held;
    m.left -= held;
    x.bytes.store(m.give ? held : 0, std::memory_order_release);
    return true;
}

void move(ncclComm *c, const std::vector<message> &messages)
{
    std::deque<message> ways[2]; // give, take; a later message of a pair waits for the earlier
    for (const message &m : messages)
        if (m.left)
            ways[!m.give].push_back(m);
    time_t since = time(nullptr);
    while (!ways[0].empty() || !ways[1].empty()) {
        bool moved = false;
        for (auto &way : ways) {
            std::vector<bool> busy((size_t)c->size);
            for (auto m = way.begin(); m != way.end();) {
                bool first = !busy[(size_t)m->peer];
                busy[(size_t)m->peer] = true;
                moved |= first && step(c, *m);
                m = m->left ? m + 1 : way.erase(m);
            }
        }
        if (moved)
            since = time(nullptr);
        else if (time(nullptr) - since > PATIENCE)
            die("no other rank moves");
        else
            sched_yield();
    }
}

ncclResult_t take(ncclComm_t c, cudaStream_t s, const message *m, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (m[i].peer < 0 || m[i].peer >= c->size)
            return ncclInvalidArgument;
    group.insert(group.end(), m, m + n);
    group_comm = c;
    group_stream = s;
    if (depth)
        return ncclSuccess;
    depth = 1;
    return ncclGroupEnd();
}
} // namespace

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    snprintf(id->internal, sizeof id->internal, "/nccl-on-cpu-%ld-%ld", (long)getpid(),
             (long)time(nullptr));
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int size, ncclUniqueId id, int rank)
{
    size_t bytes = sizeof(board) + (size_t)(size * size) * sizeof(box);
    int fd = shm_open(id.internal, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)bytes))
        return ncclSystemError;
    void *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED)
        return ncclSystemError;
    *comm = new ncclComm{rank, size, (board *)p, bytes};
    (*comm)->b->here++;
    for (time_t since = time(nullptr); (*comm)->b->here < size; sched_yield())
        if (time(nullptr) - since > PATIENCE)
            die("a rank is missing");
    shm_unlink(id.internal);
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    munmap(comm->b, comm->mapped);
    delete comm;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t code)
{
    return code == ncclSuccess ? "no error"
                               : code == ncclSystemError ? "system error" : "invalid argument";
}

ncclResult_t ncclGroupStart(void)
{
    depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (--depth || group.empty())
        return ncclSuccess;
    std::vector<message> messages;
    messages.swap(group);
    ncclComm_t c = group_comm;
    cuda_on_cpu::enqueue(group_stream, [=] { move(c, messages); });
    return ncclSuccess;
}

ncclResult_t ncclSend(const void *give, size_t n, ncclDataType_t, int peer, ncclComm_t c,
                      cudaStream_t s)
{
    message m = {peer, true, (char *)give, n};
    return take(c, s, &m, 1);
}

ncclResult_t ncclRecv(void *to, size_t n, ncclDataType_t, int peer, ncclComm_t c, cudaStream_t s)
{
    message m = {peer, false, (char *)to, n};
    return take(c, s, &m, 1);
}

ncclResult_t ncclBroadcast(const void *give, void *to, size_t n, ncclDataType_t, int root,
                           ncclComm_t c, cudaStream_t s)
{
    if (root == c->rank && give != to)
        return ncclInvalidArgument; // in place is all that is used
    std::vector<message> m;
    if (root != c->rank)
        m.push_back({root, false, (char *)to, n});
    for (int r = 0; r < c->size && root == c->rank; r++)
        if (r != root)
            m.push_back({r, true, (char *)give, n});
    return m.empty() ? ncclSuccess : take(c, s, m.data(), m.size());
}

ncclResult_t ncclAllGather(const void *give, void *to, size_t n, ncclDataType_t, ncclComm_t c,
                           cudaStream_t s)
{
    char *own = (char *)to + (size_t)c->rank * n;
    if (give != own)
        return ncclInvalidArgument; // in place is all that is used
    std::vector<message> m;
    for (int r = 0; r < c->size; r++)
        if (r != c->rank) {
            m.push_back({r, true, own, n});
            m.push_back({r, false, (char *)to + (size_t)r * n, n});
        }
    return take(c, s, m.data(), m.size());
}
