// SPDX-License-Identifier: Apache-2.0
#include "losses/losses.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "losses/loss-block.h"
#include "losses/loss-terms.h"
#include "losses/ranks.h"
#include "base/mem.h"

#define ROW(name, needs, rows, sums, help) {#name, needs, rows, sums, loss_##name, help},
const struct loss_kind loss_kinds[] = {LOSS_TERMS(ROW){NULL, 0, 0, 0, NULL, NULL}};
_Static_assert(sizeof loss_kinds / sizeof *loss_kinds - 1 <= LOSS_MAX, "LOSS_MAX is too small");

size_t loss_count(void)
{
    size_t n = 0;
    while (loss_kinds[n].name)
        n++;
    return n;
}

static bool is_cluster(size_t term)
{
    return loss_kinds[term].needs & LOSS_CLUSTERS;
}

// What `cluster` stands for.
static bool is_pair(size_t term)
{
    return loss_kinds[term].run == loss_cluster_ce || loss_kinds[term].run == loss_cluster_kl;
}

static int set_weight(struct losses *l, const char *name, float weight, struct err *e)
{
    bool found = false, cluster = !strcmp(name, "cluster");
    for (size_t i = 0; loss_kinds[i].name; i++)
        if (!strcmp(name, loss_kinds[i].name) || (cluster && is_pair(i))) {
            l->weight[i] = weight;
            found = true;
        }
    return found ? 0 : err_set(e, "no loss is called '%s'", name);
}

static int parse_one(struct losses *l, const char *item, size_t n, struct err *e)
{
    char name[LOSS_NAME_MAX + 24];
    if (n >= sizeof name)
        return err_set(e, "'%.*s' is not NAME=WEIGHT", (int)n, item);
    memcpy(name, item, n);
    name[n] = '\0';
    float weight = 1;
    char *eq = strchr(name, '=');
    if (eq) {
        char *end;
        *eq = '\0';
        weight = strtof(eq + 1, &end);
        if (end == eq + 1 || *end || !isfinite(weight) || weight < 0)
            return err_set(e, "'%s' is not a weight for '%s'", eq + 1, name);
    }
    return set_weight(l, name, weight, e);
}

int losses_parse(struct losses *l, const char *list, struct err *e)
{
    memset(l, 0, sizeof *l);
    for (const char *p = list;;) {
        size_t n = strcspn(p, ",");
        if (n && parse_one(l, p, n, e))
            return -1;
        if (!p[n])
            break;
        p += n + 1;
    }
    for (size_t i = 0; i < loss_count(); i++)
        if (l->weight[i] > 0)
            return 0;
    return err_set(e, "every loss has weight 0");
}

// The two terms that `cluster` stands for have one weight.
static bool one_cluster_weight(const struct losses *l)
{
    float weight = -1;
    for (size_t i = 0; loss_kinds[i].name; i++) {
        if (is_pair(i) && weight >= 0 && l->weight[i] != weight)
            return false;
        weight = is_pair(i) ? l->weight[i] : weight;
    }
    return true;
}

void losses_text(const struct losses *l, char text[LOSS_TEXT])
{
    bool together = one_cluster_weight(l), said = false;
    size_t n = 0;
    text[0] = '\0';
    for (size_t i = 0; loss_kinds[i].name; i++) {
        bool cluster = together && is_pair(i);
        char weight[24];
        if (l->weight[i] <= 0 || (cluster && said))
            continue;
        said = said || cluster;
        for (int digits = 1; digits <= 9; digits++) {
            snprintf(weight, sizeof weight, "%.*g", digits, (double)l->weight[i]);
            if (strtof(weight, NULL) == l->weight[i])
                break;
        }
        n += (size_t)snprintf(text + n, LOSS_TEXT - n, "%s%s=%s", n ? "," : "",
                              cluster ? "cluster" : loss_kinds[i].name, weight);
    }
}

// Of a term that has the teacher's rows of both sides, one tower's half needs one.
static int term_needs(const struct losses *l, size_t term)
{
    enum { BOTH = LOSS_TEACHER_IMAGE | LOSS_TEACHER_TEXT };
    int needs = loss_kinds[term].needs;
    if (l->towers && (needs & BOTH) == BOTH)
        needs &= (l->towers == LOSS_IMAGE_TOWER) != !(needs & LOSS_CROSS) ? ~LOSS_TEACHER_IMAGE
                                                                          : ~LOSS_TEACHER_TEXT;
    return needs & ~(LOSS_PAIRS | LOSS_CROSS);
}

int losses_needs(const struct losses *l)
{
    int needs = 0;
    for (size_t i = 0; loss_kinds[i].name; i++)
        if (l->weight[i] > 0)
            needs |= term_needs(l, i);
    return needs;
}

int losses_check_towers(const struct losses *l, struct err *e)
{
    for (size_t i = 0; loss_kinds[i].name && l->towers; i++) {
        if (l->weight[i] <= 0)
            continue;
        if (loss_kinds[i].needs & LOSS_PAIRS)
            return err_set(e, "the term %s needs both towers of the student", loss_kinds[i].name);
        if (is_cluster(i) && l->towers == LOSS_TEXT_TOWER)
            return err_set(e, "the term %s needs the image tower of the student",
                           loss_kinds[i].name);
    }
    return 0;
}

// Sums what the terms with a weight declare, and one more sum for the optimiser. With several parts
// the cluster terms have sums instead of rows.
static void count_values(const struct losses *l, size_t n_label, size_t *rows, size_t *sums)
{
    *rows = 0;
    *sums = 1;
    for (size_t i = 0; loss_kinds[i].name; i++) {
        const struct loss_kind *k = &loss_kinds[i];
        if (l->weight[i] <= 0)
            continue;
        size_t n = k->rows * (k->needs & LOSS_LABELS && n_label ? n_label : 1);
        n *= k->needs & LOSS_EACH && l->teachers ? l->teachers : 1;
        *(is_cluster(i) && l->parts > 1 ? sums : rows) += n;
        *sums += k->sums;
    }
}

static size_t part_rows(const struct losses *l, size_t n)
{
    size_t parts = l->parts ? l->parts : 1;
    return n / parts + (n % parts != 0);
}

// Decides whether the matrices of a batch of n rows are kept or computed in blocks.
struct loss_plan {
    size_t n_block, n_mat, rows; // rows of a matrix
    bool kept;
};

static struct loss_plan plan_of(const struct losses *l, size_t n)
{
    struct loss_plan p = {.n_block = loss_block_rows(part_rows(l, n), n, l->block)};
    size_t most = l->block ? l->block : LOSS_KEPT;
    bool soft = false;
    size_t own = n / ranks_size(l->comm) + (n % ranks_size(l->comm) != 0); // rows of a rank
    p.kept = n && own <= most / n;
    for (size_t i = 0; loss_kinds[i].name; i++)
        soft = soft || (l->weight[i] > 0 && loss_kinds[i].run == loss_affinity);
    p.n_mat = p.kept && soft ? 4 : 2;
    p.rows = p.kept ? own : p.n_block;
    return p;
}

size_t losses_bytes(const struct losses *l, size_t n, size_t n_label)
{
    size_t rows, sums;
    struct loss_plan p = plan_of(l, n);
    count_values(l, n_label, &rows, &sums);
    size_t at = losses_needs(l) & LOSS_GROUPS ? 2 : 0;
    return p.n_mat * p.rows * n * sizeof(float) + (7 + at + rows) * n * sizeof(float) +
           (l->parts ? l->parts : 1) * sums * sizeof(double);
}

static int open_values(struct losses *l, size_t n_label, struct err *e)
{
    struct loss_room *r = &l->room;
    size_t values, sums;
    count_values(l, n_label, &r->max_rows, &r->max_sums);
    if (r->max_sums > DEV_WEIGH_MAX)
        return err_set(e, "these losses need %zu sums, %d are the most", r->max_sums,
                       DEV_WEIGH_MAX);
    if (!mem_mul(r->max_rows, r->n, &values) || !mem_mul(r->max_sums, r->parts, &sums))
        return err_set(e, "a batch of %zu is too large", r->n);
    values = values ? values : 1;
    return (r->rows = r->d->op->alloc(r->d, values * sizeof *r->rows, e)) &&
                   (r->sums = r->d->op->alloc(r->d, sums * sizeof *r->sums, e)) &&
                   (r->host_sums = mem_alloc(sums, sizeof *r->host_sums, e)) &&
                   (r->host_rows = mem_alloc(values, sizeof *r->host_rows, e)) &&
                   (r->of = mem_alloc(r->max_rows + r->max_sums, sizeof *r->of, e))
               ? 0
               : -1;
}

static int open_matrices(struct losses *l, struct err *e)
{
    struct loss_room *r = &l->room;
    struct dev *d = r->d;
    struct loss_plan p = plan_of(l, r->n);
    size_t bytes;
    if (!mem_mul(p.rows, r->n, &bytes) || !mem_mul(bytes, sizeof(float), &bytes))
        return err_set(e, "a batch of %zu is too large", r->n);
    r->n_block = p.n_block;
    r->kept = p.kept;
    r->n_mat = p.n_mat;
    for (size_t i = 0; i < p.n_mat; i++)
        if (!(r->mat[i] = d->op->alloc(d, bytes, e)))
            return -1;
    for (size_t i = 0; i < sizeof r->lse / sizeof *r->lse; i++)
        if (!(r->lse[i] = d->op->alloc(d, r->n * sizeof(float), e)))
            return -1;
    for (int i = 0; i < 2 && losses_needs(l) & LOSS_GROUPS; i++)
        if (!(r->at[i] = d->op->alloc(d, r->n * sizeof(int32_t), e)))
            return -1;
    return (r->row = d->op->alloc(d, r->n * sizeof(float), e)) &&
                   (r->row2 = d->op->alloc(d, r->n * sizeof(float), e)) &&
                   (r->diagonal = d->op->alloc(d, r->n * sizeof(int32_t), e)) &&
                   (r->host = mem_alloc(r->n, sizeof(float), e))
               ? 0
               : -1;
}

int losses_open(struct losses *l, struct dev *d, size_t n, size_t n_label, struct err *e)
{
    struct loss_room *r = &l->room;
    size_t size = ranks_size(l->comm);
    *r = (struct loss_room){.d = d, .n = n, .comm = l->comm, .parts = l->parts ? l->parts : 1};
    r->part = part_rows(l, n);
    r->own = r->parts / size;
    r->part0 = r->own * ranks_rank(l->comm);
    if (size > 1 && (r->parts % size || n % r->parts))
        return err_set(e, "a batch of %zu in %zu parts cannot be dealt to %zu ranks", n, r->parts,
                       size);
    if (open_matrices(l, e) || open_values(l, n_label, e)) {
        losses_close(l);
        return -1;
    }
    int32_t *number = (int32_t *)(void *)r->host; // the same size, not in use yet
    for (size_t i = 0; i < n; i++)
        number[i] = (int32_t)i;
    d->op->upload(d, r->diagonal, number, n * sizeof *number);
    return d->op->sync(d, e);
}

void losses_close(struct losses *l)
{
    struct loss_room *r = &l->room;
    if (!r->d)
        return;
    void *dev[] = {r->mat[0], r->mat[1],   r->mat[2], r->mat[3], r->lse[0],
                   r->lse[1], r->lse[2],   r->lse[3], r->row,    r->row2,
                   r->rows,   r->diagonal, r->sums,   r->at[0],  r->at[1]};
    for (size_t i = 0; i < sizeof dev / sizeof *dev; i++)
        if (dev[i])
            r->d->op->free(r->d, dev[i]);
    free(r->host);
    free(r->host_rows);
    free(r->host_sums);
    free(r->of);
    memset(r, 0, sizeof *r);
}

static void begin(struct loss_room *m, size_t batch)
{
    m->n_rows = m->n_sums = m->n_of = 0;
    m->overrun = false;
    m->batch = batch;
    memset(m->by_scale, 0, sizeof m->by_scale);
    memset(m->by_bias, 0, sizeof m->by_bias);
}

static float weight_at(const struct losses *l, size_t term, uint64_t step)
{
    bool grows = is_cluster(term) && step + 1 < l->cluster_warmup;
    return grows ? l->weight[term] * ((float)(step + 1) / (float)l->cluster_warmup)
                 : l->weight[term];
}

static int run_term(struct losses *l, struct loss_run *r, struct err *e)
{
    const struct loss_kind *k = &loss_kinds[r->term];
    if (k->run(r, l->effective[r->term], e))
        return err_wrap(e, "%s loss", k->name);
    return r->room->overrun
               ? err_set(e, "%s loss: more rows or sums than its row of the table has", k->name)
               : 0;
}

static size_t find_term(int (*run)(struct loss_run *r, float weight, struct err *e))
{
    size_t i = 0;
    while (loss_kinds[i].run != run)
        i++;
    return i;
}

bool losses_soft(const struct losses *l)
{
    return l->weight[find_term(loss_cluster_soft)] > 0;
}

// The cluster terms share the sample and its cosines: a block of the batch goes through all of
// them.
static int queue_clusters(struct losses *l, struct loss_run *r, struct err *e)
{
    const struct loss_batch *b = r->b;
    struct loss_room *m = r->room;
    struct cluster_head *h = b->w;
    size_t rows = m->n_rows, of = m->n_of, sums = m->n_sums, n = h->n_block;
    if (cluster_head_draw(h, b->n, b->label, b->seed, b->step, e))
        return err_wrap(e, "cluster loss");
    if (h->set.soft && loss_soft_targets(r, e))
        return err_wrap(e, "cluster loss");
    if (m->parts > 1) {
        const struct loss_cluster_terms t = {find_term(loss_cluster_ce), find_term(loss_cluster_kl),
                                             find_term(loss_cluster_soft)};
        if (loss_cluster_parts(r, &t, l->effective, e))
            return err_wrap(e, "cluster loss");
        cluster_head_finish(h);
        return 0;
    }
    for (r->at = 0; r->at < b->n; r->at += n) {
        r->n = b->n - r->at < n ? b->n - r->at : n;
        m->n_rows = rows; // the same parts again, and the block's part of each row
        m->n_of = of;
        m->n_sums = sums;
        cluster_head_block(h, r->n, b->pv + r->at * h->dim);
        for (r->term = 0; loss_kinds[r->term].name; r->term++)
            if (is_cluster(r->term) && l->effective[r->term] > 0 && run_term(l, r, e))
                return -1;
        cluster_head_block_end(h, !r->at, r->n, b->pv + r->at * h->dim, r->g->dpv + r->at * h->dim);
    }
    cluster_head_finish(h);
    r->at = 0;
    return 0;
}

// Computes one more sum of each part, by which the optimiser sees whether a loss is not finite.
static void queue_check(struct loss_run *r)
{
    struct loss_room *m = r->room;
    size_t n = r->b->n, sum = m->n_rows ? loss_sum(r) : 0;
    for (size_t p = m->part0; p < m->part0 + m->own && p * r->part < n; p++) {
        size_t at = p * r->part, rows = n - at < r->part ? n - at : r->part;
        for (size_t k = 0; k < m->n_rows; k++)
            loss_sum_add(r, sum, p, !k, rows, m->rows + k * n + at, NULL);
    }
}

// Combines the values that the ranks computed, each for its rows and parts.
static int gather_values(struct loss_run *r, struct err *e)
{
    struct loss_room *m = r->room;
    size_t own = m->own * r->part * sizeof(float);
    for (size_t k = 0; k < m->n_rows; k++)
        if (ranks_gather(m->d, m->comm, "losses", m->rows + k * r->b->n, own, e))
            return -1;
    return ranks_gather(m->d, m->comm, "sums of losses", m->sums,
                        m->own * m->max_sums * sizeof *m->sums, e);
}

int losses_queue(struct losses *l, const struct loss_batch *b, struct loss_grads *g, struct err *e)
{
    struct loss_room *m = &l->room;
    struct dev *d = m->d;
    struct loss_run r = {.room = m, .b = b, .g = g, .n = b->n, .part = b->part ? b->part : b->n};
    bool clusters = false;
    begin(m, b->n);
    d->op->zero(d, m->sums, m->parts * m->max_sums * sizeof *m->sums);
    if (b->n > m->n || r.part > m->part || (m->own < m->parts && b->n != m->n))
        return err_set(e, "a batch of %zu in parts of %zu where %zu in %zu were planned", b->n,
                       r.part, m->n, m->part);
    if (b->w)
        cluster_head_begin(b->w);
    for (; loss_kinds[r.term].name; r.term++) {
        float weight = l->effective[r.term] = weight_at(l, r.term, b->step);
        if (is_cluster(r.term))
            clusters = clusters || weight > 0;
        else if (weight > 0 && run_term(l, &r, e))
            return -1;
    }
    if (clusters && queue_clusters(l, &r, e))
        return -1;
    queue_check(&r);
    if (gather_values(&r, e))
        return -1;
    d->op->fetch(d, m->host_rows, m->rows, m->n_rows * b->n * sizeof *m->rows);
    d->op->fetch(d, m->host_sums, m->sums, m->parts * m->max_sums * sizeof *m->sums);
    return 0;
}

void losses_scalars(struct losses *l, size_t part, float *dscale, float *dbias)
{
    struct loss_room *m = &l->room;
    const double *sums = m->sums + part * m->max_sums;
    if (dscale)
        m->d->op->weigh(m->d, m->n_sums, sums, m->by_scale, dscale);
    if (dbias)
        m->d->op->weigh(m->d, m->n_sums, sums, m->by_bias, dbias);
}

size_t losses_checks(const struct losses *l, const double **check)
{
    *check = l->room.sums;
    return l->room.parts * l->room.max_sums;
}

// Adds the sums of all parts in order.
static double whole_sum(const struct loss_room *m, size_t sum)
{
    double x = 0;
    for (size_t p = 0; p < m->parts; p++)
        x += m->host_sums[p * m->max_sums + sum];
    return x;
}

static double part_value(const struct loss_room *m, const struct loss_part *p)
{
    double value = 0;
    for (size_t k = 0; k < p->n; k++) {
        double sum = 0;
        const float *row = m->host_rows + p->s[k].at * m->batch;
        for (size_t i = 0; p->s[k].row && i < m->batch; i++)
            sum += (double)row[i];
        value += p->s[k].weight * (p->s[k].row ? sum : whole_sum(m, p->s[k].at));
    }
    return p->plus + value / p->den;
}

double losses_values(struct losses *l, struct loss_grads *g)
{
    const struct loss_room *m = &l->room;
    double total = 0;
    memset(l->value, 0, sizeof l->value);
    for (size_t i = 0; i < m->n_of; i++)
        l->value[m->of[i].term] += part_value(m, &m->of[i]);
    for (size_t i = 0; loss_kinds[i].name; i++)
        if (l->weight[i] > 0)
            total += (double)l->effective[i] * l->value[i];
    for (size_t i = 0; i < m->n_sums; i++) {
        g->dscale += m->by_scale[i] != 0 ? m->by_scale[i] * whole_sum(m, i) : 0;
        g->dbias += m->by_bias[i] != 0 ? m->by_bias[i] * whole_sum(m, i) : 0;
    }
    return total;
}

int losses_run(struct losses *l, const struct loss_batch *b, struct loss_grads *g, double *total,
               struct err *e)
{
    struct dev *d = l->room.d;
    if (losses_queue(l, b, g, e) || d->op->sync(d, e))
        return -1;
    *total = losses_values(l, g);
    return 0;
}
