// SPDX-License-Identifier: Apache-2.0
#include "find/show.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "page/html.h"
#include "page/pictures.h"
#include "system/io.h"

enum { KEY_ROOM = 256 };

// The pictures of a hit: its own, and that of the row it is compared with.
static int pick_rows(const struct find_show *o, const struct find_top *top, struct page_picks *p,
                     struct err *e)
{
    p->pick = mem_alloc(top->n * 2 + 1, sizeof *p->pick, e);
    if (!p->pick)
        return -1;
    for (size_t i = 0; i < top->n; i++) {
        const uint64_t rows[] = {top->hit[i].row, top->hit[i].other};
        for (int k = 0; k < (o->pairs ? 2 : 1); k++) {
            uint64_t in_shard;
            size_t shard = find_set_shard(o->set, rows[k], &in_shard);
            p->pick[p->n++] =
                (struct page_pick){.shard = (uint32_t)shard, .ordinal = in_shard, .set = (int)i};
        }
    }
    return o->shards ? page_picks_load(o->shards, &o->set->names, p, e) : 0;
}

// Text as a cell of a table: no TAB, no end of line.
static int put_cell(struct out *out, const char *text, char end, struct err *e)
{
    char cell[512];
    snprintf(cell, sizeof cell - 1, "%s", *text ? text : "-");
    for (char *p = cell; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    size_t n = strlen(cell);
    cell[n] = end;
    return out_write(out, cell, n + 1, e);
}

static int put_number(struct out *out, int64_t value, char end, struct err *e)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    return put_cell(out, value < 0 ? "-" : text, end, e);
}

// shard, row, key
static int put_place(const struct find_show *o, struct out *out, uint64_t row, struct err *e)
{
    char key[KEY_ROOM];
    uint64_t in_shard;
    size_t shard = find_set_shard(o->set, row, &in_shard);
    find_set_key(o->set, shard, in_shard, key, sizeof key);
    return put_cell(out, o->set->names.names[shard], '\t', e) ||
                   put_number(out, (int64_t)in_shard, '\t', e) || put_cell(out, key, '\t', e)
               ? -1
               : 0;
}

static int put_hit(const struct find_show *o, struct out *out, const struct find_hit *h,
                   const struct page_pick *p, struct err *e)
{
    char cosine[32];
    snprintf(cosine, sizeof cosine, "%.6f", h->cosine);
    int64_t kept = find_set_value(o->set, "keep", h->row);
    if (put_cell(out, cosine, '\t', e) || put_place(o, out, h->row, e) ||
        put_number(out, find_set_value(o->set, "labels", h->row), '\t', e) ||
        put_cell(out,
                 kept < 0 ? "-"
                 : kept   ? "kept"
                          : "dropped",
                 '\t', e) ||
        put_cell(out, p[0].caption, o->pairs ? '\t' : '\n', e))
        return -1;
    if (!o->pairs)
        return 0;
    return put_place(o, out, h->other, e) || put_cell(out, p[1].caption, '\n', e) ? -1 : 0;
}

static int put_table(const struct find_show *o, const struct find_top *top,
                     const struct page_picks *p, const char *output, struct err *e)
{
    static const char head[] = "cosine\tshard\trow\tkey\tcluster\tkept\tcaption",
                      more[] = "\tother_shard\tother_row\tother_key\tother_caption";
    struct out out;
    if (out_open(&out, output, e))
        return -1;
    int rc = out_write(&out, head, sizeof head - 1, e) ||
                     (o->pairs && out_write(&out, more, sizeof more - 1, e)) ||
                     out_write(&out, "\n", 1, e)
                 ? -1
                 : 0;
    for (size_t i = 0; i < top->n && !rc; i++)
        rc = put_hit(o, &out, &top->hit[i], &p->pick[o->pairs ? 2 * i : i], e);
    rc = rc || out_commit(&out, e) ? -1 : 0;
    out_abort(&out);
    return rc;
}

// ---- the page

static void put_picture(const struct find_show *o, struct html *h, const struct page_pick *p)
{
    char row[64];
    snprintf(row, sizeof row, " row %llu ", (unsigned long long)p->ordinal);
    page_put_picture(h, p);
    html_raw(h, "<figcaption>");
    html_text(h, p->caption[0] ? p->caption : "(no caption)");
    html_raw(h, "<small>");
    html_text(h, o->set->names.names[p->shard]);
    html_text(h, row);
    html_text(h, p->key);
    html_raw(h, "</small>");
}

static void put_figure(const struct find_show *o, struct html *h, const struct find_hit *hit,
                       const struct page_pick *p)
{
    int64_t cluster = find_set_value(o->set, "labels", hit->row),
            kept = find_set_value(o->set, "keep", hit->row);
    html_raw(h, "<figure>");
    put_picture(o, h, &p[0]);
    html_put(h, "<small>cosine %.4f", hit->cosine);
    if (cluster >= 0)
        html_put(h, ", cluster %lld", (long long)cluster);
    if (kept >= 0)
        html_raw(h, kept ? ", kept" : ", dropped");
    html_raw(h, "</small></figcaption>");
    if (o->pairs) {
        html_raw(h, "<div class='for'>kept for it:</div>");
        put_picture(o, h, &p[1]);
        html_raw(h, "</figcaption>");
    }
    html_raw(h, "</figure>\n");
}

static int put_page(const struct find_show *o, const struct find_top *top,
                    const struct page_picks *p, struct err *e)
{
    struct out out;
    if (out_open(&out, o->page, e))
        return -1;
    struct html h = {.o = &out, .e = e};
    html_begin(&h, o->title);
    html_raw(&h, "<h1>");
    html_text(&h, o->title);
    html_raw(&h, "</h1>\n<p>");
    html_text(&h, o->set->work);
    html_put(&h, ": %zu of %llu rows</p>\n<div class='wall'>\n", top->n,
             (unsigned long long)o->set->files.set.rows);
    for (size_t i = 0; i < top->n; i++)
        put_figure(o, &h, &top->hit[i], &p->pick[o->pairs ? 2 * i : i]);
    html_raw(&h, "</div>\n");
    html_end(&h);
    int rc = html_done(&h) || out_commit(&out, e) ? -1 : 0;
    out_abort(&out);
    return rc;
}

int find_show(const struct find_show *o, const struct find_top *top, const char *output,
              struct err *e)
{
    struct page_picks p = {0};
    int rc = pick_rows(o, top, &p, e) || put_table(o, top, &p, output, e) ||
                     (o->page && put_page(o, top, &p, e))
                 ? -1
                 : 0;
    page_picks_free(&p);
    return rc;
}
