// SPDX-License-Identifier: Apache-2.0
// Examples of the samples that were lost in reading: of each reason a few, with their pictures
// where they have any.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "page/pictures.h"
#include "report/parts.h"
#include "system/io.h"

enum { REASONS = 16, EACH = 6, REASON_TEXT = 120 };

struct lost {
    size_t n;
    char reason[REASONS][48]; // status of the index
    size_t have[REASONS];
    char why[REASONS * EACH][REASON_TEXT]; // of each pick
    struct page_picks picks;
};

// Column k of a line of an index; its length.
static size_t column(const char *line, const char *end, int k, const char **at)
{
    for (; k > 0 && line < end; k--) {
        const char *tab = memchr(line, '\t', (size_t)(end - line));
        line = tab ? tab + 1 : end;
    }
    *at = line;
    const char *tab = memchr(line, '\t', (size_t)(end - line));
    return (size_t)((tab ? tab : end) - line);
}

static size_t reason_of(struct lost *l, const char *name, size_t n)
{
    for (size_t k = 0; k < l->n; k++)
        if (strlen(l->reason[k]) == n && !memcmp(l->reason[k], name, n))
            return k;
    if (l->n == REASONS || n >= sizeof l->reason[0])
        return REASONS;
    snprintf(l->reason[l->n], sizeof l->reason[0], "%.*s", (int)n, name);
    return l->n++;
}

static int add_line(struct lost *l, uint32_t shard, uint64_t row, const char *line, const char *end,
                    struct err *e)
{
    const char *status, *reason, *key;
    size_t n = column(line, end, 2, &status);
    if ((n == 2 && !memcmp(status, "ok", 2)) || !n)
        return 0;
    size_t k = reason_of(l, status, n);
    if (k == REASONS || l->have[k] == EACH)
        return 0;
    l->have[k]++;
    void *p = l->picks.pick;
    if (mem_grow(&p, &l->picks.cap, l->picks.n + 1, sizeof *l->picks.pick, e))
        return -1;
    l->picks.pick = p;
    size_t n_reason = column(line, end, 3, &reason), n_key = column(line, end, 1, &key);
    snprintf(l->why[l->picks.n], REASON_TEXT, "%.*s", (int)n_reason, reason);
    struct page_pick *pick = &l->picks.pick[l->picks.n++];
    *pick = (struct page_pick){.shard = shard, .ordinal = row, .set = (int)k};
    snprintf(pick->key, sizeof pick->key, "%.*s", (int)n_key, key);
    return 0;
}

static int read_index(struct lost *l, const char *work, const char *name, uint32_t shard,
                      struct err *e)
{
    char path[PATH_BYTES];
    struct map m;
    if (path_format(path, e, "%s/index/%s.tsv", work, name) || map_open(&m, path, e))
        return -1;
    const char *p = (const char *)m.data, *end = p ? p + m.n : p;
    int rc = 0;
    for (uint64_t row = 0; rc == 0 && p < end; row++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        stop = stop ? stop : end;
        rc = add_line(l, shard, row, p, stop, e);
        p = stop < end ? stop + 1 : end;
    }
    map_close(&m);
    return rc;
}

static void put_reason(struct html *h, const struct lost *l, size_t k,
                       const struct path_names *names)
{
    html_raw(h, "<h3>");
    html_text(h, l->reason[k]);
    html_raw(h, "</h3>\n<div class='wall'>\n");
    for (size_t i = 0; i < l->picks.n; i++) {
        const struct page_pick *p = &l->picks.pick[i];
        if (p->set != (int)k)
            continue;
        html_raw(h, "<figure>");
        page_put_picture(h, p);
        html_raw(h, "<figcaption>");
        html_text(h, strcmp(l->why[i], "-") ? l->why[i] : p->caption);
        html_raw(h, "<small>");
        html_text(h, names->names[p->shard]);
        html_raw(h, " ");
        html_text(h, p->key);
        html_raw(h, "</small></figcaption></figure>\n");
    }
    html_raw(h, "</div>\n");
}

int report_put_lost(struct html *h, const char *work, const char *shards,
                    const struct path_names *names, const struct ledger *ledger, struct err *e)
{
    struct lost *l = mem_alloc(1, sizeof *l, e);
    if (!l)
        return -1;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < ledger->n; i++) {
        const struct ledger_row *r = &ledger->rows[i];
        // Shards that lost nothing in reading are not looked into.
        if (strcmp(r->stage, "read") != 0 || r->in == r->out)
            continue;
        for (size_t k = 0; rc == 0 && k < names->n; k++)
            if (!strcmp(names->names[k], r->shard))
                rc = read_index(l, work, names->names[k], (uint32_t)k, e);
    }
    if (rc == 0 && shards && l->picks.n)
        rc = page_picks_load(shards, names, &l->picks, e);
    for (size_t k = 0; rc == 0 && k < l->n; k++)
        put_reason(h, l, k, names);
    page_picks_free(&l->picks);
    free(l);
    return rc;
}
