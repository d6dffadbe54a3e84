// SPDX-License-Identifier: Apache-2.0
#include "embed/memory.h"

#include <stdio.h>

#include "system/memory-limit.h"

static const double GIB = 1024.0 * 1024 * 1024;

enum { PASS_LEAST = 1024 }; // rows of a device's pass: fewer are not worth its while

// Shorter passes where the usual ones do not fit: the embeddings are the same. `m` is counted anew.
static int check_device(const struct clip_table *t, const struct clip_model_options *o,
                        struct clip_model_memory *m, struct dev *d, char text[EMBED_MEMORY_TEXT],
                        struct err *e)
{
    size_t left, total;
    if (d->op->memory(d, &left, &total, e))
        return -1;
    while (m->total > left && d->pass_rows / 2 >= PASS_LEAST) {
        d->pass_rows /= 2;
        if (clip_model_memory(t, d, o, m, e))
            return -1;
    }
    snprintf(text, EMBED_MEMORY_TEXT,
             "%.2f GiB on %s (weights %.2f, buffers %.2f, the device's own %.2f); %.2f of %.2f are "
             "free",
             (double)m->total / GIB, d->name, (double)m->weights / GIB, (double)m->work / GIB,
             (double)m->own / GIB, (double)left / GIB, (double)total / GIB);
    if (m->total <= left)
        return 0;
    return err_set(e, "this needs at least %s%s", text,
                   d->act == DEV_F32 ? ". --dtype bf16 takes less" : "");
}

// `model`: bytes of it that are the host's.
static int check_host(double model, const struct embed_shape *s, char text[EMBED_MEMORY_TEXT],
                      struct err *e)
{
    struct memory_limit l;
    char hint[64] = "--dtype bf16 takes less";
    double sample = embed_sample_bytes(s), batches = sample * (double)s->rows;
    memory_limit_read("", &l);
    snprintf(text, EMBED_MEMORY_TEXT, "%.2f GiB (model %.2f, batches of %zu samples %.2f)",
             (model + batches) / GIB, model / GIB, s->rows, batches / GIB);
    if (l.left == UINT64_MAX || model + batches <= (double)l.left)
        return 0;
    if (model + sample <= (double)l.left)
        snprintf(hint, sizeof hint, "--batch %.0f fits",
                 (double)(uint64_t)(((double)l.left - model) / sample));
    return err_set(e, "this needs %s; %.2f GiB are free (%s): %s", text, (double)l.left / GIB, l.by,
                   hint);
}

int embed_check_memory(const struct clip_table *t, const struct clip_model_options *o,
                       struct dev *d, const struct embed_shape *s, char text[EMBED_MEMORY_TEXT],
                       struct err *e)
{
    struct clip_model_memory m = {0};
    bool own = d->reserve; // memory of the device's own
    if ((o->vision || o->text) && clip_model_memory(t, d, o, &m, e))
        return -1;
    if (check_host(own ? 0 : (double)m.total, s, text, e))
        return -1;
    return own && m.total ? check_device(t, o, &m, d, text, e) : 0;
}
