// SPDX-License-Identifier: Apache-2.0
// The strict reader: cJSON takes more than JSON, so the text is checked against the grammar first.
#include "formats/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "system/io.h"
#include "base/mem.h"
#include "formats/json-scan.h"
#include "system/lines.h"

enum {
    DEFAULT_BYTES = 16 << 20,
    DEFAULT_DEPTH = 64,
    MOST_DEPTH = 500,
    NUMBER_MAX = 60 // cJSON cuts a number at 63 characters
};

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// Duplicate names: sorted, so that a hostile object of a million members costs no square of it.
static int check_names(const cJSON *o, struct err *e)
{
    size_t n = 0;
    for (const cJSON *c = o->child; c; c = c->next)
        n++;
    if (n < 2)
        return 0;
    const char **names = mem_alloc(n, sizeof *names, e);
    if (!names)
        return -1;
    n = 0;
    for (const cJSON *c = o->child; c; c = c->next)
        names[n++] = c->string;
    qsort(names, n, sizeof *names, by_name);
    int rc = 0;
    for (size_t i = 1; i < n && rc == 0; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            rc = err_set(e, "'%s' stands twice in one object", names[i]);
    free(names);
    return rc;
}

static int check_tree(const cJSON *t, struct err *e)
{
    if (cJSON_IsNumber(t) && !isfinite(t->valuedouble))
        return err_set(e, "a number too large");
    if (cJSON_IsObject(t) && check_names(t, e))
        return -1;
    for (const cJSON *c = t->child; c; c = c->next)
        if (check_tree(c, e))
            return -1;
    return 0;
}

static int check_grammar(const char *text, size_t n, size_t mark, int depth, struct err *e)
{
    struct json_scan s = {.text = text, .at = mark, .n = n, .depth = depth, .digits = NUMBER_MAX};
    int rc = json_scan_value(&s);
    json_scan_space(&s);
    if (!rc && s.at < n) {
        s.why = "text after the value";
        rc = -1;
    }
    return rc ? err_set(e, "offset %zu: %s", s.at, s.why) : 0;
}

cJSON *json_parse(const char *text, size_t n, const struct json_limits *lim, struct err *e)
{
    size_t most = lim && lim->bytes ? lim->bytes : DEFAULT_BYTES;
    int depth = lim && lim->depth ? lim->depth : DEFAULT_DEPTH;
    if (n > most) {
        err_set(e, "JSON of %zu bytes; at most %zu are taken", n, most);
        return NULL;
    }
    size_t mark = lines_mark(text, n);
    if (check_grammar(text, n, mark, depth < MOST_DEPTH ? depth : MOST_DEPTH, e))
        return NULL;
    cJSON *t = cJSON_ParseWithLength(text + mark, n - mark);
    if (!t) {
        err_set(e, "out of memory for JSON");
        return NULL;
    }
    if (check_tree(t, e)) {
        cJSON_Delete(t);
        return NULL;
    }
    return t;
}

cJSON *json_read_file(const char *path, const struct json_limits *lim, struct err *e)
{
    struct map m;
    if (map_open(&m, path, e))
        return NULL;
    cJSON *t = json_parse(m.data ? (const char *)m.data : "", m.n, lim, e);
    map_close(&m);
    if (!t)
        err_wrap(e, "%s", path);
    return t;
}
