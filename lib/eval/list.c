// SPDX-License-Identifier: Apache-2.0
#include "eval/list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/utf8.h"
#include "system/io.h"
#include "formats/json.h"
#include "base/mem.h"

enum { NAMES_SHOWN = 8 };

void eval_lines_release(struct eval_lines *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->lines[i]);
    free(l->lines);
    free(l->record);
    *l = (struct eval_lines){0};
}

int eval_lines_add(struct eval_lines *l, const char *text, size_t n, size_t record, struct err *e)
{
    void *lines = l->lines, *records = l->record;
    int rc = mem_grow(&lines, &l->cap, l->n + 1, sizeof *l->lines, e);
    l->lines = lines;
    if (rc == 0)
        rc = mem_grow(&records, &l->cap_record, l->n + 1, sizeof *l->record, e);
    l->record = records;
    char *copy = rc == 0 ? mem_alloc(n + 1, 1, e) : NULL;
    if (!copy)
        return -1;
    memcpy(copy, text, n);
    l->record[l->n] = record;
    l->lines[l->n++] = copy;
    return 0;
}

struct eval_named_list *eval_named_lists_add(struct eval_named_lists *all, const char *name,
                                             size_t n_name, const char *unit, struct err *e)
{
    void *p = all->list;
    int rc = mem_grow(&p, &all->cap, all->n + 1, sizeof *all->list, e);
    all->list = p;
    char *copy = rc == 0 ? mem_alloc(n_name + 1, 1, e) : NULL;
    if (!copy)
        return NULL;
    memcpy(copy, name, n_name);
    struct eval_named_list *l = &all->list[all->n++];
    *l = (struct eval_named_list){.name = copy, .items = {.unit = unit}};
    return l;
}

void eval_named_lists_release(struct eval_named_lists *all)
{
    for (size_t i = 0; i < all->n; i++) {
        free(all->list[i].name);
        eval_lines_release(&all->list[i].items);
    }
    free(all->list);
    *all = (struct eval_named_lists){0};
}

// ---- JSON

static int json_items(struct eval_named_list *to, const cJSON *array, struct err *e)
{
    const cJSON *item;
    size_t k = 0;
    cJSON_ArrayForEach(item, array)
    {
        k++;
        if (!cJSON_IsString(item)) {
            to->broken = true;
            err_set(&to->why, "item %zu is not a text", k);
            return 0;
        }
        if (eval_lines_add(&to->items, item->valuestring, strlen(item->valuestring), k, e))
            return -1;
    }
    return 0;
}

// The member named by the decimal number i.
static const cJSON *member_number(const cJSON *o, int i)
{
    char name[16];
    snprintf(name, sizeof name, "%d", i);
    return cJSON_GetObjectItemCaseSensitive(o, name);
}

// {"0": "tench", ...}, or {"0": ["n01440764", "tench"], ...}. Is it one?
static bool is_by_number(const cJSON *o)
{
    int n = cJSON_GetArraySize(o);
    const cJSON *first = member_number(o, 0);
    if (!first || !member_number(o, n - 1))
        return false;
    return cJSON_IsString(first) || cJSON_GetArraySize(first) == 2;
}

static int json_by_number(struct eval_named_list *to, const cJSON *o, struct err *e)
{
    int n = cJSON_GetArraySize(o);
    // A walk over the members is as long as the object; texts are put in their places in one walk.
    const char **text = mem_alloc((size_t)n, sizeof *text, e);
    if (!text)
        return -1;
    const cJSON *member;
    cJSON_ArrayForEach(member, o)
    {
        char *end;
        unsigned long k = strtoul(member->string, &end, 10);
        const cJSON *item = cJSON_IsArray(member) ? cJSON_GetArrayItem(member, 1) : member;
        if (end != member->string && *end == '\0' && k < (unsigned long)n && cJSON_IsString(item))
            text[k] = item->valuestring;
    }
    int rc = 0;
    for (int i = 0; rc == 0 && i < n; i++) {
        if (text[i]) {
            rc = eval_lines_add(&to->items, text[i], strlen(text[i]), (size_t)i + 1, e);
        } else {
            to->broken = true;
            err_set(&to->why, "the names by number have no text for class %d", i);
            break;
        }
    }
    free(text);
    return rc;
}

static int json_member(struct eval_named_lists *all, const cJSON *member, struct err *e)
{
    const char *name = member->string ? member->string : "";
    if (!cJSON_IsArray(member) && !cJSON_IsObject(member))
        return 0;
    struct eval_named_list *to = eval_named_lists_add(all, name, strlen(name), "item", e);
    if (!to)
        return -1;
    if (cJSON_IsArray(member))
        return json_items(to, member, e);
    if (is_by_number(member))
        return json_by_number(to, member, e);
    to->broken = true;
    err_set(&to->why, "'%s' has texts of its own for each class, which zs-eval does not use", name);
    return 0;
}

int eval_list_json(struct eval_named_lists *all, const char *text, size_t n, struct err *e)
{
    cJSON *o = json_parse(text, n, NULL, e);
    if (!o)
        return -1;
    int rc = 0;
    if (cJSON_IsArray(o) || is_by_number(o)) {
        rc = json_member(all, o, e);
    } else if (cJSON_IsObject(o)) {
        const cJSON *member;
        cJSON_ArrayForEach(member, o)
        {
            rc = rc ? rc : json_member(all, member, e);
        }
    } else {
        rc = err_set(e, "neither an array nor an object of texts");
    }
    cJSON_Delete(o);
    return rc;
}

// ---- lines

// Without blanks at either end, as CLIP_benchmark reads its lists.
static int read_lines(struct eval_lines *l, const char *text, struct err *e)
{
    static const char blanks[] = " \t\r\v\f";
    size_t line = 0;
    l->unit = "line";
    for (const char *p = text; *p;) {
        const char *next = p + strcspn(p, "\n"), *end = next;
        line++;
        p += strspn(p, blanks);
        while (end > p && strchr(blanks, end[-1]))
            end--;
        if (end > p && eval_lines_add(l, p, (size_t)(end - p), line, e))
            return -1;
        p = *next ? next + 1 : next;
    }
    return 0;
}

// ---- which of several

static bool same_set(const char *name, const char *set)
{
    if (strncasecmp(set, "wds_", 4) == 0)
        set += 4;
    if (strncasecmp(name, "wds_", 4) == 0 || strncasecmp(name, "wds/", 4) == 0)
        name += 4;
    for (; *name && *set; name++, set++) {
        bool mark = strchr("-_/", *name) != NULL, other = strchr("-_/", *set) != NULL;
        if (mark != other || (!mark && strncasecmp(name, set, 1) != 0))
            return false;
    }
    return *name == *set;
}

static bool can_be(const struct eval_named_list *l, enum eval_list_kind kind)
{
    return !l->broken && l->items.n && l->templates == (kind == EVAL_LIST_TEMPLATES);
}

static bool says_kind(const char *name, enum eval_list_kind kind)
{
    return strcasestr(name, kind == EVAL_LIST_TEMPLATES ? "template" : "class") != NULL;
}

static int no_choice(const struct eval_named_lists *all, const char *what, struct err *e)
{
    char names[400] = "";
    size_t n = 0, shown = 0;
    for (size_t i = 0; i < all->n && shown < NAMES_SHOWN && n < sizeof names - 1; i++)
        if (all->list[i].name[0]) {
            n += (size_t)snprintf(names + n, sizeof names - n, "%s%.60s", shown ? ", " : "",
                                  all->list[i].name);
            shown++;
        }
    return err_set(e, "%s; FILE:NAME takes one of: %s%s", what, names,
                   all->n > NAMES_SHOWN ? ", ..." : "");
}

// The list that is meant, or NULL with e set.
static struct eval_named_list *choose(const struct eval_named_lists *all, const char *name,
                                      enum eval_list_kind kind, const char *set, struct err *e)
{
    struct eval_named_list *found = NULL, *broken = NULL;
    size_t n = 0;
    // The conditions of each pass; each pass has more of them.
    enum { BY_NAME, BY_SET, BY_KIND, BY_WORD, PASSES };
    for (int pass = name ? BY_NAME : BY_SET; n != 1 && pass < PASSES; pass++) {
        n = 0;
        for (size_t i = 0; i < all->n; i++) {
            struct eval_named_list *l = &all->list[i];
            bool takes = pass == BY_NAME  ? strcmp(l->name, name) == 0
                         : pass == BY_SET ? same_set(l->name, set)
                                          : can_be(l, kind);
            if (pass == BY_WORD)
                takes = takes && says_kind(l->name, kind);
            broken = l->broken && !broken ? l : broken;
            found = takes ? l : found;
            n += takes;
        }
        if (pass == BY_NAME && n == 0) {
            no_choice(all, "no list of that name", e);
            return NULL;
        }
        if (pass == BY_NAME)
            return found;
    }
    if (n == 1)
        return found;
    if (all->n == 1)
        return &all->list[0];
    if (n == 0 && broken)
        return broken;
    if (all->n == 0)
        err_set(e, "no list of texts");
    else
        no_choice(all, "several lists", e);
    return NULL;
}

// ---- a file

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcasecmp(s + n - k, end) == 0;
}

// Places for the class in a template: {c}, or {}.
static bool has_place(const char *text)
{
    return strstr(text, "{c}") || strstr(text, "{}");
}

static int read_form(struct eval_named_lists *all, const char *path, const char *text, size_t n,
                     struct err *e)
{
    int rc;
    if (ends_with(path, ".py")) {
        rc = eval_list_python(all, text, e);
    } else if (ends_with(path, ".json")) {
        rc = eval_list_json(all, text, n, e);
    } else {
        rc = eval_list_json(all, text, n, e);
        if (rc) {
            eval_named_lists_release(all);
            rc = eval_list_python(all, text, e);
        }
    }
    for (size_t i = 0; rc == 0 && i < all->n; i++)
        for (size_t k = 0; k < all->list[i].items.n; k++)
            all->list[i].templates |= has_place(all->list[i].items.lines[k]);
    return rc;
}

// Is it one list in brackets, whatever the file's name?
static bool in_brackets(const char *text, size_t n)
{
    while (n && strchr(" \t\r\n", text[n - 1]))
        n--;
    size_t at = strspn(text, " \t\r\n");
    return n > at + 1 && text[at] == '[' && text[n - 1] == ']';
}

static int read_named(struct eval_lines *l, const char *path, const char *name,
                      enum eval_list_kind kind, const char *set, const char *text, size_t n,
                      struct err *e)
{
    struct eval_named_lists all = {0};
    int rc = read_form(&all, path, text, n, e);
    struct eval_named_list *chosen = rc == 0 ? choose(&all, name, kind, set, e) : NULL;
    rc = chosen ? 0 : -1;
    if (chosen && chosen->broken) {
        *e = chosen->why;
        rc = chosen->name[0] ? err_wrap(e, "'%s'", chosen->name) : -1;
    } else if (chosen) {
        *l = chosen->items;
        chosen->items = (struct eval_lines){0};
    }
    eval_named_lists_release(&all);
    return rc;
}

// The file's text without byte order mark and with LF at its line ends, checked to be UTF-8.
static char *read_text(const char *path, size_t *n, struct err *e)
{
    struct map m;
    if (map_open(&m, path, e))
        return NULL;
    const uint8_t *from = m.data, *end = m.data + m.n;
    char *text = NULL;
    if (m.n >= 2 && (memcmp(from, "\xff\xfe", 2) == 0 || memcmp(from, "\xfe\xff", 2) == 0))
        err_set(e, "'%s' is UTF-16, not UTF-8", path);
    else if (m.n && memchr(from, '\0', m.n))
        err_set(e, "'%s' holds a NUL byte", path);
    else
        text = mem_alloc(m.n + 1, 1, e);
    if (text && m.n >= 3 && memcmp(from, "\xef\xbb\xbf", 3) == 0)
        from += 3;
    size_t line = 1;
    for (*n = 0; text && from < end;) {
        int32_t c;
        size_t k = utf8_next(from, (size_t)(end - from), &c);
        if (!k) {
            err_set(e, "'%s': line %zu is not UTF-8", path, line);
            free(text);
            text = NULL;
            break;
        }
        line += c == '\n';
        if (c != '\r' || from + 1 == end || from[1] != '\n') {
            memcpy(text + *n, from, k);
            *n += k;
        }
        from += k;
    }
    map_close(&m);
    return text;
}

// "{}" becomes "{c}" in a template that has no {c}.
static int name_places(struct eval_lines *l, struct err *e)
{
    for (size_t i = 0; i < l->n; i++) {
        const char *from = l->lines[i];
        if (strstr(from, "{c}"))
            continue;
        if (!strstr(from, "{}"))
            return err_set(e, "%s %zu: template '%.100s' has no {c}", l->unit, l->record[i], from);
        char *to = mem_alloc(2 * strlen(from) + 1, 1, e), *at = to;
        if (!to)
            return -1;
        while (*from) {
            if (from[0] == '{' && from[1] == '}')
                *at++ = *from++, *at++ = 'c';
            *at++ = *from++;
        }
        *at = '\0';
        free(l->lines[i]);
        l->lines[i] = to;
    }
    return 0;
}

int eval_list_read(struct eval_lines *l, const char *path, enum eval_list_kind kind,
                   const char *set, struct err *e)
{
    *l = (struct eval_lines){.unit = "line"};
    char *file = mem_strdup(path, e);
    if (!file)
        return -1;
    char *name = access(path, F_OK) ? strrchr(file, ':') : NULL;
    if (name && name > file)
        *name++ = '\0';
    else
        name = NULL;
    size_t n;
    char *text = read_text(file, &n, e);
    int rc = text ? 0 : -1;
    if (rc == 0) {
        bool named = kind != EVAL_LIST_WORDS &&
                     (ends_with(file, ".py") || ends_with(file, ".json") || in_brackets(text, n));
        rc = named ? read_named(l, file, name, kind, set, text, n, e) : read_lines(l, text, e);
        if (rc == 0 && kind != EVAL_LIST_WORDS && l->n == 0)
            rc = err_set(e, "no %s", kind == EVAL_LIST_CLASSES ? "class names" : "templates");
        if (rc == 0 && kind == EVAL_LIST_TEMPLATES)
            rc = name_places(l, e);
        if (rc)
            err_wrap(e, "'%s'", file);
    }
    free(text);
    free(file);
    if (rc)
        eval_lines_release(l);
    return rc;
}
