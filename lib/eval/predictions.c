// SPDX-License-Identifier: Apache-2.0
#include "eval/predictions.h"

#include <stdio.h>
#include <string.h>

int eval_predictions_head(struct out *o, struct err *e)
{
    static const char head[] = "set\trow\tsample\tlabel\ttop\tscore\tlabel_name\ttop_name\n";
    return out_write(o, head, sizeof head - 1, e);
}

// A text as one cell of a table: control characters would cut it.
static int cell(struct out *o, const char *text, char end, struct err *e)
{
    for (const char *p = text; *p; p++)
        if (out_write(o, (unsigned char)*p < ' ' || *p == 127 ? "?" : p, 1, e))
            return -1;
    return out_write(o, &end, 1, e);
}

static int one_row(struct out *o, const struct eval_set *s, const struct eval_features *f,
                   size_t row, const struct metric_top *top, struct err *e)
{
    char number[32], best[128] = "-", score[32] = "-";
    int32_t label = f->label[row], first = top->index[0];
    snprintf(number, sizeof number, "%zu", row);
    if (cell(o, s->name, '\t', e) || cell(o, number, '\t', e) || cell(o, f->names[row], '\t', e))
        return -1;
    snprintf(number, sizeof number, "%d", (int)label);
    for (int k = 0, n = 0; k < METRIC_TOP && top->index[k] >= 0; k++)
        n += snprintf(best + n, sizeof best - (size_t)n, "%s%d", k ? "," : "", (int)top->index[k]);
    if (first >= 0)
        snprintf(score, sizeof score, "%.6g", (double)top->score[0]);
    return cell(o, number, '\t', e) || cell(o, best, '\t', e) || cell(o, score, '\t', e) ||
                   cell(o, s->classes.lines[label], '\t', e) ||
                   cell(o, first >= 0 ? s->classes.lines[first] : "-", '\n', e)
               ? -1
               : 0;
}

int eval_predictions_write(struct out *o, const struct eval_set *s, const struct eval_features *f,
                           const struct eval_result *r, struct err *e)
{
    for (size_t i = 0; r->top && i < f->n; i++)
        if (one_row(o, s, f, i, &r->top[i], e))
            return -1;
    return 0;
}
