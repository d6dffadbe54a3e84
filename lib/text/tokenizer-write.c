// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer-write.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "system/io.h"
#include "formats/json.h"
#include "base/mem.h"
#include "base/path.h"

// What CLIPTokenizerFast saves; the ids of the special tokens, the vocabulary, merges and added
// tokens are filled in.
static const char fast_form[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},"
    "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\s+\"},\"content\":\" \"},"
    "{\"type\":\"Lowercase\"}]},"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
    "\"pattern\":{\"Regex\":\"'s|'t|'re|'ve|'m|'ll|'d|[\\\\p{L}]+|[\\\\p{N}]|"
    "[^\\\\s\\\\p{L}\\\\p{N}]+\"},\"behavior\":\"Removed\",\"invert\":true},"
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"
    "\"use_regex\":true}]},"
    "\"post_processor\":{\"type\":\"RobertaProcessing\",\"sep\":[\"<|endoftext|>\",%d],"
    "\"cls\":[\"<|startoftext|>\",%d],\"trim_offsets\":false,\"add_prefix_space\":false},"
    "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,"
    "\"use_regex\":true},"
    "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":\"<|endoftext|>\","
    "\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"</w>\",\"fuse_unk\":false,"
    "\"byte_fallback\":false,\"ignore_merges\":false,\"vocab\":{},\"merges\":[]}}";

static const char config_form[] =
    "{\"add_prefix_space\":false,\"added_tokens_decoder\":{},\"bos_token\":\"<|startoftext|>\","
    "\"clean_up_tokenization_spaces\":false,\"do_lower_case\":true,"
    "\"eos_token\":\"<|endoftext|>\",\"errors\":\"replace\",\"model_max_length\":%d,"
    "\"pad_token\":\"<|endoftext|>\",\"tokenizer_class\":\"CLIPTokenizer\","
    "\"unk_token\":\"<|endoftext|>\"}";

// Flags of a special token in the map.
#define FLAGS "\"lstrip\":false,\"normalized\":false,\"rstrip\":false,\"single_word\":false}"

static const char map_form[] =
    "{\"bos_token\":{\"content\":\"<|startoftext|>\"," FLAGS
    ",\"eos_token\":{\"content\":\"<|endoftext|>\"," FLAGS ",\"pad_token\":\"<|endoftext|>\","
    "\"unk_token\":{\"content\":\"<|endoftext|>\"," FLAGS "}";

struct writer {
    const struct vocab *v;
    const char *folder;
    int context;
    struct vocab_token *tokens; // by id, the special ones under Hugging Face's names
    size_t n;
    struct vocab_added *added; // by id, the special ones among them
    size_t n_added;
};

static int by_id(const void *a, const void *b)
{
    const struct vocab_token *x = a, *y = b;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    int c = memcmp(x->text, y->text, x->n < y->n ? x->n : y->n);
    return c ? c : x->n < y->n ? -1 : x->n > y->n;
}

static int added_by_id(const void *a, const void *b)
{
    const struct vocab_added *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static bool is_special(const struct vocab_token *t)
{
    for (int i = 0; i < VOCAB_SPECIALS; i++)
        for (int k = 0; k < 2; k++) {
            const char *name = vocab_special_names[i][k];
            if (t->n == strlen(name) && memcmp(t->text, name, t->n) == 0)
                return true;
        }
    return false;
}

static int collect(struct writer *w, struct err *e)
{
    const struct vocab *v = w->v;
    w->tokens = mem_alloc(v->n_tokens + VOCAB_SPECIALS, sizeof *w->tokens, e);
    w->added = mem_alloc(v->n_added + VOCAB_SPECIALS, sizeof *w->added, e);
    if (!w->tokens || !w->added)
        return -1;
    for (size_t i = 0; v->slots && i <= v->mask; i++)
        if (v->slots[i].id >= 0 && !is_special(&v->slots[i]))
            w->tokens[w->n++] = v->slots[i];
    for (size_t i = 0; i < v->n_added; i++)
        w->added[w->n_added++] = v->added[i];
    for (int i = 0; i < VOCAB_SPECIALS; i++) {
        const char *name = vocab_special_names[i][1];
        uint32_t n = (uint32_t)strlen(name);
        int32_t id = vocab_special(v, i);
        if (id < 0)
            return err_set(e, "the vocabulary has no token '%s'", name);
        w->tokens[w->n++] = (struct vocab_token){name, n, id};
        w->added[w->n_added++] =
            (struct vocab_added){.text = name, .n = n, .id = id, .special = true};
    }
    qsort(w->tokens, w->n, sizeof *w->tokens, by_id);
    qsort(w->added, w->n_added, sizeof *w->added, added_by_id);
    return 0;
}

static int write_tree(const struct writer *w, const char *name, cJSON *j, struct err *e)
{
    char *path = path_new(w->folder, name, e);
    int rc = path ? json_write_file(path, j, e) : -1;
    free(path);
    return rc;
}

static int add_vocab(const struct writer *w, cJSON *o, struct err *e)
{
    char text[VOCAB_TOKEN_MAX + 1];
    for (size_t i = 0; i < w->n; i++) {
        memcpy(text, w->tokens[i].text, w->tokens[i].n);
        text[w->tokens[i].n] = '\0';
        if (json_add_i64(o, text, w->tokens[i].id, e))
            return -1;
    }
    return 0;
}

// The token that the vocabulary has for an id.
static const struct vocab_token *token_of(const struct writer *w, int32_t id)
{
    size_t lo = 0, hi = w->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (w->tokens[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return &w->tokens[lo]; // merges have tokens of the vocabulary only
}

enum { MERGE_TEXT = 2 * VOCAB_TOKEN_MAX + 2 };

static void merge_text(const struct writer *w, size_t i, char text[MERGE_TEXT])
{
    const struct bpe_merge *m = &w->v->merges[i];
    const struct vocab_token *l = token_of(w, m->left), *r = token_of(w, m->right);
    snprintf(text, MERGE_TEXT, "%.*s %.*s", (int)l->n, l->text, (int)r->n, r->text);
}

static int write_merges(const struct writer *w, struct err *e)
{
    static const char head[] = "#version: 0.2\n";
    char text[MERGE_TEXT];
    struct out o = {.fd = -1};
    char *path = path_new(w->folder, "merges.txt", e);
    int rc = path && !out_open(&o, path, e) ? out_write(&o, head, sizeof head - 1, e) : -1;
    for (size_t i = 0; i < w->v->n_merges && !rc; i++) {
        merge_text(w, i, text);
        rc = out_write(&o, text, strlen(text), e) || out_write(&o, "\n", 1, e);
    }
    if (!rc)
        rc = out_commit(&o, e);
    out_abort(&o);
    free(path);
    return rc ? -1 : 0;
}

static int add_flags(cJSON *o, const struct vocab_added *a, struct err *e)
{
    char text[VOCAB_TOKEN_MAX + 1];
    memcpy(text, a->text, a->n);
    text[a->n] = '\0';
    return json_add_string(o, "content", text, e) ||
                   json_add_bool(o, "single_word", a->single_word, e) ||
                   json_add_bool(o, "lstrip", false, e) || json_add_bool(o, "rstrip", false, e) ||
                   json_add_bool(o, "normalized", a->normalized, e) ||
                   json_add_bool(o, "special", a->special, e)
               ? -1
               : 0;
}

static cJSON *from_form(const char *text, struct err *e)
{
    return json_parse(text, strlen(text), NULL, e);
}

static int write_vocab(const struct writer *w, struct err *e)
{
    cJSON *j = from_form("{}", e);
    int rc = j && !add_vocab(w, j, e) ? write_tree(w, "vocab.json", j, e) : -1;
    cJSON_Delete(j);
    return rc;
}

static int fill_fast(const struct writer *w, cJSON *j, struct err *e)
{
    char text[MERGE_TEXT];
    cJSON *model = cJSON_GetObjectItemCaseSensitive(j, "model");
    cJSON *merges = cJSON_GetObjectItemCaseSensitive(model, "merges");
    cJSON *added = cJSON_GetObjectItemCaseSensitive(j, "added_tokens");
    if (add_vocab(w, cJSON_GetObjectItemCaseSensitive(model, "vocab"), e))
        return -1;
    for (size_t i = 0; i < w->v->n_merges; i++) {
        merge_text(w, i, text);
        if (json_add_string(merges, NULL, text, e))
            return -1;
    }
    for (size_t i = 0; i < w->n_added; i++) {
        cJSON *o = json_add_object(added, NULL, e);
        if (!o || json_add_i64(o, "id", w->added[i].id, e) || add_flags(o, &w->added[i], e))
            return -1;
    }
    return 0;
}

static int write_fast(const struct writer *w, struct err *e)
{
    char text[sizeof fast_form + 32];
    snprintf(text, sizeof text, fast_form, (int)vocab_special(w->v, VOCAB_EOT),
             (int)vocab_special(w->v, VOCAB_SOT));
    cJSON *j = from_form(text, e);
    int rc = j && !fill_fast(w, j, e) ? write_tree(w, "tokenizer.json", j, e) : -1;
    cJSON_Delete(j);
    return rc;
}

static int fill_config(const struct writer *w, cJSON *j, struct err *e)
{
    cJSON *decoder = cJSON_GetObjectItemCaseSensitive(j, "added_tokens_decoder");
    for (size_t i = 0; i < w->n_added; i++) {
        char id[16];
        snprintf(id, sizeof id, "%" PRId32, w->added[i].id);
        cJSON *o = json_add_object(decoder, id, e);
        if (!o || add_flags(o, &w->added[i], e))
            return -1;
    }
    return 0;
}

static int write_config(const struct writer *w, struct err *e)
{
    char text[sizeof config_form + 16];
    snprintf(text, sizeof text, config_form, w->context);
    cJSON *j = from_form(text, e);
    int rc = j && !fill_config(w, j, e) ? write_tree(w, "tokenizer_config.json", j, e) : -1;
    cJSON_Delete(j);
    return rc;
}

static int write_map(const struct writer *w, struct err *e)
{
    cJSON *j = from_form(map_form, e);
    int rc = j ? write_tree(w, "special_tokens_map.json", j, e) : -1;
    cJSON_Delete(j);
    return rc;
}

int vocab_write_hf(const struct vocab *v, const char *folder, int context, struct err *e)
{
    struct writer w = {.v = v, .folder = folder, .context = context};
    int rc = collect(&w, e) || write_merges(&w, e) || write_vocab(&w, e) || write_fast(&w, e) ||
             write_map(&w, e) || write_config(&w, e);
    free(w.tokens);
    free(w.added);
    return rc ? -1 : 0;
}
