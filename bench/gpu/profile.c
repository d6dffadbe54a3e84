// SPDX-License-Identifier: Apache-2.0
// A library that the CUDA driver loads into a program when CUDA_INJECTION64_PATH names it. At the
// program's end it writes how long each kernel and each kind of copy took in all, longest first, to
// the file that CUDA_PROFILE names (else standard error): seconds, calls, microseconds a call,
// share of the device's busy time, name. The first line says how much of the time from the first
// kernel's start to the last one's end the device was busy.
#include <cupti.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFER = 8 << 20, NAMES = 512, NAME = 160, LINES = 40 };

struct total {
    char name[NAME];
    double seconds;
    long calls;
};

static struct total total[NAMES];
static int totals;
static uint64_t first = UINT64_MAX, last;

static void add(const char *name, uint64_t start, uint64_t end)
{
    int i = 0;
    while (i < totals && strncmp(total[i].name, name, NAME - 1))
        i++;
    if (i == NAMES)
        return;
    if (i == totals)
        snprintf(total[totals++].name, NAME, "%s", name);
    total[i].seconds += (double)(end - start) * 1e-9;
    total[i].calls++;
    first = start < first ? start : first;
    last = end > last ? end : last;
}

static void CUPTIAPI give(uint8_t **buffer, size_t *size, size_t *records)
{
    *buffer = aligned_alloc(64, BUFFER);
    *size = *buffer ? BUFFER : 0;
    *records = 0;
}

static void CUPTIAPI take(CUcontext c, uint32_t stream, uint8_t *buffer, size_t size, size_t valid)
{
    CUpti_Activity *r = NULL;
    (void)c, (void)stream, (void)size;
    while (cuptiActivityGetNextRecord(buffer, valid, &r) == CUPTI_SUCCESS) {
        if (r->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
            CUpti_ActivityKernel10 *k = (void *)r;
            add(k->name, k->start, k->end);
        } else if (r->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
            static const char *const kind[] = {"copy", "copy to the device",
                                               "copy from the device"};
            CUpti_ActivityMemcpy6 *m = (void *)r;
            add(kind[m->copyKind <= 2 ? m->copyKind : 0], m->start, m->end);
        }
    }
    free(buffer);
}

static int longest_first(const void *a, const void *b)
{
    double x = ((const struct total *)a)->seconds, y = ((const struct total *)b)->seconds;
    return (x < y) - (x > y);
}

static void report(void)
{
    const char *path = getenv("CUDA_PROFILE");
    double all = 0, span;
    cuptiActivityFlushAll(1);
    FILE *f = path ? fopen(path, "w") : stderr;
    if (!f)
        return;
    qsort(total, (size_t)totals, sizeof *total, longest_first);
    for (int i = 0; i < totals; i++)
        all += total[i].seconds;
    span = totals ? (double)(last - first) * 1e-9 : 0;
    fprintf(f, "%.3f s of work in %.3f s\n", all, span);
    for (int i = 0; i < totals && i < LINES; i++)
        fprintf(f, "%9.4f s %8ld x %9.1f us %5.1f %%  %s\n", total[i].seconds, total[i].calls,
                total[i].seconds / (double)total[i].calls * 1e6, total[i].seconds / all * 100,
                total[i].name);
    if (path)
        fclose(f);
}

int InitializeInjection(void);
int InitializeInjection(void)
{
    if (cuptiActivityRegisterCallbacks(give, take) != CUPTI_SUCCESS ||
        cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) != CUPTI_SUCCESS ||
        cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY) != CUPTI_SUCCESS)
        fprintf(stderr, "profile: CUPTI does not answer\n");
    else
        atexit(report);
    return 1;
}
