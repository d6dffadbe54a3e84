// SPDX-License-Identifier: Apache-2.0
#include "shards/read-index.h"

#include <stdio.h>
#include <string.h>

static int put_text(struct out *o, const char *text, struct err *e)
{
    char buf[256];
    size_t n = 0;
    for (; *text; text++) {
        buf[n++] = (unsigned char)*text < 32 || *text == 127 ? '?' : *text;
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
