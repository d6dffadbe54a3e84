// SPDX-License-Identifier: Apache-2.0
#include "text/bpe.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/hash.h"
#include "base/mem.h"

#define NO_PAIR UINT64_MAX // no pair of ids: they are not negative
#define NO_RANK UINT32_MAX

struct bpe_pair {
    uint64_t key; // left << 32 | right
    uint32_t rank;
    int32_t merged;
};

struct bpe_entry {
    uint32_t hash, n; // n = 0: empty
    size_t at;        // in the pool
    int32_t id;
};

static uint64_t pair_key(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static size_t pair_slot(uint64_t key)
{
    return (size_t)((key * 0x9e3779b97f4a7c15u) >> 24);
}

static bool is_pair(const void *slot, const void *key)
{
    const struct bpe_pair *p = slot;
    return p->key == *(const uint64_t *)key || p->key == NO_PAIR;
}

// Returns the pair's entry, or the empty one where it would be.
static struct bpe_pair *find_pair(const struct bpe *b, uint64_t key)
{
    return hash_find(b->pairs, sizeof *b->pairs, b->pair_mask, pair_slot(key), is_pair, &key);
}

static uint32_t pair_rank(const struct bpe *b, int32_t left, int32_t right)
{
    return find_pair(b, pair_key(left, right))->rank;
}

struct word_key {
    const struct bpe *b;
    const uint8_t *word;
    size_t n;
    uint32_t hash;
};

static bool is_word(const void *slot, const void *key)
{
    const struct bpe_entry *w = slot;
    const struct word_key *k = key;
    return !w->n ||
           (w->hash == k->hash && w->n == k->n && memcmp(k->b->pool + w->at, k->word, k->n) == 0);
}

static struct bpe_entry *find_word(const struct bpe *b, const uint8_t *word, size_t n)
{
    struct word_key k = {b, word, n, (uint32_t)XXH3_64bits(word, n)};
    return hash_find(b->words, sizeof *b->words, b->word_mask, k.hash, is_word, &k);
}

static void first_symbols(const struct bpe *b, const uint8_t *word, size_t n, int32_t *id)
{
    for (size_t i = 0; i + 1 < n; i++)
        id[i] = b->byte_id[word[i]];
    id[n - 1] = b->last_id[word[n - 1]];
}

// Merges as the reference does: every occurrence of the best pair from left to right, then the next
// best pair. rank[i] is the rank of (id[i], id[i + 1]).
static size_t merge_short(const struct bpe *b, int32_t *id, size_t n)
{
    uint32_t rank[BPE_SHORT];
    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = pair_rank(b, id[i], id[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            best = rank[i] < rank[best] ? i : best;
        if (rank[best] == NO_RANK)
            break;
        int32_t left = id[best], right = id[best + 1];
        int32_t merged = find_pair(b, pair_key(left, right))->merged;
        size_t w = best;
        for (size_t r = best; r < n; w++) {
            bool hit = r + 1 < n && id[r] == left && id[r + 1] == right;
            id[w] = hit ? merged : id[r];
            r += hit ? 2 : 1;
        }
        n = w;
        for (size_t i = best ? best - 1 : 0; i + 1 < n; i++)
            rank[i] = pair_rank(b, id[i], id[i + 1]);
    }
    return n;
}

struct candidate {
    uint64_t order; // rank << 32 | position: the best, then the leftmost, first
    int32_t left, right;
};

struct heap {
    struct candidate *c;
    size_t n;
};

static void heap_push(struct heap *h, struct candidate x)
{
    size_t i = h->n++;
    while (i && h->c[(i - 1) / 2].order > x.order) {
        h->c[i] = h->c[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h->c[i] = x;
}

static struct candidate heap_pop(struct heap *h)
{
    struct candidate top = h->c[0], x = h->c[--h->n];
    size_t i = 0;
    for (size_t k = 1; k < h->n; k = 2 * i + 1) {
        k += k + 1 < h->n && h->c[k + 1].order < h->c[k].order;
        if (h->c[k].order >= x.order)
            break;
        h->c[i] = h->c[k];
        i = k;
    }
    if (h->n)
        h->c[i] = x;
    return top;
}

// A word being merged, as a linked list over the places of its bytes.
struct chain {
    int32_t *id; // -1 = merged into an earlier place
    uint32_t *prev, *next;
    size_t n;
};

static void propose(const struct bpe *b, const struct chain *ch, struct heap *h, size_t at)
{
    size_t next = ch->next[at];
    if (next >= ch->n)
        return;
    uint32_t rank = pair_rank(b, ch->id[at], ch->id[next]);
    if (rank != NO_RANK)
        heap_push(h, (struct candidate){(uint64_t)rank << 32 | at, ch->id[at], ch->id[next]});
}

static void merge_at(const struct bpe *b, struct chain *ch, struct heap *h, struct candidate x)
{
    size_t at = (uint32_t)x.order, next = ch->next[at];
    if (ch->id[at] != x.left || next >= ch->n || ch->id[next] != x.right)
        return; // one of the two has been merged since
    ch->id[at] = find_pair(b, pair_key(x.left, x.right))->merged;
    ch->id[next] = -1;
    ch->next[at] = ch->next[next];
    if (ch->next[at] < ch->n)
        ch->prev[ch->next[at]] = (uint32_t)at;
    if (at)
        propose(b, ch, h, ch->prev[at]);
    propose(b, ch, h, at);
}

static void merge_chain(const struct bpe *b, struct chain *ch, struct heap *h)
{
    for (size_t i = 0; i < ch->n; i++) {
        ch->prev[i] = (uint32_t)(i - (i > 0));
        ch->next[i] = (uint32_t)(i + 1);
    }
    for (size_t i = 0; i + 1 < ch->n; i++)
        propose(b, ch, h, i);
    while (h->n)
        merge_at(b, ch, h, heap_pop(h));
}

// Takes n log n time, for the long words that only hostile captions have. There are fewer than n
// merges, each of which proposes two, and n proposals at the start: the heap never holds more than
// 3 n.
static int encode_long(const struct bpe *b, const uint8_t *word, size_t n, int32_t *out, size_t max,
                       size_t *used, struct err *e)
{
    size_t slots;
    if (n > UINT32_MAX / 2 || !mem_mul(n, 3, &slots))
        return err_set(e, "a word of %zu bytes is too long", n);
    struct chain ch = {.n = n};
    struct heap h = {.c = mem_alloc(slots, sizeof *h.c, e)};
    ch.id = h.c ? mem_alloc(n, sizeof *ch.id, e) : NULL;
    ch.prev = ch.id ? mem_alloc(n, sizeof *ch.prev, e) : NULL;
    ch.next = ch.prev ? mem_alloc(n, sizeof *ch.next, e) : NULL;
    int status = ch.next ? 0 : -1;
    if (!status) {
        first_symbols(b, word, n, ch.id);
        merge_chain(b, &ch, &h);
        *used = 0;
        for (size_t i = 0; i < n && *used < max; i = ch.next[i])
            out[(*used)++] = ch.id[i];
    }
    free(h.c);
    free(ch.id);
    free(ch.prev);
    free(ch.next);
    return status;
}

static size_t encode_short(const struct bpe *b, const uint8_t *word, size_t n, int32_t *out,
                           size_t max)
{
    int32_t id[BPE_SHORT];
    first_symbols(b, word, n, id);
    size_t k = merge_short(b, id, n);
    k = k < max ? k : max;
    memcpy(out, id, k * sizeof *id);
    return k;
}

int bpe_encode(const struct bpe *b, const uint8_t *word, size_t n, int32_t *out, size_t max,
               size_t *used, struct err *e)
{
    *used = 0;
    if (n == 0 || max == 0)
        return 0;
    const struct bpe_entry *w = find_word(b, word, n);
    if (w->n) {
        *used = 1;
        out[0] = w->id;
        return 0;
    }
    if (n > BPE_SHORT)
        return encode_long(b, word, n, out, max, used, e);
    *used = encode_short(b, word, n, out, max);
    return 0;
}

static int build_pairs(struct bpe *b, const struct bpe_merge *merges, size_t n, struct err *e)
{
    size_t size = hash_slots(n);
    b->pairs = mem_alloc(size, sizeof *b->pairs, e);
    if (!b->pairs)
        return -1;
    b->pair_mask = size - 1;
    for (size_t i = 0; i < size; i++)
        b->pairs[i] = (struct bpe_pair){NO_PAIR, NO_RANK, -1};
    for (size_t i = 0; i < n; i++) {
        uint64_t key = pair_key(merges[i].left, merges[i].right);
        *find_pair(b, key) = (struct bpe_pair){key, (uint32_t)i, merges[i].merged};
    }
    return 0;
}

static void add_word(struct bpe *b, const struct bpe_word *w, size_t *pool_used)
{
    int32_t id[2];
    if (!w->n || w->n > BPE_SHORT || encode_short(b, w->bytes, w->n, id, 2) != 1 || id[0] != w->id)
        return;
    struct bpe_entry *slot = find_word(b, w->bytes, w->n);
    if (slot->n)
        return;
    memcpy(b->pool + *pool_used, w->bytes, w->n);
    *slot = (struct bpe_entry){(uint32_t)XXH3_64bits(w->bytes, w->n), (uint32_t)w->n, *pool_used,
                               w->id};
    *pool_used += w->n;
}

static int build_words(struct bpe *b, const struct bpe_word *words, size_t n, struct err *e)
{
    size_t size = hash_slots(n), bytes = 0, used = 0;
    for (size_t i = 0; i < n; i++) {
        if (!mem_add(bytes, words[i].n, &bytes))
            return err_set(e, "vocabulary too large");
    }
    b->words = mem_alloc(size, sizeof *b->words, e);
    b->pool = b->words ? mem_alloc(bytes, 1, e) : NULL;
    if (!b->pool)
        return -1;
    b->word_mask = size - 1;
    for (size_t i = 0; i < n; i++)
        add_word(b, &words[i], &used);
    return 0;
}

int bpe_init(struct bpe *b, const struct bpe_merge *merges, size_t n_merges,
             const struct bpe_word *words, size_t n_words, struct err *e)
{
    b->pairs = NULL;
    b->words = NULL;
    b->pool = NULL;
    if (build_pairs(b, merges, n_merges, e) || build_words(b, words, n_words, e)) {
        bpe_release(b);
        return -1;
    }
    return 0;
}

void bpe_release(struct bpe *b)
{
    free(b->pairs);
    free(b->words);
    free(b->pool);
    memset(b, 0, sizeof *b);
}
