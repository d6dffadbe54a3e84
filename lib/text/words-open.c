// SPDX-License-Identifier: Apache-2.0
// Which of a folder's files is the tokenizer, and what stands beside it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/path.h"
#include "formats/json.h"
#include "system/io.h"
#include "text/tokenizer-vocab.h"
#include "text/words-json.h"

static bool there(char path[PATH_BYTES], const char *folder, const char *name)
{
    struct err ignored;
    return !path_join(path, folder, name, &ignored) && access(path, F_OK) == 0;
}

// The parsed file; NULL if there is none, or with e set (*bad).
static cJSON *read_config(const char *folder, const char *name, bool *bad, struct err *e)
{
    char path[PATH_BYTES];
    static const struct json_limits lim = {.bytes = VOCAB_FILE_MAX};
    if (!there(path, folder, name))
        return NULL;
    cJSON *j = json_read_file(path, &lim, e);
    *bad |= !j;
    return j;
}

// A token's text in tokenizer_config.json or special_tokens_map.json: a string or an object.
static const char *token_text(const cJSON *file, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(file, key);
    if (cJSON_IsObject(v))
        v = cJSON_GetObjectItemCaseSensitive(v, "content");
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

struct beside {
    cJSON *config, *map;
};

static const char *named(const struct beside *b, const char *key)
{
    const char *s = token_text(b->config, key);
    return s ? s : token_text(b->map, key);
}

static bool is_class(const struct beside *b, const char *name)
{
    const cJSON *c = cJSON_GetObjectItemCaseSensitive(b->config, "tokenizer_class");
    return cJSON_IsString(c) && strncmp(c->valuestring, name, strlen(name)) == 0;
}

// What is done to a caption before it is cut.
static void set_form(struct other_words *w, const struct beside *b, const struct tokenizer_style *s)
{
    if (s->open_clip)
        w->form = s->canonicalize ? TEXT_CANONICAL : TEXT_WHITESPACE;
    else
        w->form = is_class(b, "SiglipTokenizer")    ? TEXT_SIGLIP
                  : is_class(b, "Siglip2Tokenizer") ? TEXT_LOWER_EACH
                                                    : TEXT_RAW;
    w->cut_first = w->form == TEXT_SIGLIP;
    w->strip_eot = s->strip_sep;
}

static int32_t find_token(const struct other_words *w, const cJSON *fast, const char *text)
{
    if (fast)
        return words_json_find(fast, text);
    int32_t id = piece_model_find(w->pieces, text);
    return id >= 0 && w->fairseq ? id + 1 : id;
}

static int set_pad(struct other_words *w, const cJSON *fast, const struct beside *b, struct err *e)
{
    const char *pad = named(b, "pad_token");
    w->pad = pad ? find_token(w, fast, pad) : 0;
    if (w->pad < 0 && w->fairseq && strcmp(pad, "<pad>") == 0)
        w->pad = 1;
    return w->pad >= 0 ? 0 : err_set(e, "pad_token '%.40s' is no token", pad);
}

// Tokens of a sentencepiece model without other files, that captions are searched for: those with
// names.
static int add_named(struct other_words *w, const struct beside *b, struct err *e)
{
    static const char *const keys[] = {"pad_token", "eos_token", "bos_token", "unk_token"};
    struct match_token list[4];
    size_t n = 0;
    for (size_t i = 0; i < 4; i++) {
        const char *text = named(b, keys[i]);
        int32_t id = text && *text ? find_token(w, NULL, text) : -1;
        if (id >= 0)
            list[n++] = (struct match_token){(const uint8_t *)text, strlen(text), id, false};
    }
    return token_matcher_init(&w->added, list, n, e);
}

static int open_model(struct other_words *w, const char *path, bool fairseq, const struct beside *b,
                      struct err *e)
{
    struct map m;
    if (map_open(&m, path, e))
        return -1;
    w->pieces = piece_model_new(m.data, m.n, e);
    map_close(&m);
    if (!w->pieces)
        return err_wrap(e, "%s", path);
    w->own = true;
    w->fairseq = fairseq;
    w->size = piece_model_size(w->pieces) + (fairseq ? 2 : 0); // + 1, and <mask>
    w->eot = fairseq ? 2 : piece_model_end(w->pieces);
    if (w->eot < 0)
        return err_set(e, "%s: the model has no end of text", path);
    w->sot = -1;
    if (fairseq)
        w->first[w->n_first++] = w->sot = 0;
    w->last[w->n_last++] = w->eot;
    w->once = is_class(b, "Siglip");
    return add_named(w, b, e);
}

static int fill(struct other_words *w, const cJSON *fast, const char *model, bool fairseq,
                const struct beside *b, const struct tokenizer_style *s, struct err *e)
{
    set_form(w, b, s);
    if (fast ? words_from_json(w, fast, e) : open_model(w, model, fairseq, b, e))
        return -1;
    return set_pad(w, fast, b, e);
}

// CLIP's own files take precedence, as in tokenizer_open.
static bool is_clip(const char *folder)
{
    char path[PATH_BYTES];
    return there(path, folder, "bpe_simple_vocab_16e6.txt.gz") ||
           there(path, folder, "bpe_simple_vocab_16e6.txt") ||
           (there(path, folder, "vocab.json") && there(path, folder, "merges.txt"));
}

// The sentencepiece model of a folder.
static bool find_model(char path[PATH_BYTES], const char *folder, bool *fairseq)
{
    *fairseq = there(path, folder, "sentencepiece.bpe.model");
    return *fairseq || there(path, folder, "spiece.model") ||
           there(path, folder, "tokenizer.model");
}

static int open_folder(struct other_words **to, const char *folder, const struct tokenizer_style *s,
                       struct err *e)
{
    char model[PATH_BYTES];
    bool bad = false, fairseq = false;
    if (is_clip(folder))
        return 0;
    cJSON *fast = read_config(folder, "tokenizer.json", &bad, e);
    struct beside b = {read_config(folder, "tokenizer_config.json", &bad, e),
                       read_config(folder, "special_tokens_map.json", &bad, e)};
    int rc = bad ? -1 : 0;
    bool ours = fast ? words_json_is(fast) : find_model(model, folder, &fairseq);
    if (!rc && ours) {
        rc = -1;
        if ((*to = mem_alloc(1, sizeof **to, e)))
            rc = fill(*to, fast, model, fairseq, &b, s, e) ? -1 : 1;
    }
    cJSON_Delete(fast);
    cJSON_Delete(b.config);
    cJSON_Delete(b.map);
    if (rc < 0) {
        words_free(*to);
        *to = NULL;
        return err_wrap(e, "%s", folder);
    }
    return rc;
}

const char *const tokenizer_other_files[] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
    NULL,
};

int tokenizer_is_other(const char *path, struct err *e)
{
    char model[PATH_BYTES];
    struct stat st;
    bool bad = false, fairseq;
    if (stat(path, &st) || !S_ISDIR(st.st_mode) || is_clip(path))
        return 0;
    cJSON *fast = read_config(path, "tokenizer.json", &bad, e);
    bool ours = fast ? words_json_is(fast) : find_model(model, path, &fairseq);
    cJSON_Delete(fast);
    return bad ? -1 : ours;
}

int words_open(struct other_words **w, const char *path, const struct tokenizer_style *s,
               struct err *e)
{
    struct stat st;
    *w = NULL;
    // A single file is CLIP's: the other kinds need the files beside them.
    if (stat(path, &st) || !S_ISDIR(st.st_mode))
        return 0;
    return open_folder(w, path, s, e);
}

void words_free(struct other_words *w)
{
    if (!w)
        return;
    piece_model_free(w->pieces);
    piece_model_free(w->charsmap);
    wordpiece_free(w->wordpiece);
    token_matcher_release(&w->added);
    free(w->eats_left);
    free(w);
}
