// SPDX-License-Identifier: Apache-2.0
// tokenizer.json's parts: normalizer, pre_tokenizer, model, added_tokens, post_processor.
#include "text/words-json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/json.h"
#include "text/tokenizer-vocab.h"

static const cJSON *get(const cJSON *o, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

static bool is(const cJSON *o, const char *want)
{
    const cJSON *type = get(o, "type");
    return cJSON_IsString(type) && strcmp(type->valuestring, want) == 0;
}

static int refuse(const char *what, const cJSON *o, struct err *e)
{
    const cJSON *type = get(o, "type");
    return err_set(e, "tokenizer.json: %s '%.40s' is not implemented as it stands there", what,
                   cJSON_IsString(type) ? type->valuestring : "?");
}

bool words_json_is(const cJSON *fast)
{
    const cJSON *m = get(fast, "model");
    return is(m, "Unigram") || is(m, "WordPiece") ||
           (is(m, "BPE") && cJSON_IsTrue(get(m, "byte_fallback")));
}

int32_t words_json_find(const cJSON *fast, const char *text)
{
    const cJSON *vocab = get(get(fast, "model"), "vocab"), *t;
    int32_t i = 0;
    cJSON_ArrayForEach(t, get(fast, "added_tokens"))
    {
        const cJSON *c = get(t, "content"), *id = get(t, "id");
        if (cJSON_IsString(c) && strcmp(c->valuestring, text) == 0 && cJSON_IsNumber(id))
            return (int32_t)id->valuedouble;
    }
    if (cJSON_IsObject(vocab)) {
        t = get(vocab, text);
        return cJSON_IsNumber(t) ? (int32_t)t->valuedouble : -1;
    }
    cJSON_ArrayForEach(t, vocab)
    {
        if (cJSON_IsString(t->child) && strcmp(t->child->valuestring, text) == 0)
            return i;
        i++;
    }
    return -1;
}

// -- normalizer
// Base64 to bytes; NULL with e set.
static uint8_t *decode64(const char *s, size_t *n, struct err *e)
{
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t *out = mem_alloc(strlen(s) / 4 * 3 + 3, 1, e);
    uint32_t bits = 0;
    int have = 0;
    *n = 0;
    for (; out && *s && *s != '='; s++) {
        const char *at = strchr(set, *s);
        if (!at) {
            err_set(e, "tokenizer.json: precompiled_charsmap is not base64");
            free(out);
            return NULL;
        }
        bits = bits << 6 | (uint32_t)(at - set);
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[(*n)++] = (uint8_t)(bits >> have);
        }
    }
    return out;
}

// A model that only normalizes: all its text is unknown, and unknown text stays one piece.
static int set_charsmap(struct other_words *w, const char *base64, struct err *e)
{
    static const struct piece pieces[] = {{"<unk>", 0, PIECE_UNKNOWN},
                                          {"\xee\x80\x80", 0, PIECE_NORMAL}};
    struct piece_table t = {.pieces = pieces, .n = 2};
    uint8_t *map = decode64(base64, &t.n_charsmap, e);
    if (!map)
        return -1;
    t.charsmap = map;
    w->charsmap = piece_model_of(&t, e);
    free(map);
    return w->charsmap ? 0 : -1;
}

// Replace: of runs of spaces, or of spaces by marks.
static int set_replace(struct other_words *w, const cJSON *o, struct err *e)
{
    static const char *const to[] = {" ", "\xe2\x96\x81"};
    const cJSON *pattern = get(o, "pattern"), *content = get(o, "content");
    const cJSON *regex = get(pattern, "Regex"), *plain = get(pattern, "String");
    if (!cJSON_IsString(content))
        return refuse("normalizer", o, e);
    bool runs = cJSON_IsString(regex) && strcmp(regex->valuestring, " {2,}") == 0;
    for (int i = 0; runs && i < 2; i++)
        if (strcmp(content->valuestring, to[i]) == 0) {
            w->spaces = to[i];
            return 0;
        }
    if (!cJSON_IsString(plain) || strcmp(plain->valuestring, " ") != 0 ||
        strcmp(content->valuestring, to[1]) != 0)
        return refuse("normalizer", o, e);
    w->mark = true;
    return 0;
}

static int set_normalizer(struct other_words *w, const cJSON *o, struct err *e)
{
    const cJSON *map = get(o, "precompiled_charsmap");
    if (!o || cJSON_IsNull(o))
        return 0;
    if (is(o, "Precompiled") && cJSON_IsString(map) && !w->charsmap)
        return *map->valuestring ? set_charsmap(w, map->valuestring, e) : 0;
    if (is(o, "Strip")) {
        w->strip_left = cJSON_IsTrue(get(o, "strip_left"));
        w->strip_right = cJSON_IsTrue(get(o, "strip_right"));
        return 0;
    }
    if (is(o, "Replace"))
        return set_replace(w, o, e);
    return refuse("normalizer", o, e);
}

// -- pre_tokenizer
static int set_metaspace(struct other_words *w, const cJSON *o, struct err *e)
{
    const cJSON *mark = get(o, "replacement"), *scheme = get(o, "prepend_scheme");
    bool always = cJSON_IsString(scheme) ? strcmp(scheme->valuestring, "always") == 0
                                         : cJSON_IsTrue(get(o, "add_prefix_space"));
    if (!cJSON_IsString(mark) || strcmp(mark->valuestring, "\xe2\x96\x81") != 0 || !always)
        return refuse("pre_tokenizer", o, e);
    w->mark = w->prefix = true;
    return 0;
}

static int set_cutter(struct other_words *w, const cJSON *o, struct err *e)
{
    if (!o || cJSON_IsNull(o))
        return 0;
    if (is(o, "Metaspace"))
        return set_metaspace(w, o, e);
    if (is(o, "WhitespaceSplit")) {
        w->split = true;
        return 0;
    }
    // Gemma's, after a normalizer that leaves no space to split at.
    if (is(o, "Split") && w->mark)
        return 0;
    return refuse("pre_tokenizer", o, e);
}

// The members of a Sequence, or the single item.
static int each(struct other_words *w, const cJSON *o, const char *list,
                int (*set)(struct other_words *, const cJSON *, struct err *), struct err *e)
{
    const cJSON *item;
    if (!is(o, "Sequence"))
        return set(w, o, e);
    cJSON_ArrayForEach(item, get(o, list))
    {
        if (set(w, item, e))
            return -1;
    }
    return 0;
}

// -- models
static bool is_added(const cJSON *fast, const char *text)
{
    const cJSON *t;
    cJSON_ArrayForEach(t, get(fast, "added_tokens"))
    {
        const cJSON *c = get(t, "content");
        if (cJSON_IsString(c) && strcmp(c->valuestring, text) == 0)
            return true;
    }
    return false;
}

static int build_pieces(struct other_words *w, struct piece_table *t, struct err *e)
{
    w->size = t->n > w->size ? t->n : w->size;
    w->pieces = piece_model_of(t, e);
    return w->pieces ? 0 : -1;
}

static int set_unigram(struct other_words *w, const cJSON *fast, struct err *e)
{
    const cJSON *m = get(fast, "model"), *vocab = get(m, "vocab"), *unk = get(m, "unk_id"), *v;
    size_t n = (size_t)cJSON_GetArraySize(vocab), i = 0;
    if (!cJSON_IsArray(vocab) || !n || n > VOCAB_ID_MAX || !cJSON_IsNumber(unk) ||
        cJSON_IsTrue(get(m, "byte_fallback")))
        return refuse("model", m, e);
    struct piece *p = mem_alloc(n, sizeof *p, e);
    int rc = p ? 0 : -1;
    cJSON_ArrayForEach(v, vocab)
    {
        const cJSON *score = v->child ? v->child->next : NULL;
        if (rc)
            break;
        if (!cJSON_IsString(v->child) || !cJSON_IsNumber(score) || !*v->child->valuestring) {
            rc = err_set(e, "tokenizer.json: model.vocab[%zu] is not a token and its score", i);
            break;
        }
        p[i] = (struct piece){v->child->valuestring, (float)score->valuedouble, PIECE_NORMAL};
        if (is_added(fast, p[i].text))
            p[i].type = PIECE_CONTROL;
        if ((double)i == unk->valuedouble)
            p[i].type = PIECE_UNKNOWN;
        i++;
    }
    struct piece_table t = {.pieces = p, .n = n};
    rc = rc || build_pieces(w, &t, e);
    free(p);
    return rc ? -1 : 0;
}

// "left right", or ["left", "right"]: the token that a merge makes, in `to`.
static int merged(const cJSON *item, char *to, size_t room, struct err *e)
{
    const cJSON *left = cJSON_IsArray(item) ? item->child : NULL, *right = left ? left->next : NULL;
    const char *a = cJSON_IsString(left) ? left->valuestring : NULL;
    const char *b = cJSON_IsString(right) ? right->valuestring : NULL;
    size_t n_a = a ? strlen(a) : 0;
    if (cJSON_IsString(item)) {
        a = item->valuestring;
        b = strchr(a, ' ');
        n_a = b ? (size_t)(b - a) : 0;
        b = b ? b + 1 : NULL;
    }
    if (!a || !b || n_a + strlen(b) >= room)
        return err_set(e, "tokenizer.json: a merge is not two tokens");
    memcpy(to, a, n_a);
    memcpy(to + n_a, b, strlen(b) + 1);
    return 0;
}

// Types before the merges are known: one character is a token; longer ones become tokens by a
// merge.
static void set_type(struct piece *p, const char *unk)
{
    size_t n = strlen(p->text);
    bool one = n <= 4 && (n == 1 || (p->text[0] & 0xc0) == 0xc0);
    for (size_t i = 1; i < n && one; i++)
        one = ((uint8_t)p->text[i] & 0xc0) == 0x80;
    p->type = strcmp(p->text, unk) == 0                                        ? PIECE_UNKNOWN
              : n == 6 && strncmp(p->text, "<0x", 3) == 0 && p->text[5] == '>' ? PIECE_BYTE
              : one                                                            ? PIECE_NORMAL
                                                                               : PIECE_CONTROL;
}

// A token's score is the negative rank of the first merge that makes it.
static int rank_merges(const cJSON *m, struct piece *p, struct err *e)
{
    char text[VOCAB_TOKEN_MAX];
    const cJSON *vocab = get(m, "vocab"), *item;
    float rank = 0;
    struct vocab v = {0}; // for a quick look-up
    int rc = 0;
    for (const cJSON *t = vocab->child; t && !rc; t = t->next)
        rc = vocab_add(&v, t->string, strlen(t->string), (int32_t)t->valuedouble, e);
    cJSON_ArrayForEach(item, get(m, "merges"))
    {
        rc = rc || merged(item, text, sizeof text, e);
        if (rc)
            break;
        int32_t id = vocab_find(&v, text, strlen(text));
        if (id < 0) {
            rc = err_set(e, "tokenizer.json: a merge makes '%.40s', which is no token", text);
            break;
        }
        if (p[id].type == PIECE_CONTROL) {
            p[id].type = PIECE_NORMAL;
            p[id].score = -rank;
        }
        rank++;
    }
    vocab_release(&v);
    return rc ? -1 : 0;
}

static int set_bpe(struct other_words *w, const cJSON *fast, struct err *e)
{
    const cJSON *m = get(fast, "model"), *vocab = get(m, "vocab"), *unk = get(m, "unk_token");
    size_t n = (size_t)cJSON_GetArraySize(vocab);
    if (!cJSON_IsObject(vocab) || !n || n > VOCAB_ID_MAX || !cJSON_IsString(unk) ||
        !cJSON_IsArray(get(m, "merges")))
        return refuse("model", m, e);
    struct piece *p = mem_alloc(n, sizeof *p, e);
    int rc = p ? 0 : -1;
    for (const cJSON *t = vocab->child; t && !rc; t = t->next) {
        double id = cJSON_IsNumber(t) ? t->valuedouble : -1;
        if (!(id >= 0 && id < (double)n) || id != floor(id) || p[(size_t)id].text || !*t->string) {
            rc = err_set(e, "tokenizer.json: the id of '%.40s' is not one of 0..%zu by itself",
                         t->string, n - 1);
            break;
        }
        p[(size_t)id] = (struct piece){.text = t->string};
        set_type(&p[(size_t)id], unk->valuestring);
    }
    rc = rc || rank_merges(m, p, e);
    struct piece_table t = {.pieces = p, .n = n, .bpe = true, .byte_fallback = true};
    rc = rc || build_pieces(w, &t, e);
    free(p);
    return rc ? -1 : 0;
}

static int set_wordpiece(struct other_words *w, const cJSON *fast, struct err *e)
{
    const cJSON *m = get(fast, "model"), *vocab = get(m, "vocab"), *norm = get(fast, "normalizer");
    const cJSON *unk = get(m, "unk_token"), *before = get(m, "continuing_subword_prefix");
    const cJSON *longest = get(m, "max_input_chars_per_word"),
                *accents = get(norm, "strip_accents");
    bool lower = cJSON_IsTrue(get(norm, "lowercase"));
    if (!cJSON_IsObject(vocab) || !cJSON_IsString(unk) || !cJSON_IsString(before) ||
        strcmp(before->valuestring, "##") != 0 ||
        (cJSON_IsNumber(longest) && longest->valuedouble != 100))
        return refuse("model", m, e);
    if (!is(norm, "BertNormalizer") || !cJSON_IsTrue(get(norm, "clean_text")) ||
        !cJSON_IsTrue(get(norm, "handle_chinese_chars")) ||
        (cJSON_IsBool(accents) && cJSON_IsTrue(accents) != lower))
        return refuse("normalizer", norm, e);
    if (!is(get(fast, "pre_tokenizer"), "BertPreTokenizer"))
        return refuse("pre_tokenizer", get(fast, "pre_tokenizer"), e);
    size_t n = (size_t)cJSON_GetArraySize(vocab), i = 0;
    struct wordpiece_token *list = mem_alloc(n, sizeof *list, e);
    int32_t unknown = words_json_find(fast, unk->valuestring);
    for (const cJSON *t = vocab->child; list && t; t = t->next) {
        if (!cJSON_IsNumber(t) || !(t->valuedouble >= 0 && t->valuedouble <= VOCAB_ID_MAX)) {
            free(list);
            return err_set(e, "tokenizer.json: the id of '%.40s' is none", t->string);
        }
        list[i++] = (struct wordpiece_token){t->string, (int32_t)t->valuedouble};
        if (t->valuedouble >= (double)w->size)
            w->size = (size_t)t->valuedouble + 1;
    }
    if (list && unknown >= 0)
        w->wordpiece = wordpiece_new(list, n, unknown, lower, e);
    free(list);
    return w->wordpiece ? 0 : -1;
}

// -- added tokens
static int read_added(struct other_words *w, const cJSON *t, struct match_token *to, struct err *e)
{
    const cJSON *c = get(t, "content"), *id = get(t, "id");
    if (!cJSON_IsString(c) || !*c->valuestring || !cJSON_IsNumber(id) ||
        !(id->valuedouble >= 0 && id->valuedouble <= VOCAB_ID_MAX))
        return err_set(e, "tokenizer.json: added_tokens: no content or id");
    if (cJSON_IsTrue(get(t, "normalized")) || cJSON_IsTrue(get(t, "rstrip")))
        return err_set(e,
                       "tokenizer.json: added token '%.40s': 'normalized' or 'rstrip' true is not "
                       "implemented",
                       c->valuestring);
    *to = (struct match_token){(const uint8_t *)c->valuestring, strlen(c->valuestring),
                               (int32_t)id->valuedouble, cJSON_IsTrue(get(t, "single_word"))};
    if ((size_t)to->id >= w->size)
        w->size = (size_t)to->id + 1;
    if (cJSON_IsTrue(get(t, "lstrip")))
        w->eats_left[w->n_eats_left++] = to->id;
    return 0;
}

static int set_added(struct other_words *w, const cJSON *fast, struct err *e)
{
    const cJSON *all = get(fast, "added_tokens"), *t;
    size_t n = (size_t)cJSON_GetArraySize(all), i = 0;
    struct match_token *list = mem_alloc(n, sizeof *list, e);
    int rc = list && (w->eats_left = mem_alloc(n, sizeof *w->eats_left, e)) ? 0 : -1;
    cJSON_ArrayForEach(t, all)
    {
        rc = rc || read_added(w, t, &list[i++], e);
        if (rc)
            break;
    }
    rc = rc || token_matcher_init(&w->added, list, n, e);
    free(list);
    return rc ? -1 : 0;
}

// -- post_processor: what a row begins and ends with
static int set_ends(struct other_words *w, const cJSON *fast, struct err *e)
{
    const cJSON *p = get(fast, "post_processor"), *item;
    bool behind = false;
    if (!is(p, "TemplateProcessing"))
        return refuse("post_processor", p, e);
    w->sot = w->eot = -1;
    cJSON_ArrayForEach(item, get(p, "single"))
    {
        const cJSON *special = get(item, "SpecialToken"), *name = get(special, "id");
        if (!special) {
            behind = true;
            continue;
        }
        size_t *n = behind ? &w->n_last : &w->n_first;
        int32_t id = cJSON_IsString(name) ? words_json_find(fast, name->valuestring) : -1;
        if (id < 0 || *n == WORDS_ENDS)
            return refuse("post_processor", p, e);
        (behind ? w->last : w->first)[(*n)++] = id;
    }
    if (!behind || !w->n_last)
        return err_set(e, "tokenizer.json: no token ends a text");
    w->eot = w->last[w->n_last - 1];
    w->sot = w->n_first ? w->first[0] : -1;
    return 0;
}

int words_from_json(struct other_words *w, const cJSON *fast, struct err *e)
{
    const cJSON *m = get(fast, "model");
    if (is(m, "WordPiece"))
        return set_wordpiece(w, fast, e) || set_added(w, fast, e) || set_ends(w, fast, e) ? -1 : 0;
    if (each(w, get(fast, "normalizer"), "normalizers", set_normalizer, e) ||
        each(w, get(fast, "pre_tokenizer"), "pretokenizers", set_cutter, e) ||
        (is(m, "BPE") ? set_bpe(w, fast, e) : set_unigram(w, fast, e)))
        return -1;
    return set_added(w, fast, e) || set_ends(w, fast, e) ? -1 : 0;
}
