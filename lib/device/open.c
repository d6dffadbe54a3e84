// SPDX-License-Identifier: Apache-2.0
#include "device/dev.h"

#include <stdbool.h>
#include <string.h>

#include "device/cuda/dev-cuda.h"
#include "device/cpu/cpu.h"

// Only a program linked with the CUDA device has it.
#pragma weak dev_cuda_open

static bool is_cuda(const char *name)
{
    if (strncmp(name, "cuda", 4))
        return false;
    const char *n = name + 4;
    return !*n || (*n == ':' && n[1] && strspn(n + 1, "0123456789") == strlen(n + 1));
}

int dev_name_check(const char *name, struct err *e)
{
    if (!strcmp(name, "cpu") || is_cuda(name))
        return 0;
    return err_set(e, "unknown device %s (cpu, cuda, cuda:N)", name);
}

const char *dev_names(void)
{
    return dev_cuda_open ? "cpu, cuda" : "cpu";
}

int dev_open(struct dev *d, const char *name, enum dev_type act, int threads, bool emulate,
             struct err *e)
{
    memset(d, 0, sizeof *d);
    if (dev_name_check(name, e))
        return -1;
    if (!strcmp(name, "cpu"))
        return dev_cpu_open(d, act, threads, emulate, e);
    if (dev_cuda_open)
        return dev_cuda_open(d, name, act == DEV_AUTO ? DEV_BF16 : act, e);
    return err_set(e,
                   "device %s: this program was built without CUDA (make CUDA=1, with the CUDA "
                   "Toolkit's nvcc)",
                   name);
}

const char *dev_dtype(const struct dev *d)
{
    return d->act == DEV_BF16 ? "bf16" : "f32";
}

void dev_close(struct dev *d)
{
    if (d->op && d->op->close)
        d->op->close(d);
    memset(d, 0, sizeof *d);
}
