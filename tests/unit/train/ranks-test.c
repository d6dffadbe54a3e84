// SPDX-License-Identifier: Apache-2.0
// A step of training in four parts, dealt to one, two and four ranks: the same bytes of weights,
// moments, clusters and figures. Threads are the ranks.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "comm/comm.h"
#include "train/step.h"
#include "unit/tap.h"

enum { RANKS = 4, VALUES = 1 << 17 };
enum { N = 8, PARTS = 4, STEPS = 3, SIZE = 16, CONTEXT = 6, K = 11, DIM = 8, LABELS = 2 };

struct world {
    struct clip_config cfg;
    uint8_t pixels[STEPS * N * SIZE * SIZE * 3];
    int32_t tokens[STEPS * N * CONTEXT], labels[STEPS * N * LABELS];
    float tv[STEPS * N * DIM], tt[STEPS * N * DIM], centroids[K * DIM];
    float prior[K];
};

struct scene {
    const struct world *w;
    const char *terms, *what;
    double rate;
    size_t dim_t;
    bool frozen, poison;
};

// What a run leaves, of all its ranks.
struct outcome {
    const struct scene *s;
    size_t n_flat, max_sums; // parameters; sums of a part
    size_t runs, within;     // runs whose squares are summed; cuts inside of a tensor
    float *flat;             // rank 0's
    float m[VALUES], v[VALUES];
    size_t moments[RANKS]; // values, of each rank
    uint64_t sent[RANKS];
    float maps[2 * DIM * DIM];
    float w[K * DIM], wm[K * DIM];
    double loss[STEPS], norm[STEPS], value[STEPS][LOSS_MAX];
};

static void make_world(struct world *w)
{
    struct err e;
    w->cfg = (struct clip_config){.embed_dim = DIM, .image_size = SIZE, .patch_size = 8};
    w->cfg.context = CONTEXT;
    w->cfg.vocab = 3000; // ranks share the tensor of their embeddings
    w->cfg.eos_id = 29;
    w->cfg.logit_scale = 2.6;
    w->cfg.has_logit_bias = true;
    w->cfg.logit_bias = -3;
    w->cfg.vision = (struct clip_tower){
        .layers = 1, .width = 16, .heads = 2, .head_width = 8, .mlp = 32, .eps = 1e-5};
    w->cfg.text = w->cfg.vision;
    clip_preprocess_default(&w->cfg.preprocess, SIZE);
    ok(!clip_config_check(&w->cfg, &e), "a model");
    for (size_t i = 0; i < sizeof w->pixels; i++)
        w->pixels[i] = (uint8_t)(i * 37 + i / 100);
    for (int i = 0; i < STEPS * N; i++)
        for (int k = 0; k < CONTEXT; k++)
            w->tokens[i * CONTEXT + k] = k == 0 ? 28 : k == 2 + i % 4 ? 29 : (i * 5 + k) % 28;
    for (int i = 0; i < STEPS * N * LABELS; i++)
        w->labels[i] = i * i % K;
    for (int i = 0; i < STEPS * N * DIM; i++) {
        w->tv[i] = sinf((float)i);
        w->tt[i] = cosf((float)i * 3);
    }
    for (int i = 0; i < K * DIM; i++)
        w->centroids[i] = sinf((float)i * 7 + 1);
    for (int i = 0; i < K; i++)
        w->prior[i] = -0.1f * (float)i;
}

static int open_core(const struct scene *s, struct comm *c, struct dev *d, struct train_core *core,
                     struct err *e)
{
    struct train_set set = {.batch = N, .accumulate = PARTS, .dim_t = s->dim_t, .comm = c};
    set.scale_of[0] = 20;
    set.k = K;
    set.n_label = LABELS;
    set.project = s->dim_t != DIM;
    optim_set_default(&set.optim);
    set.optim.lr = 1e-2f;
    set.optim.steps = 10;
    set.cluster = (struct cluster_set){.sigma = 16, .rate = s->rate, .filter = 1};
    set.cluster.frozen = s->frozen;
    if (strstr(s->terms, "cluster_soft"))
        set.cluster.prior = s->w->prior;
    if (losses_parse(&set.losses, s->terms, e))
        return -1;
    if (losses_needs(&set.losses) & LOSS_EACH) { // a second teacher
        set.losses.teachers = set.teachers = 2;
        set.dim_of[1] = DIM;
        set.scale_of[1] = 7;
    }
    if (train_core_open(core, d, &s->w->cfg, &set, s->w->centroids, e))
        return -1;
    float *flat = calloc(core->table.n_flat, sizeof *flat);
    for (size_t i = 0; i < core->table.n; i++)
        clip_init_tensor(&core->table, i, 1, flat + core->table.t[i].offset);
    int rc = train_core_load(core, flat, e);
    free(flat);
    return rc;
}

static int steps(struct outcome *o, struct comm *c, struct train_core *core, struct err *e)
{
    const struct world *w = o->s->w;
    for (size_t i = 0; i < STEPS; i++) {
        size_t at = i * N;
        double loss, norm;
        struct train_batch b = {.n = N, .pixels = w->pixels + at * SIZE * SIZE * 3};
        b.tokens = w->tokens + at * CONTEXT;
        b.tv = w->tv + at * o->s->dim_t;
        b.tt = w->tt + at * o->s->dim_t;
        b.labels = w->labels + at * LABELS;
        b.others[0][0] = w->tt + at * DIM;
        b.others[0][1] = w->tv + at * DIM;
        if (o->s->poison && i == 1 && c->rank == c->size - 1)
            core->model.flat[0] = NAN;
        if (train_core_step(core, &b, &loss, &norm, e))
            return -1;
        if (c->rank)
            continue;
        o->loss[i] = loss;
        o->norm[i] = norm;
        memcpy(o->value[i], core->set.losses.value, sizeof o->value[i]);
    }
    return 0;
}

// The moments of the student that this rank has, at their places in the vector of gradients.
static void keep_moments(struct outcome *o, const struct comm *c, const struct train_core *core)
{
    for (size_t i = 0; i < core->optim.n; i++) {
        const struct optim_slot *s = &core->optim.slots[i];
        if (s->begin || s->grad < core->model.grad ||
            s->grad >= core->model.grad + core->model.n_grad)
            continue;
        memcpy(o->m + s->at + s->first, s->m, s->count * sizeof *s->m);
        memcpy(o->v + s->at + s->first, s->v, s->count * sizeof *s->v);
        o->moments[c->rank] += s->count;
        if (c->rank == 0 && s->count && s->count < s->n)
            o->within++;
    }
    o->sent[c->rank] = c->sent;
}

static void keep(struct outcome *o, const struct comm *c, const struct train_core *core)
{
    const struct cluster_head *h = &core->head;
    const struct optim_slot *s = optim_find(&core->optim, "centroids");
    size_t at = h->k0 * h->dim, n = h->k_own * h->dim, map = o->s->dim_t * DIM;
    memcpy(o->w + at, h->w, n * sizeof *h->w);
    if (s)
        memcpy(o->wm + at, s->m, n * sizeof *h->w);
    keep_moments(o, c, core);
    if (c->rank)
        return;
    o->runs = core->optim.run_cut ? core->optim.run_cut[c->size] : 0;
    o->n_flat = core->table.n_flat;
    o->max_sums = core->set.losses.room.max_sums;
    o->flat = malloc(o->n_flat * sizeof *o->flat);
    memcpy(o->flat, core->model.flat, o->n_flat * sizeof *o->flat);
    for (size_t i = 0; i < 2 && core->project.d; i++)
        memcpy(o->maps + i * map, core->project.map[i], map * sizeof(float));
}

static int rank(void *ctx, struct comm *c, struct err *e)
{
    struct outcome *o = ctx;
    struct dev d;
    struct train_core core;
    if (dev_open(&d, "cpu", DEV_F32, 1, false, e))
        return -1;
    int rc = open_core(o->s, c, &d, &core, e);
    if (!rc) {
        rc = steps(o, c, &core, e);
        if (!rc)
            keep(o, c, &core);
        train_core_close(&core);
    }
    dev_close(&d);
    return rc;
}

static void alike(const struct scene *s)
{
    static struct outcome o[3];
    struct err e = {.text = ""};
    for (int i = 0, size = 1; i < 3; i++, size *= 2) {
        memset(&o[i], 0, sizeof o[i]);
        o[i].s = s;
        int rc = comm_threads(size, rank, &o[i], &e);
        ok(!rc, "%s: %d ranks%s%s", s->what, size, rc ? ": " : "", rc ? e.text : "");
        if (rc)
            return;
    }
    ok(isfinite(o[0].loss[0]) && o[0].loss[0] > 0 && o[0].norm[0] > 0, "%s: loss %.9g, norm %.9g",
       s->what, o[0].loss[0], o[0].norm[0]);
    for (int i = 1; i < 3; i++) {
        ok(!memcmp(o[0].flat, o[i].flat, o[0].n_flat * sizeof *o[0].flat) &&
               !memcmp(o[0].m, o[i].m, sizeof o[0].m) && !memcmp(o[0].v, o[i].v, sizeof o[0].v),
           "  weights and moments of %d", 1 << i);
        size_t sum = 0, most = 0;
        for (int r = 0; r < RANKS; r++) {
            sum += o[i].moments[r];
            most = o[i].moments[r] > most ? o[i].moments[r] : most;
        }
        ok(sum == o[0].moments[0] && most <= (sum >> i) + 8192 && o[i].within,
           "  of %zu moments a rank has %zu at most, and a tensor is cut", sum, most);
        ok(!memcmp(o[0].w, o[i].w, sizeof o[0].w) && !memcmp(o[0].wm, o[i].wm, sizeof o[0].wm),
           "  clusters");
        ok(!memcmp(o[0].maps, o[i].maps, sizeof o[0].maps), "  maps");
        ok(!memcmp(o[0].loss, o[i].loss, sizeof o[0].loss) &&
               !memcmp(o[0].norm, o[i].norm, sizeof o[0].norm) &&
               !memcmp(o[0].value, o[i].value, sizeof o[0].value),
           "  figures");
    }
    ok(memcmp(o[0].flat, (float[1]){0}, sizeof(float)) && o[0].sent[0] == 0 && o[1].sent[0] > 0,
       "  one rank sends nothing, two %llu bytes", (unsigned long long)o[1].sent[0]);
    for (int i = 0; i < 3; i++)
        free(o[i].flat);
}

// What distill-train(1) says is sent by a rank, on average: times (R - 1) / R.
static void bytes_sent(const struct world *w)
{
    struct scene s = {w, "instance,clip,cluster", "bytes", 0.5, DIM, false, false};
    for (int size = 2; size <= 4; size *= 2) {
        static struct outcome o;
        struct err e = {.text = ""};
        o = (struct outcome){.s = &s};
        if (comm_threads(size, rank, &o, &e)) {
            ok(false, "bytes sent: %s", e.text);
            continue;
        }
        size_t rows = 8 * N * DIM, row_sums = 4 * N * (2 + 4),
               clusters = 4 * N * PARTS * (LABELS + 2);
        size_t by_rows = 4 * N * DIM, gradients = 8 * o.n_flat, values = 4 * N * 3;
        size_t figures = 8 * PARTS * (o.max_sums + 1);
        size_t all =
            rows + row_sums + clusters + by_rows + gradients + values + figures + 8 * o.runs;
        double want = STEPS * (double)all * (size - 1) / size, got = 0;
        for (int r = 0; r < size; r++)
            got += (double)o.sent[r] / size;
        ok(fabs(got - want) <= STEPS * 16.0 * size, "%d ranks: %.0f bytes sent by each, %.0f said",
           size, got, want);
        free(o.flat);
    }
}

// A value that is not finite on one rank: no rank takes the step.
static void not_finite(const struct world *w)
{
    struct scene s = {w, "clip", "poison", 1, DIM, false, true};
    static struct outcome o;
    struct err e = {.text = ""};
    o.s = &s;
    ok(!comm_threads(2, rank, &o, &e) && isfinite(o.loss[0]) && !isfinite(o.norm[1]),
       "a value that is not finite, on the other rank: seen by all %s", e.text);
    free(o.flat);
}

// Parts that cannot be dealt are refused by all ranks.
static void refused(const struct world *w)
{
    struct scene s = {w, "clip", "three", 1, DIM, false, false};
    static struct outcome o;
    struct err e = {.text = ""};
    o.s = &s;
    ok(comm_threads(3, rank, &o, &e) && strstr(e.text, "cannot be dealt to 3 ranks"), "%s", e.text);
}

int main(void)
{
    static struct world w;
    make_world(&w);
    const struct scene scenes[] = {
        {&w, "instance,clip,cluster=0.1", "the default, a sample of clusters", 0.5, DIM, false,
         false},
        {&w, "instance,clip,cluster", "all clusters", 1, DIM, false, false},
        {&w, "instance,cluster_ce", "a sample smaller than the labels, frozen", 0.1, DIM, true,
         false},
        {&w, "affinity,feature,siglip,cluster_kl", "the other terms", 0.5, DIM, false, false},
        {&w, "relation,align,clip", "relations", 0.5, 6, false, false},
        {&w, "margin,clip", "margins of labels", 0.5, DIM, false, false},
        {&w, "cluster_soft,cluster_ce", "nearest clusters, a prior", 0.4, DIM, false, false},
        {&w, "instance,feature,clip,cluster", "maps to another width", 0.5, 6, false, false}};
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++)
        alike(&scenes[i]);
    bytes_sent(&w);
    not_finite(&w);
    refused(&w);
    return tap_done();
}
