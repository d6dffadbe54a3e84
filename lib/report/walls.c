// SPDX-License-Identifier: Apache-2.0
// The page's pictures: the largest groups of near duplicates, and clusters of all sizes.
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "find/search.h"
#include "formats/npy.h"
#include "page/plot.h"
#include "report/parts.h"
#include "report/report.h"

enum { SETS = 8, EACH = 10 };

static void put_set(struct html *h, const char *what, const struct path_names *names,
                    const struct page_picks *p, size_t *at)
{
    int set = p->pick[*at].set;
    html_put(h, "<div class='set'><small>%" PRIu64 " %s: ", p->set_size[set], what);
    html_text(h, p->pick[*at].caption);
    html_raw(h, "</small>");
    for (; *at < p->n && p->pick[*at].set == set; ++*at) {
        const struct page_pick *k = &p->pick[*at];
        if (!k->data)
            continue;
        html_raw(h, "<span title='");
        html_text(h, names->names[k->shard]);
        html_raw(h, " ");
        html_text(h, k->key);
        html_raw(h, ": ");
        html_text(h, k->caption);
        html_raw(h, "'>");
        page_put_picture(h, k);
        html_raw(h, "</span>");
    }
    html_raw(h, "</div>\n");
}

static void put_sets(struct html *h, const char *what, const struct path_names *names,
                     const struct page_picks *p)
{
    for (size_t i = 0; i < p->n;)
        put_set(h, what, names, p, &i);
}

// Which of the members the balance keeps; a mask that cannot be read marks none.
static void mark_kept(const char *work, const struct path_names *names, struct page_picks *p)
{
    for (size_t i = 0; i < p->n; i++) {
        char path[PATH_BYTES];
        struct npy a;
        struct err ignored;
        struct page_pick *k = &p->pick[i];
        if (path_format(path, &ignored, "%s/keep/%s.npy", work, names->names[k->shard]) ||
            access(path, R_OK) || npy_open(&a, path, &ignored))
            continue;
        k->stays = k->ordinal < a.h.rows && npy_item_i64(&a, k->ordinal) == 1;
        npy_close(&a);
    }
}

// The member that stays, first of its set.
static void put_kept_first(struct page_picks *p)
{
    for (size_t i = 0, first = 0; i < p->n; i++) {
        if (p->pick[i].set != p->pick[first].set)
            first = i;
        if (!p->pick[i].stays)
            continue;
        struct page_pick stays = p->pick[i];
        memmove(&p->pick[first + 1], &p->pick[first], (i - first) * sizeof stays);
        p->pick[first] = stays;
    }
}

int report_put_groups(struct html *h, const char *work, const char *shards,
                      const struct path_names *names, uint64_t rows, struct err *e)
{
    struct page_picks p;
    if (report_pick_groups(work, names, rows, SETS, EACH, &p, e))
        return -1;
    int rc = shards ? page_picks_load(shards, names, &p, e) : 0;
    if (rc == 0 && p.n) {
        mark_kept(work, names, &p);
        put_kept_first(&p);
        html_raw(h, "<h3>The largest groups of near duplicates</h3>\n<p>Ten of each; the one that "
                    "stays has a frame, where it is among them.</p>\n");
        put_sets(h, "alike, one kept", names, &p);
    }
    page_picks_free(&p);
    return rc;
}

// The place of a name among the sorted names.
static uint32_t place_of(const struct path_names *names, const char *name)
{
    for (size_t i = 0; i < names->n; i++)
        if (!strcmp(names->names[i], name))
            return (uint32_t)i;
    return 0;
}

// Puts the rows nearest to the centroids in place of the first ones, where there are embeddings.
static int take_nearest(const char *work, const struct path_names *names, struct page_picks *p,
                        struct log *l, struct err *e)
{
    struct find_set set;
    struct err ignored; // without embeddings the first members are shown
    int rc = 0;
    if (find_set_open(&set, work, "image", 1, &ignored)) {
        find_set_close(&set);
        return 0;
    }
    const struct find_search search = {.set = &set, .log = l};
    for (size_t k = 0, i = 0; rc == 0 && k < p->n_sets; k++) {
        struct find_top top;
        uint64_t looked;
        rc = find_top_init(&top, EACH, e);
        if (rc == 0 && find_cluster(&search, p->set_value[k], &top, &looked, &ignored)) {
            find_top_release(&top); // labels of other centroids: the first members are shown
            break;
        }
        for (size_t at = 0; i < p->n && p->pick[i].set == (int)k; i++, at++)
            if (at < top.n) {
                uint64_t row;
                size_t shard = find_set_shard(&set, top.hit[at].row, &row);
                p->pick[i] = (struct page_pick){.shard = place_of(names, set.names.names[shard]),
                                                .ordinal = row,
                                                .set = (int)k};
            }
        find_top_release(&top);
    }
    find_set_close(&set);
    return rc;
}

static void put_sizes(struct html *h, const struct page_picks *p)
{
    double edge[34], height[33];
    size_t first = 1, last = 0, n = 0;
    for (size_t k = 1; k < 33; k++)
        if (p->size_count[k])
            last = k;
    while (first < last && !p->size_count[first])
        first++;
    for (size_t k = first; k <= last; k++) {
        edge[n] = ldexp(1, (int)k - 1);
        height[n++] = (double)p->size_count[k];
    }
    if (!n)
        return;
    edge[n] = ldexp(1, (int)last);
    const struct plot plot = {
        .title = "Clusters by size", .x_name = "rows", .width = 560, .height = 200, .log_x = true};
    html_raw(h, "<div><small>Clusters by their size</small><br>");
    plot_bars(h, &plot, edge, height, n, NAN);
    html_raw(h, "</div>\n");
}

int report_put_clusters(struct html *h, const char *work, const char *shards,
                        const struct path_names *names, uint64_t rows, struct log *l, struct err *e)
{
    struct page_picks p;
    if (report_pick_clusters(work, names, rows, SETS, EACH, &p, e))
        return -1;
    int rc = p.n ? take_nearest(work, names, &p, l, e) : 0;
    if (rc == 0 && shards)
        rc = page_picks_load(shards, names, &p, e);
    if (rc == 0 && p.n) {
        html_raw(h, "<h2 id='clusters'>Clusters</h2>\n");
        put_sizes(h, &p);
        rc = report_put_purity(h, work, shards, names, e);
        html_raw(h, "<h3>Some of them, from the largest to the smallest</h3>\n<p>The pictures "
                    "nearest to the centroid.</p>\n");
        put_sets(h, "in a cluster", names, &p);
    }
    page_picks_free(&p);
    return rc;
}
