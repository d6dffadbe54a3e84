// SPDX-License-Identifier: Apache-2.0
// A model folder of any config with synthetic weights: open_clip's initialisation, and noise on
// gains, biases and layer scales so that each of them matters.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/table.h"
#include "golden.h"
#include "model/folder.h"
#include "base/rng.h"

struct synthetic {
    const struct clip_table *table;
    uint64_t seed;
};

static int get(void *user, size_t i, float *dst, struct err *e)
{
    (void)e;
    const struct synthetic *s = user;
    const struct clip_tensor *t = &s->table->t[i];
    struct rng r;
    clip_init_tensor(s->table, i, s->seed, dst);
    rng_init(&r, s->seed, (uint64_t)1 << 32 | i);
    for (size_t k = 0; t->rank == 1 && k < t->numel; k++)
        dst[k] += 0.1f * (float)rng_normal(&r);
    return 0;
}

int golden_make(const char *config, const char *dir, const char *dtype, uint64_t seed)
{
    struct clip_config c;
    struct clip_table t = {0};
    struct err e;
    struct synthetic s = {&t, seed};
    struct model_source from = {.table = &t,
                                .get = get,
                                .user = &s,
                                .dtype = !strcmp(dtype, "bf16")  ? ST_BF16
                                         : !strcmp(dtype, "f16") ? ST_F16
                                                                 : ST_F32};
    int rc = clip_config_read_file(&c, config, &e) || clip_table_init(&t, &c, &e) ||
             model_folder_write(dir, MODEL_OPEN_CLIP, &from, &e);
    if (rc)
        fprintf(stderr, "golden: %s\n", e.text);
    clip_table_release(&t);
    return rc ? 1 : 0;
}
