// SPDX-License-Identifier: Apache-2.0
// Hugging Face's vocabulary files.
#include "text/tokenizer-vocab.h"

#include <stdbool.h>
#include <string.h>

#include "formats/json.h"

static cJSON *parse(const char *data, size_t n, struct err *e)
{
    static const struct json_limits lim = {.bytes = VOCAB_FILE_MAX};
    cJSON *root = json_parse(data, n, &lim, e);
    if (root && !cJSON_IsObject(root)) {
        err_set(e, "not a JSON object");
        cJSON_Delete(root);
        return NULL;
    }
    return root;
}

// A whole number from 0 to VOCAB_ID_MAX; -1 = item is none.
static int32_t read_id(const cJSON *item)
{
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= VOCAB_ID_MAX))
        return -1;
    int32_t id = (int32_t)item->valuedouble;
    return (double)id == item->valuedouble ? id : -1;
}

// {"token": id, ...}
static int add_tokens(struct vocab *v, const cJSON *tokens, struct err *e)
{
    for (const cJSON *t = tokens->child; t; t = t->next) {
        int32_t id = read_id(t);
        if (id < 0)
            return err_set(e, "token '%.40s': its id is not a whole number up to %d", t->string,
                           VOCAB_ID_MAX);
        if (vocab_add(v, t->string, strlen(t->string), id, e))
            return -1;
    }
    return 0;
}

int vocab_read_vocab_json(struct vocab *v, const char *data, size_t n, struct err *e)
{
    cJSON *root = parse(data, n, e);
    if (!root)
        return -1;
    int status = add_tokens(v, root, e);
    cJSON_Delete(root);
    return status;
}

// "left right", or ["left", "right"] as newer files have it.
static int add_merge(struct vocab *v, const cJSON *item, struct err *e)
{
    if (cJSON_IsString(item)) {
        const char *left = item->valuestring, *space = strchr(left, ' ');
        if (!space)
            return err_set(e, "'%.40s' is not two tokens", left);
        return vocab_merge(v, left, (size_t)(space - left), space + 1, strlen(space + 1), e);
    }
    const cJSON *left = cJSON_IsArray(item) ? item->child : NULL, *right = left ? left->next : NULL;
    if (!cJSON_IsString(left) || !cJSON_IsString(right) || right->next)
        return err_set(e, "not two tokens");
    return vocab_merge(v, left->valuestring, strlen(left->valuestring), right->valuestring,
                       strlen(right->valuestring), e);
}

static bool is_text(const cJSON *item, const char *want)
{
    return cJSON_IsString(item) && strcmp(item->valuestring, want) == 0;
}

static int read_fast(struct vocab *v, const cJSON *root, struct err *e)
{
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(root, "model");
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(model, "type");
    const cJSON *tokens = cJSON_GetObjectItemCaseSensitive(model, "vocab");
    const cJSON *merges = cJSON_GetObjectItemCaseSensitive(model, "merges");
    if (type && !is_text(type, "BPE"))
        return err_set(e, "model.type is not BPE: not CLIP's tokenizer");
    if (!is_text(cJSON_GetObjectItemCaseSensitive(model, "end_of_word_suffix"), "</w>"))
        return err_set(e, "model.end_of_word_suffix is not '</w>': not CLIP's tokenizer");
    if (!cJSON_IsObject(tokens) || !cJSON_IsArray(merges))
        return err_set(e, "no model.vocab object or no model.merges array");
    if (add_tokens(v, tokens, e) ||
        vocab_read_added_list(v, cJSON_GetObjectItemCaseSensitive(root, "added_tokens"), e))
        return -1;
    size_t i = 0;
    for (const cJSON *m = merges->child; m; m = m->next, i++) {
        if (add_merge(v, m, e))
            return err_wrap(e, "model.merges[%zu]", i);
    }
    return 0;
}

int vocab_read_tokenizer_json(struct vocab *v, const char *data, size_t n, struct err *e)
{
    cJSON *root = parse(data, n, e);
    if (!root)
        return -1;
    int status = read_fast(v, root, e);
    cJSON_Delete(root);
    return status;
}
