// SPDX-License-Identifier: Apache-2.0
// Added tokens in Hugging Face's files, of every version: added_tokens of tokenizer.json,
// added_tokens_decoder of tokenizer_config.json, added_tokens.json, and the names of special
// tokens.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/json.h"
#include "base/path.h"
#include "text/tokenizer-vocab.h"

// The flags of one token. If the file does not say, a mark is searched for in the raw caption and a
// word in the cleaned one.
static int read_flags(struct vocab_added *t, const cJSON *o, struct err *e)
{
    if (json_bool(o, "special", JSON_OPTIONAL, &t->special, e) < 0)
        return -1;
    t->normalized = !t->special;
    return json_bool(o, "normalized", JSON_OPTIONAL, &t->normalized, e) < 0 ||
                   json_bool(o, "single_word", JSON_OPTIONAL, &t->single_word, e) < 0
               ? -1
               : 0;
}

static int read_content(struct vocab_added *t, const cJSON *o, struct err *e)
{
    if (json_string(o, "content", JSON_REQUIRED, &t->text, e) < 0)
        return -1;
    t->n = (uint32_t)strlen(t->text);
    return 0;
}

static int add_entry(struct vocab *v, const cJSON *o, int64_t id, struct err *e)
{
    struct vocab_added t = {.id = (int32_t)id};
    if (read_content(&t, o, e) || read_flags(&t, o, e))
        return -1;
    return vocab_add_token(v, &t, e);
}

int vocab_read_added_list(struct vocab *v, const cJSON *added, struct err *e)
{
    if (!added || cJSON_IsNull(added))
        return 0;
    if (!cJSON_IsArray(added))
        return err_set(e, "'added_tokens' is not an array");
    for (const cJSON *t = added->child; t; t = t->next) {
        int64_t id;
        if (json_int(t, "id", JSON_REQUIRED, 0, VOCAB_ID_MAX, &id, e) < 0 || add_entry(v, t, id, e))
            return err_wrap(e, "added_tokens");
    }
    return 0;
}

// {"514": {"content": ..., ...}, ...}
static int read_decoder(struct vocab *v, const cJSON *config, struct err *e)
{
    const cJSON *all = NULL;
    if (json_object(config, "added_tokens_decoder", JSON_OPTIONAL, &all, e) < 0)
        return -1;
    for (const cJSON *t = all ? all->child : NULL; t; t = t->next) {
        char *end;
        errno = 0;
        unsigned long id = strtoul(t->string, &end, 10);
        if (end == t->string || *end || errno || id > VOCAB_ID_MAX || strchr("+- ", *t->string))
            return err_set(e, "added_tokens_decoder: '%.40s' is not a token's id", t->string);
        if (add_entry(v, t, (int64_t)id, e))
            return err_wrap(e, "added_tokens_decoder");
    }
    return 0;
}

// Whether it is one of the further special tokens that a file names, as strings or as objects with
// content.
static bool names_special(const cJSON *file, const char *list, const char *text)
{
    const cJSON *all = cJSON_GetObjectItemCaseSensitive(file, list);
    bool several = cJSON_IsArray(all) || cJSON_IsObject(all);
    for (const cJSON *t = several ? all->child : NULL; t; t = t->next) {
        const cJSON *s = cJSON_IsObject(t) ? cJSON_GetObjectItemCaseSensitive(t, "content") : t;
        if (cJSON_IsString(s) && strcmp(s->valuestring, text) == 0)
            return true;
    }
    return false;
}

static const char *const lists[] = {"additional_special_tokens", "extra_special_tokens"};
enum { LISTS = sizeof lists / sizeof *lists };

// The parsed files; NULL if a file does not exist.
struct files {
    cJSON *config, *fast, *map, *plain;
};

static bool is_special(const struct files *f, const char *text)
{
    for (int i = 0; i < LISTS; i++)
        if (names_special(f->config, lists[i], text) || names_special(f->map, lists[i], text))
            return true;
    return false;
}

// {"<token>": id, ...}
static int read_plain(struct vocab *v, const struct files *f, struct err *e)
{
    for (const cJSON *t = f->plain ? f->plain->child : NULL; t; t = t->next) {
        int64_t id;
        if (json_int(f->plain, t->string, JSON_REQUIRED, 0, VOCAB_ID_MAX, &id, e) < 0)
            return -1;
        struct vocab_added a = {.text = t->string, .n = (uint32_t)strlen(t->string)};
        a.id = (int32_t)id;
        a.special = is_special(f, a.text);
        a.normalized = !a.special;
        if (vocab_add_token(v, &a, e))
            return -1;
    }
    return 0;
}

static bool has_token(const struct vocab *v, const char *text, size_t n)
{
    for (size_t i = 0; i < v->n_added; i++)
        if (v->added[i].n == n && memcmp(v->added[i].text, text, n) == 0)
            return true;
    return false;
}

// Special tokens without an entry of their own are in the vocabulary.
static int read_names(struct vocab *v, const cJSON *file, const char *list, struct err *e)
{
    const cJSON *all = cJSON_GetObjectItemCaseSensitive(file, list);
    bool several = cJSON_IsArray(all) || cJSON_IsObject(all);
    for (const cJSON *t = several ? all->child : NULL; t; t = t->next) {
        const cJSON *s = cJSON_IsObject(t) ? cJSON_GetObjectItemCaseSensitive(t, "content") : t;
        if (!cJSON_IsString(s))
            return err_set(e, "%s: not a token", list);
        struct vocab_added a = {.text = s->valuestring, .special = true};
        a.n = (uint32_t)strlen(a.text);
        if (!a.n || has_token(v, a.text, a.n))
            continue;
        a.id = vocab_find(v, a.text, a.n);
        if (a.id < 0)
            return err_set(e, "%s: the special token '%.60s' has no id in any file", list, a.text);
        if (vocab_add_token(v, &a, e))
            return -1;
    }
    return 0;
}

static int in(const char *name, int status, struct err *e)
{
    return status ? err_wrap(e, "%s", name) : 0;
}

static int read_all(struct vocab *v, const struct files *f, struct err *e)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(f->fast, "added_tokens");
    int rc = in("tokenizer_config.json", read_decoder(v, f->config, e), e) ||
             in("tokenizer.json", vocab_read_added_list(v, list, e), e) ||
             in("added_tokens.json", read_plain(v, f, e), e);
    for (int i = 0; i < LISTS && !rc; i++)
        rc = in("tokenizer_config.json", read_names(v, f->config, lists[i], e), e) ||
             in("special_tokens_map.json", read_names(v, f->map, lists[i], e), e);
    return rc ? -1 : 0;
}

// The object in "folder/name", NULL if there is no such file. 0 or -1.
static int open_one(cJSON **to, const char *folder, const char *name, struct err *e)
{
    static const struct json_limits lim = {.bytes = VOCAB_FILE_MAX};
    char *path = path_new(folder, name, e);
    if (!path)
        return -1;
    int rc = 0;
    if (access(path, F_OK) == 0)
        rc = (*to = json_read_file(path, &lim, e)) ? 0 : -1;
    if (!rc && *to && !cJSON_IsObject(*to))
        rc = err_set(e, "%s: not a JSON object", path);
    free(path);
    return rc;
}

int vocab_read_added(struct vocab *v, const char *folder, struct err *e)
{
    struct files f = {NULL, NULL, NULL, NULL};
    int rc = open_one(&f.config, folder, "tokenizer_config.json", e) ||
             open_one(&f.fast, folder, "tokenizer.json", e) ||
             open_one(&f.map, folder, "special_tokens_map.json", e) ||
             open_one(&f.plain, folder, "added_tokens.json", e);
    if (!rc && read_all(v, &f, e))
        rc = err_wrap(e, "%s", folder);
    cJSON_Delete(f.config);
    cJSON_Delete(f.fast);
    cJSON_Delete(f.map);
    cJSON_Delete(f.plain);
    return rc ? -1 : 0;
}
