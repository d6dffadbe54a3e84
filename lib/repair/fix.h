// SPDX-License-Identifier: Apache-2.0
// The single repairs of repair/clean.h, on code points.
#ifndef REPAIR_FIX_H
#define REPAIR_FIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct text {
    int32_t *c; // code points, valid Unicode scalar values
    size_t n, cap;
};

int text_reserve(struct text *t, size_t need, struct err *e);
int text_append(struct text *t, const int32_t *c, size_t n, struct err *e);
void text_release(struct text *t);

// White space of Unicode (White_Space), as \s of Python's regex module; text_is_space adds
// U+001C-001F, as str.strip has it.
bool text_is_white(int32_t c);
bool text_is_space(int32_t c);

// In place; *changed is set (never cleared) where something was.
void text_fix_c1(struct text *t, bool *changed);
void text_fix_quotes(struct text *t, bool *changed);
void text_fix_line_breaks(struct text *t, bool *changed);
void text_remove_escapes(struct text *t, bool *changed);
void text_remove_controls(struct text *t, bool *changed);
// Latin ligatures, then full-width and half-width forms; uses `tmp`. 0 or -1.
int text_expand(struct text *t, struct text *tmp, bool *changed, struct err *e);
// Unicode NFC; uses `tmp`. 0 or -1.
int text_nfc(struct text *t, struct text *tmp, bool *changed, struct err *e);
// str.lower() of Python; uses `tmp`. 0 or -1.
int text_lower(struct text *t, struct text *tmp, struct err *e);

#endif
