// SPDX-License-Identifier: Apache-2.0
#include "read/account.h"

#include <stdarg.h>
#include <stdio.h>

void read_account_add(struct read_account *a, const struct samples_record *r, bool bad)
{
    a->samples++;
    if (bad) {
        a->bad++;
        a->status[r->status]++;
    } else if (r->status != SAMPLE_OK) {
        a->shared_keys++;
    }
}

struct account_text {
    char *at;
    size_t n, size;
};

__attribute__((format(printf, 2, 3))) static void put(struct account_text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(t->at + t->n, t->size - t->n, fmt, args);
    va_end(args);
    t->n = n < 0 || (size_t)n >= t->size - t->n ? t->size - 1 : t->n + (size_t)n;
}

size_t read_account_text(const struct read_account *a, const char *left_out, char *text,
                         size_t size)
{
    struct account_text t = {text, 0, size};
    put(&t, "%llu samples, %llu bad", (unsigned long long)a->samples, (unsigned long long)a->bad);
    for (int i = 1; i < SAMPLE_N_STATUS; i++)
        if (a->status[i])
            put(&t, ", %llu %s", (unsigned long long)a->status[i],
                sample_status_name((enum sample_status)i));
    if (a->shared_keys)
        put(&t, "; %llu with a key of another shard", (unsigned long long)a->shared_keys);
    if (left_out)
        put(&t, "; %llu %s", (unsigned long long)a->dropped, left_out);
    if (a->damaged)
        put(&t, "; %llu damaged shards", (unsigned long long)a->damaged);
    return t.n;
}
