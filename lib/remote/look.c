// SPDX-License-Identifier: Apache-2.0
// Properties of remote files without reading them: listings, and HEAD requests.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/path.h"
#include "base/url.h"
#include "remote/listing.h"
#include "remote/run.h"

enum { PAGE_MAX = 16 << 20, PAGES_MAX = 100000 };

void remote_entry_release(struct remote_entry *one)
{
    free(one->name);
    free(one->etag);
    *one = (struct remote_entry){0};
}

void remote_list_release(struct remote_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        remote_entry_release(&l->entries[i]);
    free(l->entries);
    *l = (struct remote_list){0};
}

#ifdef CLIPCID_REMOTE
struct page {
    char *text;
    size_t n, cap;
};

static int on_page(void *ctx, const struct answer *a, const void *data, size_t n, struct err *e)
{
    struct page *p = ctx;
    (void)a;
    if (n > PAGE_MAX - p->n)
        return err_machine(e, "the store's listing is longer than %d MiB a page", PAGE_MAX >> 20);
    if (mem_grow(&p->text, &p->cap, p->n + n, 1, e))
        return -1;
    memcpy(p->text + p->n, data, n);
    p->n += n;
    return 0;
}

static bool on_page_again(void *ctx, struct http_request *q)
{
    (void)q;
    ((struct page *)ctx)->n = 0;
    return false;
}

// Moves the objects of a page to the list: those in the prefix's own folder.
static int take_page(struct remote_list *l, const struct listing *page, const char *prefix,
                     struct err *e)
{
    const char *key = place_key(prefix);
    size_t n = strlen(key), bucket = (size_t)(key - prefix);
    for (size_t i = 0; i < page->n; i++) {
        const struct listing_entry *from = &page->entries[i];
        if (strncmp(from->key, key, n) || !from->key[n] || strchr(from->key + n, '/'))
            continue; // the folder's own key, and keys from a store that ignores the delimiter
        char name[PATH_BYTES];
        if (path_format(name, e, "%.*s%s", (int)bucket, prefix, from->key) ||
            mem_grow(&l->entries, &l->cap, l->n + 1, sizeof *l->entries, e))
            return -1;
        struct remote_entry one = {.name = mem_strdup(name, e),
                                   .etag = mem_strdup(from->etag, e),
                                   .size = from->size,
                                   .modified = from->modified};
        if (!one.name || !one.etag)
            return remote_entry_release(&one), -1;
        l->entries[l->n++] = one;
    }
    return 0;
}

static int read_page(struct remote *r, const char *prefix, const char *after, struct listing *to,
                     struct err *e)
{
    struct page text = {0};
    struct place place;
    struct answer a;
    struct http_request q = {
        .place = &place, .body = on_page, .again = on_page_again, .ctx = &text};
    int rc = place_list(&place, prefix, after, &r->aws, e) || http_send(r, &q, &a, e);
    if (!rc && a.status == 404)
        rc = err_machine(e, "the server answers 404%s%s", *a.code ? " " : "", a.code);
    if (!rc)
        rc = listing_page(to, text.text ? text.text : "", text.n, e);
    free(text.text);
    return rc ? -1 : 0;
}

int remote_list(struct remote *r, const char *prefix, struct remote_list *l, struct err *e)
{
    char *after = remote_start(r, e) ? NULL : mem_strdup("", e);
    int rc = after ? 0 : -1;
    for (int pages = 0; !rc && after; pages++) {
        struct listing page = {0};
        rc = read_page(r, prefix, after, &page, e);
        if (!rc)
            rc = take_page(l, &page, prefix, e);
        if (!rc && pages == PAGES_MAX)
            rc = err_machine(e, "the store's listing has no end");
        free(after);
        after = page.next;
        page.next = NULL;
        listing_release(&page);
    }
    free(after);
    if (rc)
        e->machine = true;
    return rc;
}

int remote_look(struct remote *r, const char *name, struct remote_entry *one, struct err *e)
{
    struct place *place = remote_start(r, e) ? NULL : mem_alloc(1, sizeof *place, e);
    struct answer a;
    struct http_request q = {.place = place, .head = true};
    *one = (struct remote_entry){0};
    int rc = !place || place_of(place, name, &r->aws, e) || http_send(r, &q, &a, e) ? -1 : 0;
    free(place);
    if (rc)
        return e->machine = true, -1;
    if (a.status == 404)
        return 0;
    if (a.status != 200 || !a.has_length)
        return err_machine(e, "the server answers %d to HEAD, without a length", a.status);
    *one = (struct remote_entry){.name = mem_strdup(name, e),
                                 .etag = mem_strdup(a.etag, e),
                                 .size = a.length,
                                 .modified = answer_time(a.modified)};
    if (one->name && one->etag)
        return 1;
    remote_entry_release(one);
    return -1;
}
#endif
