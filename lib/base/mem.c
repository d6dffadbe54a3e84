// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MEM_ALIGN = 64 };       // a cache line, and one AVX-512 register
enum { MEM_SMALL = 8 << 20 };  // blocks under this stay on small pages
enum { MEM_PAGE = 64 * 1024 }; // no machine's small pages are larger

bool mem_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

bool mem_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static void *allocate(size_t n, size_t size, bool zeroed, struct err *e)
{
    size_t bytes, rounded;
    if (!mem_mul(n, size, &bytes) || !mem_add(bytes ? bytes : 1, MEM_ALIGN - 1, &rounded)) {
        err_set(e, "cannot allocate %zu items of %zu bytes: size overflows", n, size);
        return NULL;
    }
    rounded &= ~(size_t)(MEM_ALIGN - 1);
    void *p = aligned_alloc(MEM_ALIGN, rounded);
    if (!p) {
        err_machine(e, "cannot allocate %zu bytes: out of memory", rounded);
        return NULL;
    }
    if (zeroed)
        memset(p, 0, rounded);
    return p;
}

void *mem_alloc(size_t n, size_t size, struct err *e)
{
    return allocate(n, size, true, e);
}

void *mem_alloc_unset(size_t n, size_t size, struct err *e)
{
    return allocate(n, size, false, e);
}

void mem_large_pages(void *p, size_t bytes)
{
#ifdef MADV_HUGEPAGE
    size_t before = (MEM_PAGE - (uintptr_t)p % MEM_PAGE) % MEM_PAGE;
    if (bytes >= MEM_SMALL)
        (void)madvise((char *)p + before, (bytes - before) / MEM_PAGE * MEM_PAGE, MADV_HUGEPAGE);
#else
    (void)p, (void)bytes;
#endif
}

int mem_grow(void *p, size_t *cap, size_t need, size_t size, struct err *e)
{
    if (need <= *cap)
        return 0;
    size_t want = *cap > need / 2 ? *cap * 2 : need, bytes;
    if (want < need || !mem_mul(want, size, &bytes))
        return err_set(e, "cannot grow to %zu items of %zu bytes: size overflows", need, size);
    void *q;
    memcpy(&q, p, sizeof q);
    q = realloc(q, bytes);
    if (!q)
        return err_machine(e, "cannot allocate %zu bytes: out of memory", bytes);
    memcpy(p, &q, sizeof q);
    *cap = want;
    return 0;
}

char *mem_strdup(const char *s, struct err *e)
{
    size_t n = strlen(s) + 1;
    char *p = mem_alloc(n, 1, e);
    if (p)
        memcpy(p, s, n);
    return p;
}
