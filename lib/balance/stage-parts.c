// SPDX-License-Identifier: Apache-2.0
// sem-balance --part and --merge.
#include <stdlib.h>
#include <string.h>

#include "balance/stage-run.h"
#include "base/mem.h"

// Whatever changes what is found. The order of SemDeDup is by who may survive, too.
int balance_stage_tag(struct balance_stage *j, const struct balance_options *o, struct err *e)
{
    bool order = o->rule == BALANCE_SEMDEDUP;
    double reals[] = {o->distance, o->curve_to};
    uint64_t words[] = {o->rule, o->n_cells, o->probe, order ? o->survivor : 0,
                        order ? o->seed : 0};
    struct digest *d = digest_new(e);
    if (!d)
        return -1;
    digest_add(d, reals, sizeof reals);
    digest_add(d, words, sizeof words);
    digest_add(d, j->cells_hex, sizeof j->cells_hex);
    if (order && j->may)
        digest_add(d, j->may, j->files.set.rows);
    if (j->selected.why)
        digest_add(d, j->selected.why, j->files.set.rows);
    if (order && o->survivor == BALANCE_SCORE)
        digest_add(d, j->selected.score, j->files.set.rows * sizeof *j->selected.score);
    digest_hex(d, j->tag.options);
    digest_reset(d);
    int r = embedding_files_digest(&j->files, NULL, d, e);
    digest_hex(d, j->tag.rows);
    digest_free(d);
    return r;
}

int balance_stage_found(void *ctx, const void *joins, size_t n, struct err *e)
{
    struct balance_stage *j = ctx;
    return balance_joins_save(j->common->output, &j->tag, j->part, j->parts, joins, n, e);
}

const void *balance_stage_take(void *ctx, size_t i, size_t *n, struct err *e)
{
    struct balance_stage *j = ctx;
    balance_joins_close(&j->joins);
    if (balance_joins_open(&j->joins, j->o->merge.items[i], &j->tag, e))
        return NULL;
    *n = j->joins.n;
    return j->joins.joins;
}

// All parts, each once, before any row is read.
int balance_stage_check_parts(struct balance_stage *j, struct err *e)
{
    const struct cli_list *l = &j->o->merge;
    const char **by = mem_alloc(l->n, sizeof *by, e);
    int r = by ? 0 : -1;
    for (size_t i = 0; i < l->n && !r; i++) {
        size_t n;
        if (!balance_stage_take(j, i, &n, e))
            r = -1;
        else if (j->joins.parts != l->n)
            r = err_set(e, "%s is one of %llu parts, here are %zu", l->items[i],
                        (unsigned long long)j->joins.parts, l->n);
        else if (by[j->joins.part])
            r = err_set(e, "%s and %s are the same part", by[j->joins.part], l->items[i]);
        else
            by[j->joins.part] = l->items[i];
    }
    free(by);
    return r;
}
