// SPDX-License-Identifier: Apache-2.0
// Pairs of blocks with the products of a device. As many pairs as its memory has rows for make a
// turn: their rows go over once, packed, then their blocks of scores are made run by run, and each
// run gives a list of the pairs that may be near; these are decided here while the next one is
// made. A list that was too short is thrown away and its run cut in half; one block always fits.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "balance/run.h"
#include "base/mem.h"
#include "system/threads.h"
#include "search/search-device.h"

enum { TASK = 64, HITS = 512 };               // rows packed, hits decided by one task
enum { FIRST_RUN = 64, LONGEST = 4096 };      // blocks of scores
static const uint64_t MOST_SCORES = 1u << 31; // of a run: the list's counter has 32 bits

enum { PIECES = 1 << 16, ITEMS = 1 << 17 }; // of a turn

// Part of a block on the device.
struct pair_piece {
    uint32_t block, first, n; // in the block
    uint32_t at;              // its first row there
    size_t before;            // 1 + the piece of the same block that came before; 0 = none
};

struct item {
    uint32_t a, b; // pieces
};

// Where the pairs, or the blocks of scores, are being walked through.
struct piece_walk {
    size_t pair;
    uint32_t a, b;
};

struct device_turn {
    struct balance_run *b;
    struct search_device *s;
    struct balance_found *found;
    const struct balance_pair *pairs;
    size_t n_pairs;
    struct piece_walk next; // pair, and the pieces of its blocks
    struct pair_piece *pieces;
    size_t n_pieces, pieces_room;
    struct item *items;
    size_t n_items, items_room;
    size_t *latest;     // per block: 1 + its latest piece
    uint32_t rows;      // on the device
    float *norm, *lost; // per row there
    double most, worst;
    uint32_t packed; // rows packed so far
    size_t n_hits;   // in s->listed
    struct loop_error fail;
};

// Rows of a piece at most: two fit.
static uint32_t piece_rows(const struct device_turn *t)
{
    return (uint32_t)(t->s->room / 2);
}

static uint32_t count_pieces(const struct device_turn *t, uint32_t block)
{
    uint32_t n = t->b->blocks[block].n, most = piece_rows(t);
    return n / most + (n % most != 0);
}

static struct pair_piece make_piece(const struct device_turn *t, uint32_t block, uint32_t i)
{
    uint32_t most = piece_rows(t), first = i * most, left = t->b->blocks[block].n - first;
    return (struct pair_piece){.block = block, .first = first, .n = left < most ? left : most};
}

// 1 + the piece, where the turn has it; else 0.
static size_t find_piece(const struct device_turn *t, const struct pair_piece *p)
{
    size_t i = t->latest[p->block];
    while (i && t->pieces[i - 1].first != p->first)
        i = t->pieces[i - 1].before;
    return i;
}

// The piece's number in *at, which is 1 + it where it was there already.
static int add_piece(struct device_turn *t, struct pair_piece p, size_t *at, struct err *e)
{
    if (*at)
        return 0;
    if (mem_grow(&t->pieces, &t->pieces_room, t->n_pieces + 1, sizeof *t->pieces, e))
        return -1;
    p.at = t->rows;
    p.before = t->latest[p.block];
    t->pieces[t->n_pieces] = p;
    t->latest[p.block] = *at = ++t->n_pieces;
    t->rows += p.n;
    return 0;
}

// Adds the pieces that `next` is at. 1 added, 0 no room, -1.
static int add_item(struct device_turn *t, struct err *e)
{
    const struct balance_pair *p = &t->pairs[t->next.pair];
    struct pair_piece a = make_piece(t, p->a, t->next.a), b = make_piece(t, p->b, t->next.b);
    bool same = a.block == b.block && a.first == b.first;
    size_t at = find_piece(t, &a), bt = find_piece(t, &b);
    size_t more = (at ? 0 : a.n) + (bt || same ? 0 : b.n);
    if (t->rows + more > t->s->room || t->n_pieces > PIECES - 2 || t->n_items == ITEMS)
        return 0;
    if (mem_grow(&t->items, &t->items_room, t->n_items + 1, sizeof *t->items, e) ||
        add_piece(t, a, &at, e))
        return -1;
    bt = same ? at : bt;
    if (add_piece(t, b, &bt, e))
        return -1;
    t->items[t->n_items++] = (struct item){(uint32_t)at - 1, (uint32_t)bt - 1};
    return 1;
}

static void step(struct device_turn *t)
{
    const struct balance_pair *p = &t->pairs[t->next.pair];
    struct piece_walk *w = &t->next;
    if (++w->b < count_pieces(t, p->b))
        return;
    w->b = p->a == p->b ? ++w->a : 0;
    w->a += p->a != p->b;
    if (w->a < count_pieces(t, p->a))
        return;
    *w = (struct piece_walk){.pair = w->pair + 1};
}

// The items of a turn.
static int fill(struct device_turn *t, struct err *e)
{
    int r = 1;
    for (size_t i = 0; i < t->n_pieces; i++)
        t->latest[t->pieces[i].block] = 0;
    t->n_pieces = t->n_items = 0;
    t->rows = 0;
    while (t->next.pair < t->n_pairs && r > 0) {
        r = add_item(t, e);
        if (r > 0)
            step(t);
    }
    return r < 0 ? -1 : 0;
}

static const struct pair_piece *piece_of(const struct device_turn *t, uint32_t row)
{
    size_t low = 0, high = t->n_pieces - 1;
    while (low < high) {
        size_t mid = (low + high + 1) / 2;
        if (t->pieces[mid].at <= row)
            low = mid;
        else
            high = mid - 1;
    }
    return &t->pieces[low];
}

static void pack_task(void *ctx, size_t task)
{
    struct device_turn *t = ctx;
    const struct balance_run *b = t->b;
    uint32_t first = t->packed + (uint32_t)task * TASK, end = t->packed + SEARCH_DEVICE_PACK;
    struct err e;
    float *unit = mem_alloc(b->dim, sizeof *unit, &e);
    if (!unit) {
        loop_error_set(&t->fail, &e);
        return;
    }
    end = end < t->rows ? end : t->rows;
    for (uint32_t i = first; i < end && i < first + TASK; i++) {
        const struct pair_piece *p = piece_of(t, i);
        balance_unit(b, &b->blocks[p->block], p->first + i - p->at, unit);
        search_device_pack(t->s, unit, search_device_row(t->s, t->s->act, i - t->packed),
                           &t->norm[i], &t->lost[i]);
    }
    free(unit);
}

// What was packed is the unit row rounded to float32: within 2^-23 of it on each side.
static double bound_of(const struct device_turn *t, uint32_t row)
{
    return search_device_bound(t->s, t->norm[row], t->lost[row], t->most, t->worst) + 5e-7;
}

static int send(struct device_turn *t, struct err *e)
{
    struct search_device *s = t->s;
    t->most = t->worst = 0;
    for (t->packed = 0; t->packed < t->rows; t->packed += SEARCH_DEVICE_PACK) {
        uint32_t left = t->rows - t->packed,
                 n = left < SEARCH_DEVICE_PACK ? left : SEARCH_DEVICE_PACK;
        if (threads_for_stop(t->b->o->threads, (n + TASK - 1) / TASK, pack_task, t, e) ||
            loop_error_check(&t->fail, e))
            return -1;
        s->d->op->upload(s->d, search_device_row(s, s->right, t->packed), s->act,
                         n * s->ld * s->d->act_size);
    }
    for (uint32_t i = 0; i < t->rows; i++) {
        t->most = fmax(t->most, t->norm[i]);
        t->worst = fmax(t->worst, t->lost[i]);
    }
    for (uint32_t at = 0; at < t->rows; at += SEARCH_DEVICE_PACK) {
        uint32_t n = t->rows - at < SEARCH_DEVICE_PACK ? t->rows - at : SEARCH_DEVICE_PACK;
        for (uint32_t i = 0; i < n; i++)
            s->norm[i] = balance_least(t->b, bound_of(t, at + i));
        s->d->op->upload(s->d, s->least + at, s->norm, n * sizeof *s->norm);
    }
    return 0;
}

// One block of scores of an item; nothing where it has no pair.
static void compare(struct device_turn *t, const struct item *it, uint32_t row, uint32_t col,
                    uint32_t rows, uint32_t cols)
{
    struct search_device *s = t->s;
    struct dev_scores block = {.v = s->scores,
                               .ld = s->cols,
                               .rows = rows,
                               .cols = cols,
                               .row0 = t->pieces[it->a].at + row,
                               .col0 = t->pieces[it->b].at + col};
    bool same = it->a == it->b;
    if (same && block.col0 + cols <= block.row0 + 1)
        return;
    s->d->op->scores(s->d, rows, search_device_row(s, s->right, block.row0), cols,
                     search_device_row(s, s->right, block.col0), s->ld, s->scores, s->cols);
    s->d->op->hits_above(s->d, &block, s->least + block.row0, same, &s->hits);
}

// Starts at most n blocks of scores from *w on (pair: the item; a, b: row and column in it), with
// an empty list. *area: their scores. Returns how many there were.
static size_t launch(struct device_turn *t, struct piece_walk *w, size_t n, double *area)
{
    struct search_device *s = t->s;
    size_t done = 0;
    uint64_t sum = 0;
    s->d->op->zero(s->d, s->hits.n, sizeof *s->hits.n);
    for (; done < n && w->pair < t->n_items; done++) {
        const struct item *it = &t->items[w->pair];
        const struct pair_piece *a = &t->pieces[it->a], *b = &t->pieces[it->b];
        uint32_t rows = a->n - w->a < s->rows ? a->n - w->a : (uint32_t)s->rows;
        uint32_t cols = b->n - w->b < s->cols ? b->n - w->b : (uint32_t)s->cols;
        if (done && sum + (uint64_t)rows * cols > MOST_SCORES)
            break;
        sum += (uint64_t)rows * cols;
        compare(t, it, w->a, w->b, rows, cols);
        w->b += cols;
        if (w->b < b->n)
            continue;
        w->b = 0;
        w->a += rows;
        if (w->a >= a->n)
            *w = (struct piece_walk){.pair = w->pair + 1};
    }
    *area = (double)sum;
    return done;
}

static void decide_task(void *ctx, size_t task)
{
    struct device_turn *t = ctx;
    size_t end = (task + 1) * HITS < t->n_hits ? (task + 1) * HITS : t->n_hits;
    struct balance_found *f = balance_found_take(t->found, t->b->o->threads);
    for (size_t i = task * HITS; i < end; i++) {
        const struct dev_hit *h = &t->s->listed[i];
        struct err e;
        if (h->row >= t->rows || h->col >= t->rows) {
            err_set(&e, "%s: a pair that cannot be", t->s->d->name);
            loop_error_set(&t->fail, &e);
            break;
        }
        const struct pair_piece *a = piece_of(t, h->row), *b = piece_of(t, h->col);
        struct balance_meeting m = {.a = &t->b->blocks[a->block],
                                    .b = &t->b->blocks[b->block],
                                    .i = a->first + h->row - a->at,
                                    .bound = bound_of(t, h->row)};
        balance_meet(t->b, f, &m, b->first + h->col - b->at, h->score);
    }
    atomic_flag_clear(&f->busy);
}

// Fetches n hits from `at` on.
static int fetch(struct device_turn *t, size_t at, size_t n, struct err *e)
{
    t->n_hits = n;
    return n ? t->s->d->op->download(t->s->d, t->s->listed, t->s->hits.hit + at,
                                     n * sizeof *t->s->listed, e)
             : 0;
}

static int decide(struct device_turn *t, struct err *e)
{
    if (!t->n_hits)
        return 0;
    return threads_for_stop(t->b->o->threads, (t->n_hits + HITS - 1) / HITS, decide_task, t, e) ||
                   loop_error_check(&t->fail, e)
               ? -1
               : 0;
}

// All blocks of scores of the turn. *done grows by `pairs` in all.
static int run_turn(struct device_turn *t, double pairs, double *done, double total, struct err *e)
{
    struct search_device *s = t->s;
    double all = 0, seen = 0, area, start = *done;
    size_t run = FIRST_RUN;
    struct piece_walk began = {0}, next = {0};
    for (size_t i = 0; i < t->n_items; i++)
        all += (double)t->pieces[t->items[i].a].n * t->pieces[t->items[i].b].n;
    size_t flying = launch(t, &next, run, &area);
    while (flying) {
        uint32_t hits;
        double was = area;
        if (s->d->op->download(s->d, &hits, s->hits.n, sizeof hits, e))
            return -1;
        if (hits > s->hits.room) {
            s->n_short++;
            if (flying == 1)
                return err_set(e, "%s: more pairs than scores", s->d->name);
            run = flying / 2;
            next = began;
            flying = launch(t, &next, run, &area);
            continue;
        }
        s->n_pairs += hits;
        size_t at = 0, part;
        for (; hits - at > SEARCH_DEVICE_LIST; at += SEARCH_DEVICE_LIST)
            if (fetch(t, at, SEARCH_DEVICE_LIST, e) || decide(t, e))
                return -1;
        part = hits - at;
        if (fetch(t, at, part, e))
            return -1;
        if (hits < s->hits.room / 8 && run < LONGEST)
            run *= 2;
        began = next;
        flying = launch(t, &next, run, &area);
        if (decide(t, e))
            return -1;
        seen += was;
        *done = start + pairs * seen / all;
        if (balance_progress(t->b, *done, total, e))
            return -1;
    }
    return 0;
}

static double pairs_of(const struct device_turn *t)
{
    double sum = 0;
    for (size_t i = 0; i < t->n_items; i++) {
        double m = t->pieces[t->items[i].a].n, n = t->pieces[t->items[i].b].n;
        sum += t->items[i].a == t->items[i].b ? m * (m - 1) / 2 : m * n;
    }
    return sum;
}

int balance_pairs_device(struct balance_run *b, struct balance_found *found,
                         const struct balance_pair *pairs, size_t n, double *done, double total,
                         struct err *e)
{
    struct device_turn t = {
        .b = b, .s = b->o->device, .found = found, .pairs = pairs, .n_pairs = n};
    if (!t.s->least)
        return err_set(e, "%s was not made ready for pairs", t.s->d->name);
    t.latest = mem_alloc(b->n_blocks, sizeof *t.latest, e);
    t.norm = t.latest ? mem_alloc(t.s->room, sizeof *t.norm, e) : NULL;
    t.lost = t.norm ? mem_alloc(t.s->room, sizeof *t.lost, e) : NULL;
    int r = t.lost ? 0 : -1;
    while (!r && t.next.pair < n)
        r = fill(&t, e) || send(&t, e) || run_turn(&t, pairs_of(&t), done, total, e);
    free(t.latest);
    free(t.norm);
    free(t.lost);
    free(t.pieces);
    free(t.items);
    return r ? -1 : 0;
}
