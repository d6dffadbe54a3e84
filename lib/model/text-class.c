// SPDX-License-Identifier: Apache-2.0
#include "model/text-class.h"

// Whether the class token looks at key j.
static bool seen(const struct clip_config *c, const int32_t *tokens, int j)
{
    return j == 0 || tokens[j - 1] != c->text.pad_id;
}

size_t clip_class_tokens(const struct clip_config *c, const int32_t *tokens)
{
    int last = c->context - 1;
    while (last > 0 && !seen(c, tokens, last))
        last--;
    return (size_t)last + 1;
}

// Writes the rows of keys that class token i attends to into key; returns their number. `at`: the
// text's first row.
static size_t list_keys(const struct clip_config *c, const int32_t *tokens, size_t len, size_t at,
                        size_t class_row, int32_t *key)
{
    size_t n = 0;
    for (size_t j = 0; j < len; j++)
        if (seen(c, tokens, (int)j))
            key[n++] = (int32_t)(at + j);
    if (seen(c, tokens, c->context))
        key[n++] = (int32_t)class_row;
    return n;
}

// Writes the rows of tokens (start and ids); the longest text's length into t->max_len.
static void lay_tokens(const struct clip_config *c, struct clip_tape *t, const int32_t *tokens,
                       bool whole, int32_t *start, int32_t *flat)
{
    size_t context = (size_t)c->context, at = 0;
    t->max_len = 1;
    for (size_t i = 0; i < t->n; i++) {
        const int32_t *row = tokens + i * context;
        size_t len = whole ? context : clip_class_tokens(c, row);
        start[i] = (int32_t)at;
        for (size_t j = 0; j < len; j++)
            flat[at++] = row[j];
        t->max_len = len > t->max_len ? len : t->max_len;
    }
    start[t->n] = (int32_t)at;
    t->cls.tokens = at;
    t->rows = at + t->n;
}

void clip_class_texts(struct dev *d, struct clip_tape *t, const int32_t *tokens, bool whole)
{
    const struct clip_config *c = t->net->model;
    struct clip_class_rows *r = &t->cls;
    size_t n = t->n, keys = 0, item = sizeof *t->host;
    int32_t *start = t->host, *sel = start + n + 1, *one = sel + n, *zero = one + n + 1;
    int32_t *key_start = zero + n, *flat = key_start + n + 1, *key;
    lay_tokens(c, t, tokens, whole, start, flat);
    key = flat + r->tokens;
    r->max_keys = 1;
    for (size_t i = 0; i < n; i++) {
        size_t len = (size_t)(start[i + 1] - start[i]), row = r->tokens + i;
        size_t more =
            list_keys(c, tokens + i * (size_t)c->context, len, (size_t)start[i], row, key + keys);
        key_start[i] = (int32_t)keys;
        sel[i] = (int32_t)row;
        one[i] = (int32_t)i;
        zero[i] = 0;
        keys += more;
        r->max_keys = more > r->max_keys ? more : r->max_keys;
    }
    key_start[n] = (int32_t)keys;
    r->n_keys = keys;
    one[n] = (int32_t)n;
    d->op->upload(d, t->start, start, (n + 1) * item);
    d->op->upload(d, t->sel, sel, n * item);
    d->op->upload(d, t->q_row, zero, n * item);
    d->op->upload(d, r->one_each, one, (n + 1) * item);
    d->op->upload(d, r->start, key_start, (n + 1) * item);
    d->op->upload(d, r->key, key, keys * item);
    d->op->upload(d, t->token, flat, r->tokens * item);
}

// A sequence of one token each, with number 0 in a table of one row, at the last position.
void clip_class_embed(struct dev *d, struct clip_tape *t)
{
    const struct clip_params *p = &t->net->once;
    size_t W = (size_t)t->net->cfg->width, last = (size_t)t->net->model->context;
    struct dev_ragged r = {t->n, 1, t->cls.one_each};
    d->op->embed(d, &r, W, t->q_row, p->v[CLIP_K_CLASS], p->v[CLIP_K_POS] + last * W,
                 t->x[0] + t->cls.tokens * W);
}

static void *act_at(const struct dev *d, const void *p, size_t at)
{
    return (char *)p + at * d->act_size;
}

void clip_class_attention(struct dev *d, struct clip_tape *t, const struct dev_attention *a)
{
    const struct clip_class_rows *r = &t->cls;
    size_t W = a->heads * a->head_dim;
    struct dev_attention of = *a;
    if (!a->last_only)
        d->op->attention(d, a);
    // Keys and values are side by side.
    d->op->gather_act(d, r->n_keys, 2 * W, a->k, a->kv_ld, r->key, r->kv);
    of.causal = false;
    of.last_only = true;
    of.q_row = t->q_row; // of no effect
    of.kv = (struct dev_ragged){t->n, r->max_keys, r->start};
    of.k = r->kv;
    of.v = act_at(d, r->kv, W);
    of.kv_ld = 2 * W;
    if (!a->last_only) {
        of.q = act_at(d, a->q, r->tokens * a->q_ld);
        of.out = act_at(d, a->out, r->tokens * a->out_ld);
    }
    d->op->attention(d, &of);
}
