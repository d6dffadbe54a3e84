// SPDX-License-Identifier: Apache-2.0
// The picked pictures out of their shards, as small JPEGs in base64.
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/thumb.h"
#include "base/mem.h"
#include "page/pictures.h"
#include "remote/remote.h"
#include "shards/shard.h"

enum { THUMB_SIDE = 112, THUMB_QUALITY = 85 };

static char *base64(const char *prefix, const uint8_t *d, size_t n, struct err *e)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t head = strlen(prefix);
    char *out = mem_alloc(head + (n + 2) / 3 * 4 + 1, 1, e), *p = out + head;
    if (!out)
        return NULL;
    memcpy(out, prefix, head);
    for (size_t i = 0; i < n; i += 3) {
        uint32_t b = (uint32_t)d[i] << 16;
        b |= i + 1 < n ? (uint32_t)d[i + 1] << 8 : 0;
        b |= i + 2 < n ? d[i + 2] : 0;
        *p++ = digit[b >> 18];
        *p++ = digit[b >> 12 & 63];
        *p++ = i + 1 < n ? digit[b >> 6 & 63] : '=';
        *p++ = i + 2 < n ? digit[b & 63] : '=';
    }
    *p = '\0';
    return out;
}

int page_pick_fill(struct page_pick *k, const struct shard_sample *s, struct thumb *t,
                   struct err *e)
{
    struct err ignored; // a picture that cannot be shown is counted elsewhere
    snprintf(k->key, sizeof k->key, "%s", s->key);
    if (s->caption)
        snprintf(k->caption, sizeof k->caption, "%s", (const char *)s->caption->data);
    if (!s->image ||
        thumb_make(t, s->image->data, s->image->size, THUMB_SIDE, THUMB_QUALITY, &ignored))
        return 0;
    k->data = base64("image/jpeg;base64,", t->jpeg, t->n, e);
    return k->data ? 0 : -1;
}

static bool wanted_here(const struct page_picks *p, uint32_t shard, uint64_t ordinal)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->pick[i].shard == shard && p->pick[i].ordinal == ordinal)
            return true;
    return false;
}

// All picks of one shard in one pass, other samples by their headers; what lies behind damage stays
// without.
static int load_shard(const char *path, uint32_t shard, struct page_picks *p, struct remote *r,
                      struct thumb *t, struct err *e)
{
    uint64_t last = 0;
    size_t wanted = 0;
    for (size_t i = 0; i < p->n; i++) {
        if (p->pick[i].shard != shard)
            continue;
        wanted++;
        if (p->pick[i].ordinal > last)
            last = p->pick[i].ordinal;
    }
    const struct shard_limits limits = {.remote = r};
    struct err why = {.text = ""};
    struct shard *s = wanted && access(path, R_OK) == 0 ? shard_open(path, &limits, &why) : NULL;
    struct shard_sample sample;
    int rc = 0;
    for (uint64_t next = 0; s && rc == 0 && next <= last; next++) {
        shard_pass_over(s, !wanted_here(p, shard, next));
        if (shard_next(s, &sample, &why) <= 0)
            break;
        for (size_t i = 0; rc == 0 && i < p->n; i++)
            if (p->pick[i].shard == shard && p->pick[i].ordinal == sample.index)
                rc = page_pick_fill(&p->pick[i], &sample, t, e);
    }
    if (s)
        shard_close(s);
    if (rc == 0 && why.machine) {
        *e = why;
        rc = err_wrap(e, "%s", path);
    }
    return rc;
}

int page_picks_load(const char *shards, const struct path_names *s, struct page_picks *p,
                    struct err *e)
{
    const struct remote_options o = REMOTE_DEFAULTS;
    struct remote *r = remote_new(&o, e);
    struct thumb t = {0};
    int rc = r ? 0 : -1;
    for (size_t k = 0; rc == 0 && k < s->n; k++) {
        char path[PATH_BYTES];
        rc = path_format(path, e, "%s/%s.tar", shards, s->names[k]);
        rc = rc ? rc : load_shard(path, (uint32_t)k, p, r, &t, e);
    }
    thumb_release(&t);
    remote_free(r);
    return rc;
}

void page_picks_free(struct page_picks *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->pick[i].data);
    free(p->pick);
    free(p->set_size);
    free(p->set_value);
    *p = (struct page_picks){0};
}

void page_put_picture(struct html *h, const struct page_pick *p)
{
    if (!p->data) {
        html_raw(h, "<div class='none'>no picture</div>");
        return;
    }
    html_raw(h, p->stays ? "<img class='stays' alt='" : "<img alt='");
    html_text(h, p->caption);
    html_raw(h, "' src='data:");
    html_raw(h, p->data);
    html_raw(h, "'>");
}
