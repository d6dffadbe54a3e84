// SPDX-License-Identifier: Apache-2.0
#include "eval/set.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/path.h"
#include "system/digest.h"
#include "base/mem.h"
#include "shards/shard.h"

enum { SHARDS_MAX = 1000000 };

static int read_type(struct eval_set *s, struct err *e)
{
    char path[PATH_BYTES];
    struct eval_lines l;
    if (path_join(path, s->folder, "dataset_type.txt", e))
        return -1;
    if (access(path, F_OK))
        return 0;
    if (eval_list_read(&l, path, EVAL_LIST_WORDS, s->name, e))
        return -1;
    const char *word = l.n ? l.lines[0] : "";
    int rc = 0;
    if (strcasecmp(word, "retrieval") == 0)
        s->type = EVAL_RETRIEVAL;
    else if (strcasecmp(word, "multilabel") == 0)
        s->type = EVAL_MULTILABEL;
    else if (strcasecmp(word, "classification") != 0)
        rc = err_set(e, "'%s': type '%s' is not known", path, word);
    eval_lines_release(&l);
    return rc;
}

// The list at `instead`, or the set's own, BASE.txt, .json or .py.
static int read_list(struct eval_lines *l, const struct eval_set *s, const char *base,
                     const char *instead, enum eval_list_kind kind, struct err *e)
{
    static const char *const ends[] = {".json", ".py", ".txt"};
    char path[PATH_BYTES], name[64];
    if (instead)
        return eval_list_read(l, instead, kind, s->name, e);
    size_t k = sizeof ends / sizeof *ends - 1; // CLIP_benchmark's own, the .txt, comes first
    snprintf(name, sizeof name, "%s%s", base, ends[k]);
    if (path_join(path, s->folder, name, e))
        return -1;
    for (size_t i = 0; i < k && access(path, F_OK); i++) {
        char other[PATH_BYTES];
        snprintf(name, sizeof name, "%s%s", base, ends[i]);
        if (path_join(other, s->folder, name, e))
            return -1;
        if (access(other, F_OK) == 0)
            return eval_list_read(l, other, kind, s->name, e);
    }
    return eval_list_read(l, path, kind, s->name, e);
}

static int read_names(struct eval_set *s, const char *classnames, const char *templates,
                      struct err *e)
{
    return read_list(&s->classes, s, "classnames", classnames, EVAL_LIST_CLASSES, e) ||
                   read_list(&s->templates, s, "zeroshot_classification_templates", templates,
                             EVAL_LIST_TEMPLATES, e)
               ? -1
               : 0;
}

int eval_set_open(struct eval_set *s, const char *folder, const char *classnames,
                  const char *templates, struct err *e)
{
    *s = (struct eval_set){.folder = mem_strdup(folder, e)};
    if (!s->folder)
        return -1;
    for (size_t n = strlen(s->folder); n > 1 && s->folder[n - 1] == '/';)
        s->folder[--n] = '\0';
    const char *base = path_base(s->folder);
    s->name = mem_strdup(*base ? base : s->folder, e);
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
    eval_lines_release(&s->classes);
    eval_lines_release(&s->templates);
    *s = (struct eval_set){0};
}

int eval_set_shards(const struct eval_set *s, const char *split, size_t *n, struct err *e)
{
    char folder[PATH_BYTES], path[PATH_BYTES];
    struct eval_lines l;
    *n = 0;
    if (path_join(folder, s->folder, split, e))
        return -1;
    if (access(folder, F_OK))
        return 0;
    if (path_join(path, folder, "nshards.txt", e) ||
        eval_list_read(&l, path, EVAL_LIST_WORDS, s->name, e))
        return -1;
    char *end = NULL;
    errno = 0;
    unsigned long v = l.n == 1 ? strtoul(l.lines[0], &end, 10) : 0;
    int rc = 0;
    if (!end || end == l.lines[0] || *end || errno || v == 0 || v > SHARDS_MAX)
        rc = err_set(e, "'%s' is not a number of shards", path);
    *n = v;
    eval_lines_release(&l);
    return rc;
}

int eval_set_shard_path(char path[PATH_BYTES], const struct eval_set *s, const char *split,
                        size_t i, struct err *e)
{
    return path_format(path, e, "%s/%s/%zu.tar", s->folder, split, i);
}

int eval_set_digest(const struct eval_set *s, const char *split, char *hex, struct err *e)
{
    size_t n;
    struct digest *all = digest_new(e);
    if (!all)
        return -1;
    int rc = eval_set_shards(s, split, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        char path[PATH_BYTES], one[DIGEST_HEX];
        rc = eval_set_shard_path(path, s, split, i, e);
        rc = rc ? rc : digest_file(path, one, e);
        if (rc == 0)
            digest_key(all, one);
    }
    digest_hex(all, hex);
    digest_free(all);
    return rc;
}

// Samples of one shard, or -1.
static long count_shard(const char *path, struct err *e)
{
    const struct shard_limits lim = {.scan = true};
    struct shard_sample one;
    struct shard *shard = shard_open(path, &lim, e);
    long n = 0;
    int rc = shard ? 1 : -1;
    if (shard)
        shard_pass_over(shard, true);
    while (rc > 0 && (rc = shard_next(shard, &one, e)) > 0)
        n++;
    shard_close(shard);
    return rc ? -1 : n;
}

size_t eval_set_count(const struct eval_set *s, const char *split)
{
    char path[PATH_BYTES];
    size_t shards, all = 0;
    struct err ignored; // told by who reads the samples
    if (eval_set_shards(s, split, &shards, &ignored))
        return 0;
    for (size_t i = 0; i < shards; i++) {
        long n =
            eval_set_shard_path(path, s, split, i, &ignored) ? -1 : count_shard(path, &ignored);
        if (n < 0)
            return 0;
        all += (size_t)n;
    }
    return all;
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
