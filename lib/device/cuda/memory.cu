// SPDX-License-Identifier: Apache-2.0
// Device memory and copies. Freed blocks are kept and given out again to requests of the same size:
// training asks for the same sizes every step, and cudaMalloc waits for the device. Copies go
// through pieces of pinned memory, used in turn, so that none waits for what is computed before it.
// Large ones from the host travel on a second stream into pieces of device memory and are put in
// place by the first: they arrive while the GPU computes.
#include <cstdlib>
#include <cstring>

#include "device/cuda/cuda.h"

extern "C" {
#include "system/threads.h"
}

struct pool_block {
    void *p;
    size_t bytes;
    bool used;
};

struct cuda_pool {
    struct pool_block *b;
    size_t n, cap, held; // held: bytes of all blocks
};

// 128 MiB on their way to the device: the pictures of a pass of ViT-B-32 are 98.
static constexpr int SMALL_PIECES = 256, UP_PIECES = 8, DOWN_PIECES = 8;
static constexpr size_t SMALL = 32 << 10, UP = 16 << 20, DOWN = 4 << 20;
// A slot that is asked for more grows by half at least, so that it seldom does.
static constexpr size_t SLOT_LEAST = 256 << 10;

static const double MIB = 1 << 20;

// Gives unused blocks back to the driver. False when there was none.
static bool pool_trim(struct dev *d)
{
    struct cuda_pool *p = cuda_of(d)->pool;
    size_t kept = 0, was = p->n;
    if (!cuda_check(d, cudaStreamSynchronize(cuda_of(d)->stream), "waiting"))
        return false;
    for (size_t i = 0; i < p->n; i++) {
        if (p->b[i].used) {
            p->b[kept++] = p->b[i];
            continue;
        }
        cuda_check(d, cudaFree(p->b[i].p), "freeing memory");
        p->held -= p->b[i].bytes;
    }
    p->n = kept;
    return kept < was;
}

static int out_of_memory(struct dev *d, size_t bytes, struct err *e)
{
    size_t available = 0, total = 0;
    const struct cuda_pool *p = cuda_of(d)->pool;
    if (cudaMemGetInfo(&available, &total) != cudaSuccess)
        available = total = 0;
    return err_set(e,
                   "%s: out of memory: %.1f MiB wanted, %.1f of %.1f MiB free, %.1f MiB held by "
                   "this program in %zu buffers; use a smaller batch",
                   d->name, (double)bytes / MIB, (double)available / MIB, (double)total / MIB,
                   (double)p->held / MIB, p->n);
}

void *cuda_raw(struct dev *d, size_t bytes, struct err *e)
{
    struct cuda_pool *p = cuda_of(d)->pool;
    bytes = bytes ? bytes : 1;
    if (!cuda_enter(d)) {
        *e = d->failure;
        return NULL;
    }
    for (size_t i = 0; i < p->n; i++)
        if (!p->b[i].used && p->b[i].bytes == bytes) {
            p->b[i].used = true;
            return p->b[i].p;
        }
    if (mem_grow((void **)&p->b, &p->cap, p->n + 1, sizeof *p->b, e))
        return NULL;
    void *m = NULL;
    cudaError_t s = cudaMalloc(&m, bytes);
    if (s == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError(); // this one is dealt with here
        if (pool_trim(d))
            s = cudaMalloc(&m, bytes);
        else if (!cuda_failed(d))
            s = cudaErrorMemoryAllocation;
    }
    if (s == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        out_of_memory(d, bytes, e);
        return NULL;
    }
    if (!cuda_check(d, s, "memory")) {
        *e = d->failure;
        return NULL;
    }
    p->b[p->n++] = (struct pool_block){m, bytes, true};
    p->held += bytes;
    return m;
}

void *cuda_alloc(struct dev *d, size_t bytes, struct err *e)
{
    void *p = cuda_raw(d, bytes, e);
    if (!p)
        return NULL;
    cuda_zero(d, p, bytes);
    if (!cuda_failed(d))
        return p;
    *e = d->failure;
    return NULL;
}

// The stream is in order: whoever gets the block next writes it after this owner's last use.
void cuda_free(struct dev *d, void *m)
{
    struct cuda_pool *p = cuda_of(d)->pool;
    for (size_t i = 0; m && i < p->n; i++)
        if (p->b[i].p == m)
            p->b[i].used = false;
}

// The blocks kept for later count as available: pool_trim gives them back when they are wanted.
int cuda_memory(struct dev *d, size_t *available, size_t *total, struct err *e)
{
    const struct cuda_pool *p = cuda_of(d)->pool;
    if (!cuda_enter(d) || !cuda_check(d, cudaMemGetInfo(available, total), "asking for memory")) {
        *e = d->failure;
        return -1;
    }
    for (size_t i = 0; i < p->n; i++)
        if (!p->b[i].used)
            *available += p->b[i].bytes;
    return 0;
}

void *cuda_slot(struct dev *d, enum cuda_slot slot, size_t bytes)
{
    struct cuda *c = cuda_of(d);
    struct err e;
    if (cuda_failed(d))
        return NULL;
    if (c->slot[slot] && c->slot_bytes[slot] >= bytes)
        return c->slot[slot];
    size_t room = bytes < SLOT_LEAST ? SLOT_LEAST : bytes, more = c->slot_bytes[slot] / 2 * 3;
    if (room < more && more < (size_t)64 << 20)
        room = more;
    cuda_free(d, c->slot[slot]);
    c->slot[slot] = cuda_raw(d, room, &e);
    c->slot_moves++;
    c->slot_bytes[slot] = c->slot[slot] ? room : 0;
    if (!c->slot[slot] && !cuda_failed(d))
        d->failure = e;
    return c->slot[slot];
}

void cuda_zero(struct dev *d, void *dst, size_t bytes)
{
    if (bytes && cuda_enter(d))
        cuda_check(d, cudaMemsetAsync(dst, 0, bytes, cuda_of(d)->stream), "zeroing");
}

void cuda_copy(struct dev *d, void *dst, const void *src, size_t bytes)
{
    if (bytes && dst != src && cuda_enter(d))
        cuda_check(d,
                   cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, cuda_of(d)->stream),
                   "copying");
}

// The next piece, once the host may use it.
static int piece_take(struct dev *d, struct cuda_staging *s)
{
    int i = s->next;
    if (s->copy[i].used &&
        !cuda_check(d, cudaEventSynchronize(s->copy[i].copied), "waiting for a copy"))
        return -1;
    s->copy[i].used = false;
    s->next = (i + 1) % s->n;
    return i;
}

static void upload_small(struct dev *d, void *dst, const void *host, size_t bytes)
{
    struct cuda *c = cuda_of(d);
    struct cuda_staging *s = &c->small;
    int i = cuda_enter(d) ? piece_take(d, s) : -1;
    if (i < 0)
        return;
    unsigned char *piece = s->host + (size_t)i * s->bytes;
    memcpy(piece, host, bytes);
    s->copy[i].used =
        cuda_check(d, cudaMemcpyAsync(dst, piece, bytes, cudaMemcpyHostToDevice, c->stream),
                   "copying to the device") &&
        cuda_check(d, cudaEventRecord(s->copy[i].copied, c->stream), "copying to the device");
}

// One thread fills pinned memory more slowly than the bus empties it.
static constexpr int FILLERS = 4;
static constexpr size_t FILL_ALONE = 4 << 20;
struct filling {
    unsigned char *to;
    const unsigned char *from;
    size_t bytes, part;
};

static void fill_part(void *ctx, size_t i)
{
    const struct filling *f = (const struct filling *)ctx;
    size_t at = i * f->part, n = f->bytes - at < f->part ? f->bytes - at : f->part;
    memcpy(f->to + at, f->from + at, n);
}

static void fill(unsigned char *to, const void *from, size_t bytes)
{
    struct filling f = {to, (const unsigned char *)from, bytes, cuda_blocks(bytes, FILLERS)};
    struct err e;
    if (bytes < FILL_ALONE || threads_cpus() < 2 ||
        threads_for(FILLERS, cuda_blocks(bytes, f.part), fill_part, &f, &e))
        memcpy(to, from, bytes);
}

// The copy stream fills a device piece once the compute stream has taken the last contents out of
// it, and the compute stream takes them when they have come.
static void upload_piece(struct dev *d, void *dst, const void *host, size_t bytes)
{
    static const char what[] = "copying to the device";
    struct cuda *c = cuda_of(d);
    struct cuda_staging *s = &c->up;
    unsigned char *room = (unsigned char *)cuda_slot(d, SLOT_STAGING, UP_PIECES * UP);
    int i = room && cuda_enter(d) ? piece_take(d, s) : -1;
    if (i < 0)
        return;
    unsigned char *piece = s->host + (size_t)i * s->bytes;
    fill(piece, host, bytes);
    room += (size_t)i * UP;
    s->copy[i].used =
        cuda_check(d, cudaStreamWaitEvent(c->copies, s->copy[i].taken, 0), what) &&
        cuda_check(d, cudaMemcpyAsync(room, piece, bytes, cudaMemcpyHostToDevice, c->copies),
                   what) &&
        cuda_check(d, cudaEventRecord(s->copy[i].copied, c->copies), what) &&
        cuda_check(d, cudaStreamWaitEvent(c->stream, s->copy[i].copied, 0), what) &&
        cuda_check(d, cudaMemcpyAsync(dst, room, bytes, cudaMemcpyDeviceToDevice, c->stream),
                   what) &&
        cuda_check(d, cudaEventRecord(s->copy[i].taken, c->stream), what);
}

void cuda_upload(struct dev *d, void *dst, const void *host, size_t bytes)
{
    if (bytes && bytes <= SMALL)
        upload_small(d, dst, host, bytes);
    for (size_t at = 0; bytes > SMALL && at < bytes && !cuda_failed(d); at += UP)
        upload_piece(d, (char *)dst + at, (const char *)host + at,
                     bytes - at < UP ? bytes - at : UP);
}

// Straight to its place, on the copy stream; the compute stream waits for the last piece.
void cuda_upload_ahead(struct dev *d, void *dst, const void *host, size_t bytes)
{
    static const char what[] = "copying to the device";
    struct cuda *c = cuda_of(d);
    struct cuda_staging *s = &c->up;
    for (size_t at = 0; at < bytes && !cuda_failed(d); at += UP) {
        size_t n = bytes - at < UP ? bytes - at : UP;
        int i = cuda_enter(d) ? piece_take(d, s) : -1;
        if (i < 0)
            return;
        unsigned char *piece = s->host + (size_t)i * s->bytes;
        fill(piece, (const unsigned char *)host + at, n);
        s->copy[i].used =
            cuda_check(
                d, cudaMemcpyAsync((char *)dst + at, piece, n, cudaMemcpyHostToDevice, c->copies),
                what) &&
            cuda_check(d, cudaEventRecord(s->copy[i].copied, c->copies), what);
        if (at + n == bytes)
            cuda_check(d, cudaStreamWaitEvent(c->stream, s->copy[i].copied, 0), what);
    }
}

// Waits for the oldest download and hands it over.
static bool deliver(struct dev *d)
{
    struct cuda *c = cuda_of(d);
    struct cuda_staging *s = &c->down;
    int i = (int)(c->delivered % DOWN_PIECES);
    if (!cuda_enter(d) ||
        !cuda_check(d, cudaEventSynchronize(s->copy[i].copied), "copying from the device"))
        return false;
    memcpy(s->copy[i].to, s->host + (size_t)i * s->bytes, s->copy[i].bytes);
    c->delivered++;
    return true;
}

static bool fetch_piece(struct dev *d, void *host, const void *src, size_t bytes)
{
    struct cuda *c = cuda_of(d);
    struct cuda_staging *s = &c->down;
    if (!cuda_enter(d) || (c->fetches - c->delivered == DOWN_PIECES && !deliver(d)))
        return false;
    int i = (int)(c->fetches % DOWN_PIECES);
    s->copy[i].to = host;
    s->copy[i].bytes = bytes;
    if (!cuda_check(d,
                    cudaMemcpyAsync(s->host + (size_t)i * s->bytes, src, bytes,
                                    cudaMemcpyDeviceToHost, c->stream),
                    "copying from the device") ||
        !cuda_check(d, cudaEventRecord(s->copy[i].copied, c->stream), "copying from the device"))
        return false;
    c->fetches++;
    return true;
}

uint64_t cuda_fetch(struct dev *d, void *host, const void *src, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += DOWN)
        if (!fetch_piece(d, (char *)host + at, (const char *)src + at,
                         bytes - at < DOWN ? bytes - at : DOWN))
            break;
    return cuda_of(d)->fetches;
}

int cuda_fetched(struct dev *d, uint64_t number, struct err *e)
{
    while (cuda_of(d)->delivered < number && deliver(d))
        ;
    if (!cuda_failed(d))
        return 0;
    *e = d->failure;
    return -1;
}

int cuda_download(struct dev *d, void *host, const void *src, size_t bytes, struct err *e)
{
    return cuda_fetched(d, cuda_fetch(d, host, src, bytes), e);
}

int cuda_sync(struct dev *d, struct err *e)
{
    if (cuda_enter(d))
        cuda_check(d, cudaStreamSynchronize(cuda_of(d)->stream), "running");
    return cuda_fetched(d, cuda_of(d)->fetches, e);
}

static bool staging_open(struct dev *d, struct cuda_staging *s, int n, size_t bytes)
{
    s->n = n;
    s->bytes = bytes;
    if (!cuda_check(d, cudaMallocHost((void **)&s->host, (size_t)n * bytes), "pinned memory"))
        return false;
    for (int i = 0; i < n; i++)
        if (!cuda_check(d, cudaEventCreateWithFlags(&s->copy[i].copied, cudaEventDisableTiming),
                        "events") ||
            !cuda_check(d, cudaEventCreateWithFlags(&s->copy[i].taken, cudaEventDisableTiming),
                        "events"))
            return false;
    return true;
}

static void staging_close(struct dev *d, struct cuda_staging *s)
{
    if (s->host)
        cuda_check(d, cudaFreeHost(s->host), "closing");
    for (int i = 0; i < s->n; i++) {
        if (s->copy[i].copied)
            cuda_check(d, cudaEventDestroy(s->copy[i].copied), "closing");
        if (s->copy[i].taken)
            cuda_check(d, cudaEventDestroy(s->copy[i].taken), "closing");
    }
}

// The driver loads a kernel, cuBLASLt's too, when it is first launched; without room for it the
// launch fails.
static const size_t LOADED = (size_t)256 << 20, SLOTS = (size_t)64 << 20; // sums, keys, biases

size_t cuda_own_bytes(void)
{
    return UP_PIECES * UP + cuda_gemm_workspace() + SLOTS + LOADED;
}

int cuda_memory_open(struct dev *d, struct err *e)
{
    struct cuda *c = cuda_of(d);
    if (!(c->pool = (struct cuda_pool *)mem_alloc(1, sizeof *c->pool, e)))
        return -1;
    if (staging_open(d, &c->small, SMALL_PIECES, SMALL) && staging_open(d, &c->up, UP_PIECES, UP) &&
        staging_open(d, &c->down, DOWN_PIECES, DOWN))
        return 0;
    *e = d->failure;
    return -1;
}

void cuda_memory_close(struct dev *d)
{
    struct cuda *c = cuda_of(d);
    if (!c->pool)
        return;
    cuda_check(d, cudaStreamSynchronize(c->stream), "closing");
    cuda_check(d, cudaStreamSynchronize(c->copies), "closing");
    for (size_t i = 0; i < c->pool->n; i++)
        cuda_check(d, cudaFree(c->pool->b[i].p), "closing");
    staging_close(d, &c->small);
    staging_close(d, &c->up);
    staging_close(d, &c->down);
    free(c->pool->b);
    free(c->pool);
    c->pool = NULL;
}
