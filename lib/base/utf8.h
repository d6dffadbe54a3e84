// SPDX-License-Identifier: Apache-2.0
// UTF-8 (Unicode, table 3-7), by utf8proc. The only place that decides what is valid UTF-8.
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

// Bytes of the character that begins at p, of n bytes; 0 where they begin no valid sequence, and
// where n is 0. *c (may be NULL): its code point.
size_t utf8_next(const void *p, size_t n, int32_t *c);
// Where the first sequence that is not valid begins; n where all are.
size_t utf8_valid_up_to(const void *p, size_t n);

#endif
