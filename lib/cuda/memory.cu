// SPDX-License-Identifier: Apache-2.0
// Device memory and copies. Freed blocks are kept and given out again to requests of the same size:
// training asks for the same sizes every step, and cudaMalloc waits for the device. Copies from the
// host go through two pinned buffers and, when they are large, a second stream, so that the host
// fills one while the other travels and the GPU computes.
#include <cstdlib>
#include <cstring>

#include "cuda.h"

struct block {
    void *p;
    size_t bytes;
    bool used;
};

struct cuda_pool {
    struct block *b;
    size_t n, cap, held; // held: bytes of all blocks
};

static constexpr size_t HALF = 32 << 20, SMALL = 64 << 10;

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
    p->b[p->n++] = (struct block){m, bytes, true};
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
    cuda_free(d, c->slot[slot]);
    c->slot[slot] = cuda_raw(d, bytes, &e);
    c->slot_bytes[slot] = c->slot[slot] ? bytes : 0;
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

// Waits until the host half is free again.
static bool half_wait(struct dev *d, struct cuda_staging *s, int h)
{
    return !s->used[h] || cuda_check(d, cudaEventSynchronize(s->copied[h]), "waiting for a copy");
}

// One half at most. The copy stream fills a device half once the compute stream has taken the last
// contents out of it, and the compute stream takes them when they have come.
static void upload_half(struct dev *d, void *dst, const unsigned char *host, size_t bytes)
{
    struct cuda *c = cuda_of(d);
    struct cuda_staging *s = &c->up;
    int h = s->next;
    bool direct = bytes <= SMALL;
    if (!cuda_enter(d) || !half_wait(d, s, h))
        return;
    memcpy(s->host[h], host, bytes);
    s->next = !h;
    if (direct) {
        s->used[h] =
            cuda_check(d,
                       cudaMemcpyAsync(dst, s->host[h], bytes, cudaMemcpyHostToDevice, c->stream),
                       "copying to the device") &&
            cuda_check(d, cudaEventRecord(s->copied[h], c->stream), "copying to the device");
        return;
    }
    unsigned char *room = (unsigned char *)cuda_slot(d, SLOT_STAGING, 2 * HALF);
    if (!room)
        return;
    room += (size_t)h * HALF;
    s->used[h] =
        cuda_check(d, cudaStreamWaitEvent(c->copies, s->taken[h], 0), "copying to the device") &&
        cuda_check(d, cudaMemcpyAsync(room, s->host[h], bytes, cudaMemcpyHostToDevice, c->copies),
                   "copying to the device") &&
        cuda_check(d, cudaEventRecord(s->copied[h], c->copies), "copying to the device") &&
        cuda_check(d, cudaStreamWaitEvent(c->stream, s->copied[h], 0), "copying to the device") &&
        cuda_check(d, cudaMemcpyAsync(dst, room, bytes, cudaMemcpyDeviceToDevice, c->stream),
                   "copying to the device") &&
        cuda_check(d, cudaEventRecord(s->taken[h], c->stream), "copying to the device");
}

void cuda_upload(struct dev *d, void *dst, const void *host, size_t bytes)
{
    for (size_t at = 0; at < bytes && !cuda_failed(d); at += HALF) {
        size_t n = bytes - at < HALF ? bytes - at : HALF;
        upload_half(d, (char *)dst + at, (const unsigned char *)host + at, n);
    }
}

static void download_start(struct dev *d, const char *src, size_t bytes, size_t at)
{
    struct cuda *c = cuda_of(d);
    int h = (int)(at / HALF % 2);
    size_t n = bytes - at < HALF ? bytes - at : HALF;
    if (cuda_enter(d) &&
        cuda_check(d,
                   cudaMemcpyAsync(c->down.host[h], src + at, n, cudaMemcpyDeviceToHost, c->stream),
                   "copying from the device"))
        cuda_check(d, cudaEventRecord(c->down.copied[h], c->stream), "copying from the device");
}

int cuda_download(struct dev *d, void *host, const void *src, size_t bytes, struct err *e)
{
    struct cuda *c = cuda_of(d);
    if (bytes)
        download_start(d, (const char *)src, bytes, 0);
    for (size_t at = 0; at < bytes && !cuda_failed(d); at += HALF) {
        int h = (int)(at / HALF % 2);
        size_t n = bytes - at < HALF ? bytes - at : HALF;
        if (at + HALF < bytes)
            download_start(d, (const char *)src, bytes, at + HALF);
        if (cuda_check(d, cudaEventSynchronize(c->down.copied[h]), "copying from the device"))
            memcpy((char *)host + at, c->down.host[h], n);
    }
    return cuda_sync(d, e);
}

int cuda_sync(struct dev *d, struct err *e)
{
    if (cuda_enter(d))
        cuda_check(d, cudaStreamSynchronize(cuda_of(d)->stream), "running");
    if (!cuda_failed(d))
        return 0;
    *e = d->failure;
    return -1;
}

static bool staging_open(struct dev *d, struct cuda_staging *s)
{
    for (int h = 0; h < 2; h++)
        if (!cuda_check(d, cudaMallocHost((void **)&s->host[h], HALF), "pinned memory") ||
            !cuda_check(d, cudaEventCreateWithFlags(&s->copied[h], cudaEventDisableTiming),
                        "events") ||
            !cuda_check(d, cudaEventCreateWithFlags(&s->taken[h], cudaEventDisableTiming),
                        "events"))
            return false;
    return true;
}

static void staging_close(struct dev *d, struct cuda_staging *s)
{
    for (int h = 0; h < 2; h++) {
        if (s->host[h])
            cuda_check(d, cudaFreeHost(s->host[h]), "closing");
        if (s->copied[h])
            cuda_check(d, cudaEventDestroy(s->copied[h]), "closing");
        if (s->taken[h])
            cuda_check(d, cudaEventDestroy(s->taken[h]), "closing");
    }
}

int cuda_memory_open(struct dev *d, struct err *e)
{
    struct cuda *c = cuda_of(d);
    if (!(c->pool = (struct cuda_pool *)mem_alloc(1, sizeof *c->pool, e)))
        return -1;
    if (staging_open(d, &c->up) && staging_open(d, &c->down))
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
    staging_close(d, &c->up);
    staging_close(d, &c->down);
    free(c->pool->b);
    free(c->pool);
    c->pool = NULL;
}
