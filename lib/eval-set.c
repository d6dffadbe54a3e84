// SPDX-License-Identifier: Apache-2.0
#include "eval-set.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "digest.h"
#include "io.h"
#include "mem.h"

enum { PATH_ROOM = 4096, SHARDS_MAX = 1000000 };

static void lines_release(struct eval_lines *l)
{
    free(l->text);
    free(l->lines);
    *l = (struct eval_lines){0};
}

// Without blanks at either end, as CLIP_benchmark reads its lists.
static char *strip(char *line, char *end)
{
    while (end > line && strchr(" \t\r", end[-1]))
        *--end = '\0';
    return line + strspn(line, " \t\r");
}

// Cuts the text into lines; empty ones do not count, as in CLIP_benchmark.
static int cut_lines(struct eval_lines *l, struct err *e)
{
    size_t room = 1;
    for (const char *p = l->text; *p; p++)
        room += *p == '\n';
    l->lines = mem_alloc(room, sizeof *l->lines, e);
    if (!l->lines)
        return -1;
    for (char *p = l->text; *p;) {
        char *end = p + strcspn(p, "\n"), *next = *end ? end + 1 : end;
        *end = '\0';
        l->lines[l->n] = strip(p, end);
        l->n += l->lines[l->n][0] != '\0';
        p = next;
    }
    return 0;
}

static int read_lines(struct eval_lines *l, const char *path, struct err *e)
{
    struct map m;
    *l = (struct eval_lines){0};
    if (map_open(&m, path, e))
        return -1;
    int rc = -1;
    if (m.n && memchr(m.data, '\0', m.n))
        err_set(e, "'%s' holds a NUL byte", path);
    else if ((l->text = mem_alloc(m.n + 1, 1, e))) {
        if (m.n)
            memcpy(l->text, m.data, m.n);
        rc = cut_lines(l, e);
    }
    map_close(&m);
    if (rc)
        lines_release(l);
    return rc;
}

static int join(char *to, size_t room, const char *folder, const char *name, struct err *e)
{
    int n = snprintf(to, room, "%s/%s", folder, name);
    return n < 0 || (size_t)n >= room ? err_set(e, "path of '%s' is too long", name) : 0;
}

static int read_type(struct eval_set *s, struct err *e)
{
    char path[PATH_ROOM];
    struct eval_lines l;
    if (join(path, sizeof path, s->folder, "dataset_type.txt", e))
        return -1;
    if (access(path, F_OK))
        return 0;
    if (read_lines(&l, path, e))
        return -1;
    const char *word = l.n ? l.lines[0] : "";
    int rc = 0;
    if (strcasecmp(word, "retrieval") == 0)
        s->type = EVAL_RETRIEVAL;
    else if (strcasecmp(word, "multilabel") == 0)
        s->type = EVAL_MULTILABEL;
    else if (strcasecmp(word, "classification") != 0)
        rc = err_set(e, "'%s': type '%s' is not known", path, word);
    lines_release(&l);
    return rc;
}

static int read_own_or(struct eval_lines *l, const struct eval_set *s, const char *name,
                       const char *instead, struct err *e)
{
    char path[PATH_ROOM];
    if (instead)
        return read_lines(l, instead, e);
    return join(path, sizeof path, s->folder, name, e) || read_lines(l, path, e) ? -1 : 0;
}

static int read_names(struct eval_set *s, const char *classnames, const char *templates,
                      struct err *e)
{
    if (read_own_or(&s->classes, s, "classnames.txt", classnames, e) ||
        read_own_or(&s->templates, s, "zeroshot_classification_templates.txt", templates, e))
        return -1;
    if (s->classes.n == 0 || s->templates.n == 0)
        return err_set(e, "'%s': no %s", s->folder, s->classes.n ? "templates" : "class names");
    for (size_t i = 0; i < s->templates.n; i++)
        if (!strstr(s->templates.lines[i], "{c}"))
            return err_set(e, "'%s': template %zu has no {c}", s->folder, i + 1);
    return 0;
}

int eval_set_open(struct eval_set *s, const char *folder, const char *classnames,
                  const char *templates, struct err *e)
{
    *s = (struct eval_set){.folder = mem_strdup(folder, e)};
    if (!s->folder)
        return -1;
    for (size_t n = strlen(s->folder); n > 1 && s->folder[n - 1] == '/';)
        s->folder[--n] = '\0';
    const char *slash = strrchr(s->folder, '/');
    s->name = mem_strdup(slash && slash[1] ? slash + 1 : s->folder, e);
    if (!s->name || read_type(s, e) ||
        (s->type != EVAL_RETRIEVAL && read_names(s, classnames, templates, e))) {
        eval_set_close(s);
        return -1;
    }
    return 0;
}

void eval_set_close(struct eval_set *s)
{
    free(s->folder);
    free(s->name);
    lines_release(&s->classes);
    lines_release(&s->templates);
    *s = (struct eval_set){0};
}

int eval_set_shards(const struct eval_set *s, const char *split, size_t *n, struct err *e)
{
    char path[PATH_ROOM];
    struct eval_lines l;
    *n = 0;
    if (join(path, sizeof path, s->folder, split, e))
        return -1;
    if (access(path, F_OK))
        return 0;
    if (join(path + strlen(path), sizeof path - strlen(path), "", "nshards.txt", e) ||
        read_lines(&l, path, e))
        return -1;
    char *end = NULL;
    errno = 0;
    unsigned long v = l.n == 1 ? strtoul(l.lines[0], &end, 10) : 0;
    int rc = 0;
    if (!end || end == l.lines[0] || *end || errno || v == 0 || v > SHARDS_MAX)
        rc = err_set(e, "'%s' is not a number of shards", path);
    *n = v;
    lines_release(&l);
    return rc;
}

int eval_set_digest(const struct eval_set *s, const char *split, char *hex, struct err *e)
{
    size_t n;
    struct digest *all = digest_new(e);
    if (!all)
        return -1;
    int rc = eval_set_shards(s, split, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        char path[PATH_ROOM], one[DIGEST_HEX];
        snprintf(path, sizeof path, "%s/%s/%zu.tar", s->folder, split, i);
        rc = digest_file(path, one, e);
        if (rc == 0)
            digest_key(all, one);
    }
    digest_hex(all, hex);
    digest_free(all);
    return rc;
}

char *eval_fill_template(const char *template_text, const char *class_name, struct err *e)
{
    size_t n_name = strlen(class_name), room = strlen(template_text) + 1;
    for (const char *p = template_text; (p = strstr(p, "{c}")); p += 3)
        room += n_name;
    char *out = mem_alloc(room, 1, e), *to = out;
    if (!out)
        return NULL;
    for (const char *p = template_text; *p;) {
        if (strncmp(p, "{c}", 3) == 0) {
            memcpy(to, class_name, n_name);
            to += n_name;
            p += 3;
        } else {
            *to++ = *p++;
        }
    }
    *to = '\0';
    return out;
}
