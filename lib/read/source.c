// SPDX-License-Identifier: Apache-2.0
#include "read/source-run.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "read/count.h"
#include "read/shard.h"

static void free_events(struct read_events *v)
{
    for (size_t i = 0; i < v->n; i++)
        free(v->at[i].sample.key);
    free(v->at);
}

void read_source_free(struct read_source *s)
{
    if (!s)
        return;
    shard_close(s->shard);
    read_keep_close(&s->keep);
    read_group_close(&s->group);
    free(s->labels);
    free(s->turn);
    while (s->shards) {
        struct read_shard *next = s->shards->next;
        read_shard_free(s->shards);
        s->shards = next;
    }
    shard_keys_free(s->keys);
    free(s->counts);
    read_skip_release(&s->skip);
    free_events(&s->before);
    free_events(&s->window);
    free_events(&s->after);
    free(s);
}

// The window is read: the order of its samples where they are grouped, and what of them is skipped.
static int end_window(struct read_source *s, uint64_t number, uint64_t at, struct err *e)
{
    bool groups = s->o->group_labels;
    void *p = s->turn;
    int rc = groups ? mem_grow(&p, &s->cap_turn, s->n_labels, sizeof *s->turn, e) : 0;
    s->turn = p;
    if (rc || (groups && read_group_order(&s->order, number, s->labels, s->n_labels,
                                          (size_t)s->o->group, s->turn, e)))
        return -1;
    read_skip_window(&s->skip, &s->order, number, at, groups ? s->turn : NULL);
    s->n_labels = 0;
    return 0;
}

// Passes over a window before the slice. 1, 0 when the samples end in it, -1.
static int pass_window(struct read_source *s, uint64_t size, struct err *e)
{
    uint64_t at = s->seen;
    int rc = 1;
    for (uint64_t i = 0; i < size && rc > 0; i++)
        rc = read_take(s, true, e);
    return rc >= 0 && end_window(s, at / size, at, e) ? -1 : rc;
}

// Passes over shards that lie before the part without opening them, and over samples up to the next
// window. 1, 0 when the samples end there, -1.
static int jump(struct read_source *s, uint64_t size, struct err *e)
{
    uint64_t window = s->skip.from / size * size;
    int rc = 1;
    for (; s->counts && !s->shard && s->next_shard < s->o->shards->n; s->next_shard++) {
        uint64_t n = s->counts[read_place_of(s, s->next_shard)];
        if (s->seen + n > window)
            break;
        s->seen += n;
    }
    uint64_t at = s->seen;
    while (s->seen % size && rc > 0)
        rc = read_take(s, true, e);
    return rc >= 0 && s->seen > at && end_window(s, at / size, at, e) ? -1 : rc;
}

// Reads the next window, passing over those before the slice. 1, 0 at the end, -1.
static int fill(struct read_source *s, struct err *e)
{
    uint64_t size = s->o->shuffle ? s->o->shuffle : 1;
    s->before.n = s->window.n = s->after.n = 0;
    s->i_before = s->i_window = s->i_after = 0;
    if (s->stopped)
        return 0;
    if (!s->seen) {
        int rc = jump(s, size, e);
        if (rc <= 0)
            return rc;
    }
    while (s->seen < s->end && s->first - (s->seen < s->first ? s->seen : s->first) >= size) {
        int rc = pass_window(s, size, e);
        if (rc <= 0)
            return rc;
    }
    s->at = s->seen;
    s->number = s->seen / size;
    int rc = 1;
    if (s->seen >= s->end)
        return read_stop(s, e) ? -1 : s->before.n > 0;
    while (s->window.n < size && rc > 0)
        rc = read_take(s, false, e);
    if (rc >= 0 && end_window(s, s->number, s->at, e))
        return -1;
    if (rc == 0)
        s->stopped = true;
    return rc < 0 ? -1 : s->before.n || s->window.n || s->after.n;
}

static struct read_event *next_event(struct read_source *s)
{
    if (s->i_before < s->before.n)
        return &s->before.at[s->i_before++];
    while (s->i_window < s->window.n) {
        size_t i = s->i_window++, n = s->window.n;
        if (read_in_slice(s, s->at + i))
            return &s->window.at[s->o->group_labels ? s->turn[i]
                                 : n > 1            ? read_order_window(&s->order, s->number, n, i)
                                                    : 0];
    }
    if (s->i_after < s->after.n)
        return &s->after.at[s->i_after++];
    for (size_t i = 0; i < s->window.n; i++) { // outside the slice
        free(s->window.at[i].sample.key);
        s->window.at[i].sample.key = NULL;
    }
    return NULL;
}

int read_source_next(struct read_source *s, struct read_event *out, struct err *e)
{
    struct read_event *ev;
    while (!(ev = next_event(s))) {
        int rc = fill(s, e);
        if (rc < 0)
            return rc;
        if (s->o->skip && !s->told_skip) { // the first window holds the end of what is skipped
            s->told_skip = true;
            *out = (struct read_event){.kind = READ_SKIPPED, .skip = &s->skip};
            return 1;
        }
        if (rc == 0)
            return 0;
    }
    *out = *ev;
    ev->sample.key = NULL;
    if (ev->kind == READ_SAMPLE)
        ev->shard->delivered++;
    if (ev->kind == READ_END)
        ev->shard->whole &= ev->shard->delivered == ev->shard->rows;
    return 1;
}

static struct read_source *new_source(const struct read_options *o, struct err *e)
{
    struct read_source *s = mem_alloc(1, sizeof *s, e);
    if (!s)
        return NULL;
    s->o = o;
    s->end = READ_ALL;
    read_order_init(&s->order, o->seed, o->epoch, o->view);
    s->keys = shard_keys_new(e);
    if (!s->keys) {
        free(s);
        return NULL;
    }
    return s;
}

// The length of the sequence: reads all headers.
static int count(const struct read_options *o, uint64_t *total, struct err *e)
{
    struct read_source *s = new_source(o, e);
    if (!s)
        return -1;
    int rc;
    while ((rc = read_take(s, true, e)) > 0)
        ;
    *total = s->seen;
    read_source_free(s);
    return rc;
}

struct read_source *read_source_new(const struct read_options *o, struct err *e)
{
    uint64_t total;
    struct read_source *s = new_source(o, e);
    if (!s)
        return NULL;
    if (o->n_parts > 1) {
        if (o->counts ? read_counts(o, &s->counts, &total, e) : count(o, &total, e)) {
            read_source_free(s);
            return NULL;
        }
        s->first = read_order_part(total, o->part, o->n_parts);
        if (o->part + 1 < o->n_parts) // the last part also has the dropped samples behind it
            s->end = read_order_part(total, o->part + 1, o->n_parts);
    }
    s->skip.from = s->first;
    if (!mem_add(s->first, o->skip, &s->first) || s->first > s->end)
        s->first = s->end;
    s->skip.to = s->first;
    if (o->limit < s->end - s->first)
        s->end = s->first + o->limit;
    return s;
}
