// SPDX-License-Identifier: Apache-2.0
#include "read/json.h"

#include <cjson/cJSON.h>
#include <string.h>

#include "base/mem.h"
#include "formats/json-scan.h"
#include "formats/json.h"
#include "read/text.h"
#include "system/lines.h"

enum { DEPTH_MAX = 512 };

int read_json_check(const uint8_t *text, size_t n, struct err *e)
{
    struct json_scan s = {.text = (const char *)text,
                          .at = lines_mark(text, n),
                          .n = n,
                          .depth = DEPTH_MAX,
                          .python = true};
    size_t at;
    if (read_caption_status(text, n, &at) == SAMPLE_BAD_UTF8)
        return err_set(e, "json is not UTF-8 at byte %zu", at);
    int rc = json_scan_value(&s);
    if (rc == 0) {
        json_scan_space(&s);
        rc = s.at < n ? -1 : 0;
    }
    return rc ? err_set(e, "json is broken at byte %zu", s.at) : 0;
}

// Steps over white space and then c, if it stands there.
static bool step(struct json_scan *s, char c)
{
    json_scan_space(s);
    if (s->at == s->n || s->text[s->at] != c)
        return false;
    s->at++;
    return true;
}

bool read_json_member(const uint8_t *text, size_t n, const char *name, const char **value,
                      size_t *size)
{
    struct json_scan s = {.text = (const char *)text,
                          .at = lines_mark(text, n),
                          .n = n,
                          .depth = DEPTH_MAX,
                          .python = true};
    size_t length = strlen(name);
    bool found = false;
    if (!step(&s, '{'))
        return false;
    do {
        json_scan_space(&s);
        size_t start = s.at;
        // An empty object ends here, a broken one too.
        if (s.at == n || s.text[s.at] != '"' || json_scan_value(&s))
            return found;
        bool wanted = s.at - start == length + 2 && !memcmp(s.text + start + 1, name, length);
        if (!step(&s, ':'))
            return found;
        json_scan_space(&s);
        start = s.at;
        if (json_scan_value(&s))
            return found;
        if (wanted) {
            *value = s.text + start;
            *size = s.at - start;
            found = true;
        }
    } while (step(&s, ','));
    return found;
}

char *read_json_string(const uint8_t *text, size_t n, const char *name, struct err *e)
{
    const char *value;
    size_t size;
    if (!read_json_member(text, n, name, &value, &size) || *value != '"') {
        err_set(e, "json has no string '%s'", name);
        return NULL;
    }
    cJSON *j = json_parse(value, size, NULL, e);
    const char *string = cJSON_GetStringValue(j);
    char *copy = string ? mem_strdup(string, e) : NULL;
    if (!copy)
        err_wrap(e, "json's '%s'", name);
    cJSON_Delete(j);
    return copy;
}
