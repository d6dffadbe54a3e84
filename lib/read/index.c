// SPDX-License-Identifier: Apache-2.0
#include "read/index.h"

#include <stdio.h>
#include <string.h>

#include "system/lines.h"

static char shown(char c)
{
    return (unsigned char)c < 32 || c == 127 ? '?' : c;
}

static int put_text(struct out *o, const char *text, struct err *e)
{
    char buf[256];
    size_t n = 0;
    for (; *text; text++) {
        buf[n++] = shown(*text);
        if (n == sizeof buf) {
            if (out_write(o, buf, n, e))
                return -1;
            n = 0;
        }
    }
    return out_write(o, buf, n, e);
}

int read_index_line(struct out *o, const struct samples_record *r, const char *shard, struct err *e)
{
    char num[80];
    snprintf(num, sizeof num, "%llu\t", (unsigned long long)r->ordinal);
    if (out_write(o, num, strlen(num), e) || put_text(o, r->key, e) || out_write(o, "\t", 1, e) ||
        put_text(o, sample_status_name(r->status), e) || out_write(o, "\t", 1, e) ||
        put_text(o, *r->reason ? r->reason : "-", e))
        return -1;
    snprintf(num, sizeof num, "\t%u\t%u\t%zu", r->width, r->height, r->caption_bytes);
    if (out_write(o, num, strlen(num), e))
        return -1;
    if (shard && (out_write(o, "\t", 1, e) || put_text(o, shard, e)))
        return -1;
    return out_write(o, "\n", 1, e);
}

void read_index_key(struct digest *d, const char *key)
{
    const char *p = key;
    for (; *p; p++)
        if (shown(*p) != *p) {
            char c = shown(*p);
            digest_add(d, key, (size_t)(p - key));
            digest_add(d, &c, 1);
            key = p + 1;
        }
    digest_key(d, key);
}

int read_index_keys(const char *path, char hex[DIGEST_HEX], uint64_t *rows, struct err *e)
{
    struct lines l;
    if (lines_read(&l, path, e))
        return -1;
    struct digest *d = digest_new(e);
    int rc = d ? 0 : -1;
    for (size_t i = 0; !rc && i < l.n; i++) {
        const char *key = strchr(l.line[i], '\t'), *end = key ? strchr(key + 1, '\t') : NULL;
        if (!end) {
            rc = err_set(e, "%s: line %zu has too few columns", path, i + 1);
            break;
        }
        digest_add(d, key + 1, (size_t)(end - key - 1));
        digest_add(d, "", 1);
    }
    *rows = l.n;
    if (!rc)
        digest_hex(d, hex);
    digest_free(d);
    lines_release(&l);
    return rc;
}
