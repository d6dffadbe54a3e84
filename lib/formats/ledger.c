// SPDX-License-Identifier: Apache-2.0
// Rows and sums; ledger-file.c reads and writes the file.
#include "formats/ledger.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

typedef unsigned long long ull;

static bool is_name(const char *s)
{
    for (const unsigned char *p = (const unsigned char *)s; *p; p++)
        if (*p < 0x20 || *p == 0x7f)
            return false;
    return *s != '\0';
}

int ledger_row_init(struct ledger_row *r, const char *stage, const char *shard, struct err *e)
{
    *r = (struct ledger_row){0};
    if (!is_name(stage) || !is_name(shard))
        return err_set(e, "ledger: '%s' of '%s' is empty or has control characters", shard, stage);
    r->stage = mem_strdup(stage, e);
    r->shard = r->stage ? mem_strdup(shard, e) : NULL;
    r->reasons = r->shard ? mem_alloc(LEDGER_REASONS, sizeof *r->reasons, e) : NULL;
    if (r->reasons)
        return 0;
    ledger_row_release(r);
    return -1;
}

void ledger_row_release(struct ledger_row *r)
{
    free(r->stage);
    free(r->shard);
    free(r->reasons);
    *r = (struct ledger_row){0};
}

static bool is_reason(const char *s)
{
    size_t n = strlen(s);
    return n > 0 && n < LEDGER_REASON_MAX &&
           strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

int ledger_drop(struct ledger_row *r, const char *reason, uint64_t n, struct err *e)
{
    size_t i = 0;
    if (!is_reason(reason))
        return err_set(e, "ledger: '%.40s' is not a reason", reason);
    while (i < r->n_reasons && strcmp(r->reasons[i].name, reason) < 0)
        i++;
    if (i == r->n_reasons || strcmp(r->reasons[i].name, reason)) {
        if (n == 0)
            return 0;
        if (r->n_reasons == LEDGER_REASONS)
            return err_set(e, "ledger: more than %d reasons", LEDGER_REASONS);
        memmove(r->reasons + i + 1, r->reasons + i, (r->n_reasons - i) * sizeof *r->reasons);
        r->reasons[i] = (struct ledger_reason){0};
        strcpy(r->reasons[i].name, reason);
        r->n_reasons++;
    }
    if (n > UINT64_MAX - r->reasons[i].count)
        return err_set(e, "ledger: the count of '%s' overflows", reason);
    r->reasons[i].count += n;
    return 0;
}

uint64_t ledger_dropped(const struct ledger_row *r)
{
    uint64_t n = 0;
    for (size_t i = 0; i < r->n_reasons; i++)
        n += r->reasons[i].count;
    return n;
}

int ledger_row_check(const struct ledger_row *r, struct err *e)
{
    uint64_t dropped = ledger_dropped(r);
    if (r->out <= r->in && r->in - r->out == dropped)
        return 0;
    return err_set(e, "ledger: stage '%s', shard '%s': in %llu is not out %llu + dropped %llu",
                   r->stage, r->shard, (ull)r->in, (ull)r->out, (ull)dropped);
}

void ledger_release(struct ledger *l)
{
    for (size_t i = 0; i < l->n; i++)
        ledger_row_release(&l->rows[i]);
    free(l->rows);
    *l = (struct ledger){0};
}

int ledger_sum(const struct ledger *l, const char *stage, struct ledger_row *sum, struct err *e)
{
    int found = 0;
    if (ledger_row_init(sum, stage, "*", e))
        return -1;
    for (size_t i = 0; i < l->n; i++) {
        const struct ledger_row *r = &l->rows[i];
        if (strcmp(r->stage, stage))
            continue;
        found = 1;
        sum->in += r->in;
        sum->out += r->out;
        for (size_t j = 0; j < r->n_reasons; j++)
            if (ledger_drop(sum, r->reasons[j].name, r->reasons[j].count, e)) {
                ledger_row_release(sum);
                return -1;
            }
    }
    if (!found)
        ledger_row_release(sum);
    return found;
}

// The rows of one stage stand together, sorted by shard.
struct name_range {
    const struct ledger_row *rows;
    size_t n;
};

static struct name_range find_stage(const struct ledger *l, const char *stage)
{
    size_t i = 0, j;
    while (i < l->n && strcmp(l->rows[i].stage, stage))
        i++;
    for (j = i; j < l->n && strcmp(l->rows[j].stage, stage) == 0; j++)
        ;
    return (struct name_range){l->rows + i, j - i};
}

static bool is_total(struct name_range s)
{
    return s.n == 1 && strcmp(s.rows[0].shard, "*") == 0;
}

static int check_totals(struct name_range a, struct name_range b, struct err *e)
{
    uint64_t out = 0, in = 0;
    for (size_t i = 0; i < a.n; i++)
        out += a.rows[i].out;
    for (size_t i = 0; i < b.n; i++)
        in += b.rows[i].in;
    if (in == out)
        return 0;
    return err_set(e, "ledger: %llu came out of stage '%s', but %llu went into stage '%s'",
                   (ull)out, a.rows[0].stage, (ull)in, b.rows[0].stage);
}

// Both lists are sorted by shard and walked together.
static int check_shards(struct name_range a, struct name_range b, struct err *e)
{
    const char *before = a.rows[0].stage, *after = b.rows[0].stage;
    for (size_t i = 0, j = 0; i < a.n || j < b.n; i++, j++) {
        int cmp = i == a.n ? 1 : j == b.n ? -1 : strcmp(a.rows[i].shard, b.rows[j].shard);
        if (cmp < 0)
            return err_set(e, "ledger: shard '%s' of stage '%s' is missing from stage '%s'",
                           a.rows[i].shard, before, after);
        if (cmp > 0)
            return err_set(e, "ledger: shard '%s' of stage '%s' is not in stage '%s'",
                           b.rows[j].shard, after, before);
        if (a.rows[i].out != b.rows[j].in)
            return err_set(e,
                           "ledger: shard '%s': %llu came out of stage '%s', but %llu went into "
                           "stage '%s'",
                           a.rows[i].shard, (ull)a.rows[i].out, before, (ull)b.rows[j].in, after);
    }
    return 0;
}

int ledger_check(const struct ledger *l, const char *const *stages, struct err *e)
{
    struct name_range last = {0};
    for (size_t i = 0; i < l->n; i++)
        if (ledger_row_check(&l->rows[i], e))
            return -1;
    for (; *stages; stages++) {
        struct name_range s = find_stage(l, *stages);
        if (!s.n)
            continue;
        if (last.n &&
            (is_total(s) || is_total(last) ? check_totals(last, s, e) : check_shards(last, s, e)))
            return -1;
        last = s;
    }
    return 0;
}
