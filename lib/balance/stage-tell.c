// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdio.h>

#include "balance/stage-run.h"

// The kept share at a few distances up to that of the curve, or of the run.
static void tell_curve(struct balance_stage *j)
{
    const struct balance_result *r = &j->result;
    char line[200];
    int n = 0;
    for (int i = 1; i <= 8; i *= 2) {
        double d = r->reach * i / 8;
        size_t under = 0, over = r->n_merges;
        while (under < over) { // merges ascend
            size_t mid = under + (over - under) / 2;
            if (r->merges[mid] < d)
                under = mid + 1;
            else
                over = mid;
        }
        n += snprintf(line + n, sizeof line - (size_t)n, "%s%.1f %% at %.4g", n ? ", " : "",
                      r->usable ? 100 - 100 * (double)under / (double)r->usable : 100.0, d);
    }
    log_note(j->log, "kept at distances: %s", line);
}

// Warns, because a distance that suits one encoder can join everything with another.
static void warn_of_much(struct balance_stage *j)
{
    const struct balance_result *r = &j->result;
    double usable = (double)r->usable, removed = usable > 0 ? 1 - (double)r->kept / usable : 0;
    bool big = r->largest > 100 && (double)r->largest > 0.01 * usable;
    bool many = !j->o->share_given &&
                (double)(r->usable - r->kept) > cli_count_of(&j->o->warn_above, r->usable);
    if (!big && !many)
        return;
    log_warn(
        j->log,
        "distance %.4g removes %.0f %% of the rows, and the largest group has %llu (%.1f %%): "
        "rows that are only alike may be joined. Look at --curve FILE, which tells the share for "
        "each distance, or give the share with --remove",
        r->distance, 100 * removed, (unsigned long long)r->largest,
        usable > 0 ? 100 * (double)r->largest / usable : 0.0);
}

static void tell_selection(struct balance_stage *j)
{
    const struct balance_selected *s = &j->selected;
    if (j->o->text_dir)
        log_note(j->log, "%llu rows have no usable caption, %llu are left out by their score",
                 (unsigned long long)s->n[BALANCE_NO_CAPTION],
                 (unsigned long long)s->n[BALANCE_SCORE_OUT]);
    if (j->o->keep_score_given)
        log_note(j->log, "the least score that is kept: %.6g", s->least);
    if (j->o->targets)
        log_note(j->log, "%llu rows are under the similarity to the targets",
                 (unsigned long long)s->n[BALANCE_FAR]);
    if (j->o->against)
        log_note(j->log, "%llu rows are near duplicates of '%s' and are left out",
                 (unsigned long long)s->n[BALANCE_EVALUATED], j->o->against);
    if (j->result.cap)
        log_note(j->log, "at most %llu rows of a cell stay: %llu of %llu groups go",
                 (unsigned long long)j->result.cap, (unsigned long long)j->result.capped,
                 (unsigned long long)j->result.groups);
}

void balance_stage_tell(struct balance_stage *j)
{
    const struct balance_result *r = &j->result;
    log_note(j->log,
             "%llu rows: %llu zero, %llu not finite, %llu not unit; distance %.6g: %llu pairs of "
             "%.4g compared, largest group %llu",
             (unsigned long long)r->rows, (unsigned long long)r->zero,
             (unsigned long long)r->not_finite, (unsigned long long)r->rescaled, r->distance,
             (unsigned long long)r->pairs, (double)r->compared, (unsigned long long)r->largest);
    if (r->reach > 0)
        tell_curve(j);
    log_detail(j->log, "cells %.2f s, pairs %.2f s (%s products, %.0f GFLOP/s), groups %.2f s",
               r->seconds[0], r->seconds[1], r->kernel,
               2e-9 * (double)r->compared * (double)j->files.set.dim / fmax(r->seconds[1], 1e-9),
               r->seconds[2]);
    if (j->o->hard)
        log_detail(j->log, "hard partners %.2f s", r->seconds[3]);
    log_note(j->log, "%llu of %llu usable rows kept, %.4f removed", (unsigned long long)r->kept,
             (unsigned long long)r->usable,
             r->usable ? 1 - (double)r->kept / (double)r->usable : 0.0);
    if (j->may)
        log_note(j->log,
                 "%llu rows may not survive; %llu of them stay, alone in their groups or "
                 "among their like",
                 (unsigned long long)j->barred, (unsigned long long)r->barred);
    tell_selection(j);
    warn_of_much(j);
}
