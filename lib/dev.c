// SPDX-License-Identifier: Apache-2.0
#include "dev.h"

#include <string.h>

#include "dev-cpu.h"

int dev_open(struct dev *d, const char *name, enum dev_type act, int threads, bool emulate,
             struct err *e)
{
    memset(d, 0, sizeof *d);
    if (!strcmp(name, "cpu"))
        return dev_cpu_open(d, act, threads, emulate, e);
    if (!strncmp(name, "cuda", 4) && (!name[4] || name[4] == ':'))
        return err_set(e, "device %s: this build has no CUDA", name);
    return err_set(e, "unknown device %s (cpu, cuda, cuda:N)", name);
}

void dev_close(struct dev *d)
{
    if (d->op && d->op->close)
        d->op->close(d);
    memset(d, 0, sizeof *d);
}
