// SPDX-License-Identifier: Apache-2.0
// The page's part about the balance, from balance.json: the share kept by distance, where rows
// went, the sizes of the groups.
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "formats/json.h"
#include "page/plot.h"
#include "report/parts.h"

static double figure(const cJSON *o, const char *name)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, name);
    return cJSON_IsNumber(v) ? v->valuedouble : NAN;
}

static void put_count(struct html *h, const cJSON *o, const char *name, const char *words)
{
    double n = figure(o, name);
    if (n > 0)
        html_put(h, "<p>%.0f %s</p>\n", n, words);
}

// The share kept at each distance, and the rows that go at each.
static int put_shares(struct html *h, const cJSON *o, struct err *e)
{
    const cJSON *pair, *list = cJSON_GetObjectItemCaseSensitive(o, "shares");
    size_t n = (size_t)cJSON_GetArraySize(list), i = 0;
    double usable = figure(o, "usable");
    if (n < 2)
        return 0;
    double *d = mem_alloc(3 * n, sizeof *d, e), *kept = d + n, *gone = d + 2 * n;
    if (!d)
        return -1;
    cJSON_ArrayForEach(pair, list)
    {
        const cJSON *x = cJSON_GetArrayItem(pair, 0), *y = cJSON_GetArrayItem(pair, 1);
        d[i] = cJSON_IsNumber(x) ? x->valuedouble : NAN;
        kept[i] = cJSON_IsNumber(y) ? 100 * y->valuedouble : NAN;
        if (i)
            gone[i - 1] = (kept[i - 1] - kept[i]) / 100 * usable;
        i++;
    }
    const struct plot curve = {
        .title = "Share kept by distance", .x_name = "distance", .width = 450, .height = 220};
    const struct plot bars = {.title = "Rows that go at each distance",
                              .x_name = "distance",
                              .width = 450,
                              .height = 220};
    const struct plot_series s = {"kept, per cent", d, kept, n};
    html_raw(h, "<div class='many'><div><small>Share kept, per cent, by cosine distance</small>"
                "<br>");
    plot_curves(h, &curve, &s, 1);
    html_raw(h, "</div><div><small>Rows that go, by the distance at which they do</small><br>");
    plot_bars(h, &bars, d, gone, n - 1, figure(o, "distance"));
    html_raw(h, "</div></div>\n");
    free(d);
    return 0;
}

static int put_sizes(struct html *h, const cJSON *o, struct err *e)
{
    const cJSON *bin, *list = cJSON_GetObjectItemCaseSensitive(o, "histogram");
    size_t n = (size_t)cJSON_GetArraySize(list), i = 0;
    if (n < 2)
        return 0;
    double largest = figure(o, "largest");
    html_raw(h, "<table><tr><th>rows in a group</th><th>groups</th><th>rows</th></tr>\n");
    cJSON_ArrayForEach(bin, list)
    {
        double from = figure(bin, "from"), to = figure(bin, "to");
        html_put(h, "<tr><td>%.0f", from);
        if (to > from)
            html_put(h, " to %.0f", fmin(to, largest));
        html_put(h, "</td><td>%.0f</td><td>%.0f</td></tr>\n", figure(bin, "groups"),
                 figure(bin, "rows"));
        i++;
    }
    html_raw(h, "</table>\n");
    (void)e;
    return i ? 0 : -1;
}

int report_read_balance(const char *work, cJSON **o, struct err *e)
{
    char path[PATH_BYTES];
    if (path_format(path, e, "%s/balance.json", work))
        return -1;
    if (access(path, F_OK))
        return 0;
    *o = json_read_file(path, &(struct json_limits){.bytes = (size_t)1 << 30}, e);
    return *o ? 1 : -1;
}

int report_put_balance(struct html *h, const char *work, struct err *e)
{
    cJSON *o;
    int there = report_read_balance(work, &o, e);
    if (there <= 0)
        return there;
    html_raw(h, "<h2 id='balance'>Balance</h2>\n");
    html_put(h,
             "<p>%.0f of %.0f usable rows stay: of the rows within a cosine distance of %.4g, one "
             "of each group.</p>\n",
             figure(o, "kept"), figure(o, "usable"), figure(o, "distance"));
    put_count(
        h, o, "in_evaluation",
        "rows are left out because they are near duplicates of pictures of an evaluation set.");
    put_count(h, o, "no_caption", "rows are left out because they have no usable caption.");
    put_count(h, o, "out_by_score", "rows are left out by the score of picture and caption.");
    put_count(h, o, "far_from_targets", "rows are left out because they are far from the targets.");
    put_count(h, o, "capped", "groups are left out because their cells have enough.");
    int rc = put_shares(h, o, e) || put_sizes(h, o, e) ? -1 : 0;
    cJSON_Delete(o);
    return rc;
}
