// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer-vocab.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include <xxhash.h>

#include "system/lines.h"
#include "base/hash.h"
#include "base/mem.h"

enum { FIRST_SLOTS = 1024, POOL_BLOCK = 1 << 16 };

const char *const vocab_special_names[VOCAB_SPECIALS][2] = {
    {"<start_of_text>", "<|startoftext|>"},
    {"<end_of_text>", "<|endoftext|>"},
};

struct text_key {
    const char *text;
    size_t n;
};

static bool is_token(const void *slot, const void *key)
{
    const struct vocab_token *t = slot;
    const struct text_key *k = key;
    return t->id < 0 || (t->n == k->n && memcmp(t->text, k->text, k->n) == 0);
}

static struct vocab_token *find_slot(const struct vocab *v, const char *text, size_t n)
{
    struct text_key k = {text, n};
    return hash_find(v->slots, sizeof *v->slots, v->mask, XXH3_64bits(text, n), is_token, &k);
}

int32_t vocab_find(const struct vocab *v, const char *text, size_t n)
{
    return v->slots ? find_slot(v, text, n)->id : -1;
}

static int resize(struct vocab *v, size_t size, struct err *e)
{
    struct vocab old = *v;
    v->slots = mem_alloc(size, sizeof *v->slots, e);
    if (!v->slots) {
        v->slots = old.slots;
        return -1;
    }
    v->mask = size - 1;
    for (size_t i = 0; i < size; i++)
        v->slots[i].id = -1;
    for (size_t i = 0; old.slots && i <= old.mask; i++) {
        if (old.slots[i].id >= 0)
            *find_slot(v, old.slots[i].text, old.slots[i].n) = old.slots[i];
    }
    free(old.slots);
    return 0;
}

// Copies a text into the pool's current block, or a new one: the blocks never move.
static const char *keep(struct vocab *v, const char *text, size_t n, struct err *e)
{
    if (n > v->pool_left) {
        if (mem_grow(&v->pools, &v->cap_pools, v->n_pools + 1, sizeof *v->pools, e))
            return NULL;
        char *block = mem_alloc(POOL_BLOCK, 1, e);
        if (!block)
            return NULL;
        v->pools[v->n_pools++] = v->pool = block;
        v->pool_left = POOL_BLOCK;
    }
    char *p = v->pool;
    memcpy(p, text, n);
    v->pool += n;
    v->pool_left -= n;
    return p;
}

int vocab_add(struct vocab *v, const char *text, size_t n, int32_t id, struct err *e)
{
    if (n == 0 || n > VOCAB_TOKEN_MAX)
        return err_set(e, "a token of %zu bytes", n);
    if (id < 0 || id > VOCAB_ID_MAX)
        return err_set(e, "token id %ld out of range", (long)id);
    if (!v->slots && resize(v, FIRST_SLOTS, e))
        return -1;
    if (v->n_tokens > v->mask / 2 && resize(v, (v->mask + 1) * 2, e))
        return -1;
    struct vocab_token *t = find_slot(v, text, n);
    if (t->id < 0) {
        const char *kept = keep(v, text, n, e);
        if (!kept)
            return -1;
        t->text = kept;
        t->n = (uint32_t)n;
        v->n_tokens++;
    }
    t->id = id;
    v->id_max = id > v->id_max ? id : v->id_max;
    return 0;
}

int32_t vocab_special(const struct vocab *v, int which)
{
    const char *const *names = vocab_special_names[which];
    int32_t id = vocab_find(v, names[0], strlen(names[0]));
    return id >= 0 ? id : vocab_find(v, names[1], strlen(names[1]));
}

static bool is_text(const struct vocab_added *t, const char *text)
{
    return t->n == strlen(text) && memcmp(t->text, text, t->n) == 0;
}

static int other_id(const struct vocab_added *t, int32_t id, struct err *e)
{
    return err_set(e, "the added token '%.*s' has the id %ld, elsewhere %ld",
                   (int)(t->n < 60 ? t->n : 60), t->text, (long)t->id, (long)id);
}

// Start or end of a text: 1 if it is one of these and was added, 0 if not.
static int add_special(struct vocab *v, const struct vocab_added *t, struct err *e)
{
    for (int i = 0; i < VOCAB_SPECIALS; i++) {
        if (!is_text(t, vocab_special_names[i][0]) && !is_text(t, vocab_special_names[i][1]))
            continue;
        int32_t id = vocab_special(v, i);
        if (id >= 0 && id != t->id)
            return other_id(t, id, e);
        return vocab_add(v, t->text, t->n, t->id, e) ? -1 : 1;
    }
    return 0;
}

static bool is_own_byte(const struct vocab *v, const struct vocab_added *t)
{
    uint8_t byte;
    return t->special && vocab_bytes(t->text, t->n, &byte, 1) == 1 &&
           vocab_find(v, t->text, t->n) == t->id;
}

int vocab_add_token(struct vocab *v, const struct vocab_added *t, struct err *e)
{
    if (t->n == 0 || t->n > VOCAB_TOKEN_MAX)
        return err_set(e, "an added token of %lu bytes", (unsigned long)t->n);
    if (t->id < 0 || t->id > VOCAB_ID_MAX)
        return err_set(e, "the id %ld of an added token is out of range", (long)t->id);
    int special = add_special(v, t, e);
    if (special || is_own_byte(v, t))
        return special < 0 ? -1 : 0;
    for (size_t i = 0; i < v->n_added; i++) {
        const struct vocab_added *a = &v->added[i];
        if (a->n == t->n && memcmp(a->text, t->text, t->n) == 0)
            return a->id == t->id ? 0 : other_id(t, a->id, e);
    }
    if (v->n_added == VOCAB_ADDED_MAX)
        return err_set(e, "more than %d added tokens", VOCAB_ADDED_MAX);
    if (mem_grow(&v->added, &v->cap_added, v->n_added + 1, sizeof *v->added, e))
        return -1;
    struct vocab_added *to = &v->added[v->n_added];
    *to = *t;
    to->text = keep(v, t->text, t->n, e);
    if (!to->text)
        return -1;
    v->n_added++;
    v->id_max = t->id > v->id_max ? t->id : v->id_max;
    return 0;
}

int vocab_merge(struct vocab *v, const char *left, size_t n_left, const char *right, size_t n_right,
                struct err *e)
{
    char both[VOCAB_TOKEN_MAX];
    if (n_left == 0 || n_right == 0 || n_left > sizeof both || n_right > sizeof both - n_left)
        return err_set(e, "a merge of tokens of %zu and %zu bytes", n_left, n_right);
    memcpy(both, left, n_left);
    memcpy(both + n_left, right, n_right);
    struct bpe_merge m = {vocab_find(v, left, n_left), vocab_find(v, right, n_right),
                          vocab_find(v, both, n_left + n_right)};
    if (m.left < 0 || m.right < 0 || m.merged < 0)
        return err_set(e, "merge '%.*s %.*s': no token '%.*s'", (int)n_left, left, (int)n_right,
                       right,
                       (int)(m.left < 0    ? n_left
                             : m.right < 0 ? n_right
                                           : n_left + n_right),
                       m.left < 0    ? left
                       : m.right < 0 ? right
                                     : both);
    if (mem_grow(&v->merges, &v->cap_merges, v->n_merges + 1, sizeof *v->merges, e))
        return -1;
    v->merges[v->n_merges++] = m;
    return 0;
}

void vocab_release(struct vocab *v)
{
    for (size_t i = 0; i < v->n_pools; i++)
        free(v->pools[i]);
    free(v->pools);
    free(v->slots);
    free(v->merges);
    free(v->added);
    memset(v, 0, sizeof *v);
}

// Bytes that stand for themselves (as Latin-1 characters); the others are U+0100 and following, in
// order.
static bool is_own_character(int32_t c)
{
    return (c >= '!' && c <= '~') || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff);
}

static int32_t byte_character(uint8_t byte)
{
    if (is_own_character(byte))
        return byte;
    int32_t before = 0;
    for (int32_t c = 0; c < byte; c++)
        before += !is_own_character(c);
    return 0x100 + before;
}

size_t vocab_byte_text(uint8_t byte, char out[2])
{
    uint8_t text[4];
    utf8proc_ssize_t k = utf8proc_encode_char(byte_character(byte), text);
    memcpy(out, text, 2);
    return (size_t)k;
}

static int character_byte(int32_t c)
{
    if (is_own_character(c))
        return c;
    for (int b = 0; b < 256 && c >= 0x100 && c < 0x200; b++) {
        if (!is_own_character(b) && c-- == 0x100)
            return b;
    }
    return -1;
}

int vocab_bytes(const char *text, size_t n, uint8_t *bytes, size_t max)
{
    if (n >= 4 && memcmp(text + n - 4, "</w>", 4) == 0)
        n -= 4;
    size_t k = 0;
    for (size_t i = 0; i < n; k++) {
        int32_t c;
        utf8proc_ssize_t used =
            utf8proc_iterate((const uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &c);
        int byte = used > 0 ? character_byte(c) : -1;
        if (byte < 0 || k == max)
            return -1;
        bytes[k] = (uint8_t)byte;
        i += (size_t)used;
    }
    return (int)k;
}

// The next line of data[*at..n), without its end; false at the end of the data.
static bool next_line(const char *data, size_t n, size_t *at, const char **line, size_t *len)
{
    if (*at >= n)
        return false;
    const char *end = memchr(data + *at, '\n', n - *at);
    *line = data + *at;
    *len = end ? (size_t)(end - *line) : n - *at;
    *at += *len + 1;
    if (*len && (*line)[*len - 1] == '\r')
        --*len;
    return true;
}

// Splits "left right"; false if the line has another form.
static bool split_pair(const char *line, size_t len, size_t *n_left, size_t *right)
{
    const char *space = memchr(line, ' ', len);
    if (!space || space == line)
        return false;
    *n_left = (size_t)(space - line);
    *right = *n_left + 1;
    return *right < len && !memchr(line + *right, ' ', len - *right);
}

struct merge_lines {
    size_t at, number; // place in the data, line number
    const char *line;
    size_t len, n_left, right;
};

// Moves on to the next merge, past a first line of comment and empty lines at the end. 1, 0 at the
// end, -1.
static int next_merge(struct merge_lines *m, const char *data, size_t n, struct err *e)
{
    do {
        if (!next_line(data, n, &m->at, &m->line, &m->len))
            return 0;
        m->number++;
    } while (m->len == 0 || (m->number == 1 && memmem(m->line, m->len, "#version", 8)));
    if (!split_pair(m->line, m->len, &m->n_left, &m->right))
        return err_set(e, "line %zu: not two tokens", m->number);
    return 1;
}

int vocab_read_merges(struct vocab *v, const char *data, size_t n, size_t max, struct err *e)
{
    struct merge_lines m = {.at = lines_mark(data, n)};
    int more = 0;
    while (v->n_merges < max && (more = next_merge(&m, data, n, e)) > 0) {
        if (vocab_merge(v, m.line, m.n_left, m.line + m.right, m.len - m.right, e))
            return err_wrap(e, "line %zu", m.number);
    }
    return more < 0 ? -1 : 0;
}

// 256 bytes, then 256 bytes at a word's end: characters that stand for themselves first.
static int add_byte_tokens(struct vocab *v, struct err *e)
{
    int32_t id = 0;
    for (int end = 0; end < 2; end++) {
        for (int b = 0; b < 512; b++) {
            if (is_own_character(b & 0xff) != (b < 256))
                continue;
            char text[8];
            size_t k = vocab_byte_text((uint8_t)b, text);
            memcpy(text + k, "</w>", 4);
            if (vocab_add(v, text, end ? k + 4 : k, id++, e))
                return -1;
        }
    }
    return 0;
}

int vocab_read_openai(struct vocab *v, const char *data, size_t n, struct err *e)
{
    if (n == 0 || !memmem(data, n < 200 ? n : 200, "#version", 8))
        return err_set(e, "no '#version' in the first line: not a list of BPE merges");
    if (add_byte_tokens(v, e))
        return -1;
    struct merge_lines m = {.at = lines_mark(data, n)};
    int32_t id = 512;
    int more = 0;
    while (id < 512 + VOCAB_OPENAI_MERGES && (more = next_merge(&m, data, n, e)) > 0) {
        char both[VOCAB_TOKEN_MAX];
        size_t k = m.len - 1;
        if (k > sizeof both)
            return err_set(e, "line %zu: a token of %zu bytes", m.number, k);
        memcpy(both, m.line, m.n_left);
        memcpy(both + m.n_left, m.line + m.right, k - m.n_left);
        if (vocab_add(v, both, k, id++, e))
            return err_wrap(e, "line %zu", m.number);
    }
    if (more < 0)
        return -1;
    static const char sot[] = "<start_of_text>", eot[] = "<end_of_text>";
    if (vocab_add(v, sot, sizeof sot - 1, id, e) || vocab_add(v, eot, sizeof eot - 1, id + 1, e))
        return -1;
    return vocab_read_merges(v, data, n, (size_t)id - 512, e);
}
