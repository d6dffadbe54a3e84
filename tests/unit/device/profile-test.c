// SPDX-License-Identifier: Apache-2.0
// A profiled device: the same results, operations and FLOP counted by kind and by part, its own
// operations given back at the end.
#include <math.h>
#include <string.h>

#include "device/profile.h"
#include "unit/tap.h"

enum { ROWS = 6, OUT = 5, IN = 4, HEADS = 2, DIM = 8, LEN = 3 };

static void work(struct dev *d, const struct dev_weight *w, float *x, float *y, float *dw,
                 float *qkv, float *att)
{
    const int32_t start[] = {0, LEN, 2 * LEN};
    int32_t *at = (int32_t *)dw; // room that is not used yet
    d->op->upload(d, at, start, sizeof start);
    struct dev_attention a = {.heads = HEADS, .head_dim = DIM, .causal = true};
    a.kv = (struct dev_ragged){2, LEN, at};
    a.q = qkv;
    a.k = qkv + HEADS * DIM;
    a.v = qkv + 2 * HEADS * DIM;
    a.q_ld = a.kv_ld = 3 * HEADS * DIM;
    a.out = att;
    a.out_ld = HEADS * DIM;
    dev_profile_at(d, "one", -1, false);
    d->op->linear(d, ROWS, x, IN, w, NULL, y, true);
    d->op->linear(d, ROWS, x, IN, w, NULL, y, true);
    dev_profile_at(d, "two", 3, true);
    d->op->attention(d, &a);
    dev_profile_at(d, "one", -1, true);
    d->op->zero(d, dw, OUT * IN * sizeof *dw);
    d->op->linear_dw(d, ROWS, y, x, IN, w, dw, NULL);
}

int main(void)
{
    static struct dev_profile p;
    float host[2][ROWS * OUT], values[OUT * IN], in[ROWS * IN], many[2 * LEN * 3 * HEADS * DIM];
    struct dev d;
    struct err e;
    if (dev_open(&d, "cpu", DEV_F32, 1, false, &e))
        return 1;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        values[i] = sinf((float)i);
    for (size_t i = 0; i < sizeof in / sizeof *in; i++)
        in[i] = cosf((float)i);
    for (size_t i = 0; i < sizeof many / sizeof *many; i++)
        many[i] = sinf((float)i * 3);
    struct dev_weight *w = d.op->weight_new(&d, values, DEV_F32, OUT, IN, false, &e);
    float *x = d.op->alloc(&d, sizeof in, &e), *y = d.op->alloc(&d, sizeof host[0], &e);
    float *dw = d.op->alloc(&d, sizeof values, &e), *qkv = d.op->alloc(&d, sizeof many, &e);
    float *att = d.op->alloc(&d, 2 * LEN * HEADS * DIM * sizeof *att, &e);
    d.op->upload(&d, x, in, sizeof in);
    d.op->upload(&d, qkv, many, sizeof many);
    const struct dev_ops *own = d.op;
    dev_profile_at(&d, "nothing", -1, false); // of a device that is not profiled
    for (int k = 0; k < 2; k++) {
        if (k)
            dev_profile_begin(&d, &p);
        work(&d, w, x, y, dw, qkv, att);
        ok(!d.op->download(&d, host[k], y, sizeof host[k], &e), "rows");
    }
    ok(d.op != own, "profiled");
    dev_profile_end(&d);
    ok(d.op == own && !d.profile, "and no more");
    ok(!memcmp(host[0], host[1], sizeof host[0]), "the same result");
    double product = 2.0 * ROWS * OUT * IN, attention = 4.0 * HEADS * DIM * 2 * LEN * LEN / 2;
    ok(p.kind[DEV_KIND_LINEAR].calls == 2 && p.kind[DEV_KIND_LINEAR].flop == 2 * product,
       "products forward");
    ok(p.kind[DEV_KIND_DW].calls == 1 && p.kind[DEV_KIND_DW].flop == product, "and by the weight");
    ok(p.kind[DEV_KIND_ATTENTION].flop == attention && !p.kind[DEV_KIND_DX].calls, "attention");
    ok(p.n_parts == 2 && !strcmp(p.part[0].name, "one") && !strcmp(p.part[1].name, "two block 3"),
       "the parts");
    ok(p.part[0].cost[0].flop == 2 * product && p.part[0].cost[1].flop == product &&
           p.part[1].cost[1].flop == attention && p.part[1].cost[0].calls == 0,
       "and their FLOP, forward and backward");
    double kinds = 0, parts = 0, all = p.since - p.began;
    for (int k = 0; k < DEV_KINDS; k++)
        kinds += p.kind[k].seconds;
    for (size_t i = 0; i < p.n_parts; i++)
        parts += p.part[i].cost[0].seconds + p.part[i].cost[1].seconds;
    ok(fabs(kinds - all) < 1e-9 && parts > 0 && parts <= all, "all of the time is somewhere");
    d.op->weight_free(&d, w);
    void *rooms[] = {x, y, dw, qkv, att};
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++)
        d.op->free(&d, rooms[i]);
    dev_close(&d);
    return tap_done();
}
