// SPDX-License-Identifier: Apache-2.0
#include "device/dev.h"

#include <string.h>

#include "device/cuda/dev-cuda.h"
#include "device/cpu/cpu.h"

// Only a program linked with the CUDA device has it.
#pragma weak dev_cuda_open

int dev_open(struct dev *d, const char *name, enum dev_type act, int threads, bool emulate,
             struct err *e)
{
    memset(d, 0, sizeof *d);
    if (!strcmp(name, "cpu"))
        return dev_cpu_open(d, act, threads, emulate, e);
    if (!strncmp(name, "cuda", 4) && (!name[4] || name[4] == ':'))
        return dev_cuda_open ? dev_cuda_open(d, name, act == DEV_AUTO ? DEV_BF16 : act, e)
                             : err_set(e,
                                       "device %s: this program was built without CUDA (make "
                                       "CUDA=1, with the CUDA Toolkit's nvcc)",
                                       name);
    return err_set(e, "unknown device %s (cpu, cuda, cuda:N)", name);
}

void dev_close(struct dev *d)
{
    if (d->op && d->op->close)
        d->op->close(d);
    memset(d, 0, sizeof *d);
}
