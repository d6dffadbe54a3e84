// SPDX-License-Identifier: Apache-2.0
#include "feed/mix.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const char SET[] = "{set}";

static bool in_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           strchr("._-", c);
}

// "NAME=WEIGHT:CMD": 1; 0 it is none; -1 a weight that is wrong.
static int parse_set(struct mix_set *s, const char *text, struct err *e)
{
    size_t n = 0;
    while (text[n] && in_name(text[n]))
        n++;
    if (!n || text[n] != '=' || n >= sizeof s->name)
        return 0;
    char *end;
    s->weight = strtod(text + n + 1, &end);
    if (end == text + n + 1 || *end != ':')
        return 0;
    snprintf(s->name, sizeof s->name, "%.*s", (int)n, text);
    s->command = end + 1;
    if (!(s->weight > 0) || !isfinite(s->weight))
        return err_set(e, "--data '%s': its weight is not above 0", s->name);
    return *s->command ? 1 : err_set(e, "--data '%s' has no command", s->name);
}

int mix_parse(struct mix *m, const char *const *items, size_t n, struct err *e)
{
    m->n = 0;
    if (n > MIX_MOST)
        return err_set(e, "--data: more than %d sets", (int)MIX_MOST);
    for (size_t i = 0; i < n; i++) {
        int rc = parse_set(&m->set[i], items[i], e);
        if (rc < 0)
            return -1;
        if (i && !rc != !m->n)
            return err_set(e, "--data '%s': of several sets each is NAME=WEIGHT:CMD",
                           rc ? items[0] : items[i]);
        m->n += (size_t)rc;
        for (size_t k = 0; k < i && rc; k++)
            if (!strcmp(m->set[k].name, m->set[i].name))
                return err_set(e, "--data: two sets are called '%s'", m->set[i].name);
    }
    return 0;
}

char *mix_name(const char *text, const char *set, struct err *e)
{
    size_t times = 0, len = strlen(set), n = sizeof SET - 1;
    for (const char *p = text; (p = strstr(p, SET)); p += n)
        times++;
    char *to = mem_alloc(strlen(text) + times * len + 1, 1, e), *at = to;
    for (const char *p = text; to && *p;) {
        bool is = !strncmp(p, SET, n);
        memcpy(at, is ? set : p, is ? len : 1);
        at += is ? len : 1;
        p += is ? n : 1;
    }
    return to;
}

void mix_text(const struct mix *m, char *text, size_t room)
{
    size_t at = 0;
    text[0] = '\0';
    for (size_t i = 0; i < m->n && at < room; i++)
        at += (size_t)snprintf(text + at, room - at, "%s%s=%.17g", i ? "," : "", m->set[i].name,
                               m->set[i].weight);
}

// Each row goes to the set that is farthest behind its share; the first of several.
void mix_deal(const struct mix *m, const uint64_t *used, size_t batch, size_t *rows)
{
    double behind[MIX_MOST], sum = 0, all = (double)batch;
    for (size_t i = 0; i < m->n; i++) {
        sum += m->set[i].weight;
        all += (double)used[i];
    }
    for (size_t i = 0; i < m->n; i++) {
        behind[i] = all * (m->set[i].weight / sum) - (double)used[i];
        rows[i] = 0;
    }
    for (size_t row = 0; row < batch; row++) {
        size_t most = 0;
        for (size_t i = 1; i < m->n; i++)
            if (behind[i] > behind[most])
                most = i;
        rows[most]++;
        behind[most] -= 1;
    }
}
