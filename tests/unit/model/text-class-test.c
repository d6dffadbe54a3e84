// SPDX-License-Identifier: Apache-2.0
// CoCa's class token behind the text: what it looks at, and that its embedding follows from nothing
// else.
#include "model/text-class.h"

#include <string.h>

#include "config/config.h"
#include "unit/tap.h"

enum { CONTEXT = 6, TEXTS = 3 };

static const int32_t texts[TEXTS][CONTEXT] = {
    {5, 0, 7, 9, 0, 0}, // padding within the text, too
    {1, 2, 3, 4, 5, 6}, // no padding: the class token looks at itself
    {0, 0, 0, 0, 0, 0},
};

static bool same(const int32_t *a, const int32_t *b, size_t n)
{
    return memcmp(a, b, n * sizeof *a) == 0;
}

int main(void)
{
    struct clip_config c = {.context = CONTEXT, .vocab = 10, .eos_id = -1};
    struct clip_net net = {.model = &c, .cfg = &c.text, .id = CLIP_TEXT};
    int32_t host[6 * TEXTS + 3 + 2 * TEXTS * (CONTEXT + 1)], start[TEXTS + 1], q_row[TEXTS];
    int32_t sel[TEXTS], token[TEXTS * CONTEXT], of[TEXTS + 1], key[TEXTS * (CONTEXT + 1)];
    int32_t one[TEXTS + 1];
    struct clip_tape t = {.net = &net, .n = TEXTS, .host = host, .token = token, .start = start};
    struct dev d;
    struct err e;
    c.text.class_last = true;
    t.q_row = q_row;
    t.sel = sel;
    t.cls = (struct clip_class_rows){.start = of, .key = key, .one_each = one};
    if (dev_open(&d, "cpu", DEV_F32, 1, false, &e)) {
        ok(false, "%s", e.text);
        return tap_done();
    }
    ok(clip_text_length(&c, texts[0]) == 6 && clip_text_length(&c, texts[1]) == 7 &&
           clip_text_length(&c, texts[2]) == 2,
       "rows: up to the last key that is looked at, and the class token's");
    clip_tape_texts(&d, &t, texts[0], false);
    ok(t.rows == 15 && t.cls.tokens == 12 && t.max_len == 6, "rows of tokens, then of classes");
    ok(same(start, (int32_t[]){0, 5, 11, 12}, 4) && same(sel, (int32_t[]){12, 13, 14}, 3) &&
           same(token, (int32_t[]){5, 0, 7, 9, 0, 1, 2, 3, 4, 5, 6, 0}, 12),
       "where they lie");
    ok(same(of, (int32_t[]){0, 4, 11, 12}, 4) && t.cls.max_keys == 7 && t.cls.n_keys == 12,
       "numbers of keys");
    ok(same(key, (int32_t[]){0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 13, 11}, 12),
       "key 0, and those behind tokens that are no padding");
    c.text.pad_id = 5;
    clip_tape_texts(&d, &t, texts[0], true);
    ok(t.rows == 21 && same(of, (int32_t[]){0, 6, 12, 19}, 4) &&
           same(key, (int32_t[]){0, 2, 3, 4, 5, 18}, 6) &&
           same(key + 6, (int32_t[]){6, 7, 8, 9, 10, 19}, 6),
       "another padding, texts run to their end");
    dev_close(&d);
    return tap_done();
}
