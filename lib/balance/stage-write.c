// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/path.h"
#include "balance/report.h"
#include "balance/stage-run.h"
#include "formats/json.h"
#include "formats/ledger.h"
#include "formats/npy-write.h"
#include "system/signals.h"

enum { CURVE_STEPS = 100 };

static int write_keep(struct balance_stage *j, size_t part, struct err *e)
{
    const struct npy_part *p = &j->files.set.parts[part];
    struct npy_writer w;
    char *path = embedding_files_path(&j->files, part, j->o->keep_dir, e);
    if (!path || npy_create(&w, path, NPY_U1, 0, NULL, p->rows, e)) {
        free(path);
        return -1;
    }
    int r = npy_write(&w, j->result.keep + p->first, p->rows, e);
    if (r)
        npy_abort(&w);
    else
        r = embedding_files_commit(&j->files, part, path, &w, &j->origin, e);
    free(path);
    return r;
}

static int write_groups(struct balance_stage *j, size_t part, struct err *e)
{
    enum { BUFFER = 8192 };
    const struct npy_part *p = &j->files.set.parts[part];
    struct npy_writer w;
    int64_t rows[BUFFER];
    char *path = embedding_files_path(&j->files, part, j->o->groups_dir, e);
    if (!path || npy_create(&w, path, NPY_I8, 0, NULL, p->rows, e)) {
        free(path);
        return -1;
    }
    int r = 0;
    for (uint64_t at = 0; at < p->rows && !r; at += BUFFER) {
        uint64_t n = p->rows - at < BUFFER ? p->rows - at : BUFFER;
        for (uint64_t i = 0; i < n; i++) {
            uint32_t g = j->result.group[p->first + at + i];
            rows[i] = g == BALANCE_NONE ? -1 : (int64_t)g;
        }
        r = npy_write(&w, rows, n, e);
    }
    if (r)
        npy_abort(&w);
    else
        r = embedding_files_commit(&j->files, part, path, &w, &j->origin, e);
    free(path);
    return r;
}

static int write_hard(struct balance_stage *j, size_t part, struct err *e)
{
    const struct npy_part *p = &j->files.set.parts[part];
    const struct balance_result *r = &j->result;
    struct npy_writer w;
    uint64_t top = j->o->hard;
    char *path = embedding_files_path(&j->files, part, j->o->hard_dir, e);
    int64_t *row = path ? mem_alloc(top, sizeof *row, e) : NULL;
    if (!row || npy_create(&w, path, NPY_I8, 1, &top, p->rows, e)) {
        free(row);
        free(path);
        return -1;
    }
    int status = 0;
    for (uint64_t i = p->first; i < p->first + p->rows && !status; i++) {
        for (uint64_t k = 0; k < top; k++) {
            uint32_t place = r->place[i];
            uint32_t of = place == BALANCE_NONE ? BALANCE_NONE : r->hard[place * top + k];
            row[k] = of == BALANCE_NONE ? -1 : (int64_t)of;
        }
        status = npy_write(&w, row, 1, e);
    }
    if (status)
        npy_abort(&w);
    else
        status = embedding_files_commit(&j->files, part, path, &w, &j->origin, e);
    free(row);
    free(path);
    return status;
}

static int write_ledger(struct balance_stage *j, size_t part, struct err *e)
{
    const struct npy_part *p = &j->files.set.parts[part];
    struct ledger_row line;
    static const char *const reasons[BALANCE_WHYS] = {[BALANCE_NO_CAPTION] = "no-caption",
                                                      [BALANCE_SCORE_OUT] = "score",
                                                      [BALANCE_FAR] = "far",
                                                      [BALANCE_EVALUATED] = "in-evaluation"};
    uint64_t failed = 0, same = 0, capped = 0, why[BALANCE_WHYS] = {0};
    const uint8_t *out = j->selected.why;
    if (ledger_row_init(&line, "balance", path_base(p->path), e))
        return -1;
    for (uint64_t i = p->first; i < p->first + p->rows; i++) {
        line.out += j->result.keep[i];
        uint32_t group = j->result.group[i];
        why[out && group == BALANCE_NONE ? out[i] : BALANCE_IN]++;
        failed += group == BALANCE_NONE && !(out && out[i]);
        same += group != BALANCE_NONE && group != i;
        capped += group == i && !j->result.keep[i];
    }
    line.in = p->rows;
    int r = (failed && ledger_drop(&line, "failed-row", failed, e)) ||
            (same && ledger_drop(&line, "same-meaning", same, e)) ||
            (capped && ledger_drop(&line, "over-cap", capped, e));
    for (int k = BALANCE_NO_CAPTION; k < BALANCE_WHYS && !r; k++)
        r = why[k] && ledger_drop(&line, reasons[k], why[k], e);
    r = r || ledger_append(j->o->ledger, &line, e);
    ledger_row_release(&line);
    return r ? -1 : 0;
}

// Usable rows without a hard partner.
static uint64_t alone(const struct balance_stage *j)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < j->result.usable; i++)
        n += j->result.hard[i * j->o->hard] == BALANCE_NONE;
    return n;
}

// What the options for the choice of rows have done; nothing without them.
static int add_selection(cJSON *o, const struct balance_stage *j, struct err *e)
{
    const struct balance_selected *s = &j->selected;
    if (j->o->text_dir && (json_add_u64(o, "no_caption", s->n[BALANCE_NO_CAPTION], e) ||
                           json_add_u64(o, "out_by_score", s->n[BALANCE_SCORE_OUT], e)))
        return -1;
    if (j->o->keep_score_given && json_add_double(o, "least_score", s->least, e))
        return -1;
    if (j->o->targets && json_add_u64(o, "far_from_targets", s->n[BALANCE_FAR], e))
        return -1;
    if (j->o->against && json_add_u64(o, "in_evaluation", s->n[BALANCE_EVALUATED], e))
        return -1;
    if (j->o->hard &&
        (json_add_u64(o, "hard", j->o->hard, e) || json_add_u64(o, "without_partner", alone(j), e)))
        return -1;
    if (!j->result.cap)
        return 0;
    return json_add_u64(o, "cap", j->result.cap, e) ||
                   json_add_u64(o, "capped", j->result.capped, e)
               ? -1
               : 0;
}

static int add_figures(cJSON *o, const struct balance_stage *j, struct err *e)
{
    const struct balance_result *r = &j->result;
    static const char *const survivors[] = {"center", "hard", "easy", "first", "random", "score"};
    struct {
        const char *name;
        uint64_t value;
    } counts[] = {{"rows", r->rows},
                  {"usable", r->usable},
                  {"zero", r->zero},
                  {"not_finite", r->not_finite},
                  {"not_unit", r->rescaled},
                  {"kept", r->kept},
                  {"removed", r->usable - r->kept},
                  {"groups", r->groups},
                  {"largest", r->largest},
                  {"pairs", r->pairs},
                  {"compared", r->compared},
                  {"cells", j->n_cells ? j->n_cells : 1},
                  {"empty_cells", r->empty_cells},
                  {"biggest_cell", r->biggest_cell},
                  {"probe", j->o->probe}};
    double usable = (double)r->usable;
    if (json_add_string(o, "rule", j->o->rule ? "semdedup" : "union", e) ||
        json_add_string(o, "survivor", survivors[j->survivor], e) ||
        json_add_double(o, "distance", r->distance, e) ||
        json_add_double(o, "euclidean", sqrt(2 * r->distance), e) ||
        json_add_double(o, "removed_share", usable > 0 ? 1 - (double)r->kept / usable : 0, e))
        return -1;
    if (j->may && json_add_u64(o, "kept_that_may_not", r->barred, e))
        return -1;
    if (add_selection(o, j, e))
        return -1;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (json_add_u64(o, counts[i].name, counts[i].value, e))
            return -1;
    return 0;
}

// Pairs of a distance and the share of the usable rows that is kept at it, up to what was looked
// at.
static int add_shares(cJSON *o, const struct balance_stage *j, struct err *e)
{
    enum { STEPS = 50 };
    const struct balance_result *r = &j->result;
    cJSON *list = r->reach > 0 && r->usable ? json_add_array(o, "shares", e) : NULL;
    if (!list)
        return r->reach > 0 && r->usable ? -1 : 0;
    size_t under = 0;
    for (int i = 0; i <= STEPS; i++) {
        double both[] = {r->reach * i / STEPS, 0};
        while (under < r->n_merges && r->merges[under] < both[0])
            under++;
        both[1] = (double)(r->usable - under) / (double)r->usable;
        cJSON *pair = cJSON_CreateDoubleArray(both, 2);
        if (!pair || !cJSON_AddItemToArray(list, pair))
            return err_set(e, "out of memory");
    }
    return 0;
}

static int write_report(struct balance_stage *j, struct err *e)
{
    cJSON *o = cJSON_CreateObject();
    int r = o ? 0 : err_set(e, "out of memory");
    if (!r)
        r = add_figures(o, j, e) || add_shares(o, j, e) ||
            balance_report_groups(o, &j->result, &j->files, j->o->biggest, BALANCE_MEMBERS, e) ||
            json_write_file(j->common->output, o, e);
    cJSON_Delete(o);
    return r ? -1 : 0;
}

// The report comes last: if it exists, all outputs do.
int balance_stage_write(struct balance_stage *j, struct err *e)
{
    j->origin.with = j->o->cells;
    j->origin.with_hex = j->cells_hex;
    for (size_t i = 0; i < j->files.set.n_parts; i++) {
        if ((j->o->keep_dir && write_keep(j, i, e)) ||
            (j->o->groups_dir && write_groups(j, i, e)) ||
            (j->o->hard_dir && write_hard(j, i, e)) || (j->o->ledger && write_ledger(j, i, e)))
            return -1;
        if (signals_stop_wanted())
            return err_set(e, "stopped");
    }
    if (j->o->pairs && balance_report_pairs(j->o->pairs, &j->result, &j->files, j->o->index_dir, e))
        return -1;
    if (j->o->curve && balance_report_curve(j->o->curve, &j->result, CURVE_STEPS, e))
        return -1;
    return write_report(j, e);
}
