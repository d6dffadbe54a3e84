// SPDX-License-Identifier: Apache-2.0
// A caption as CLIP's tokenizer sees it: basic_clean, whitespace_clean and lower of open_clip's
// SimpleTokenizer, that is
//     ftfy.fix_text(text)              ftfy 6.3, see below
//     html.unescape, twice             html-entities.h
//     runs of white space -> one space, none at either end
//     str.lower()                      with final sigma, and dotted capital I as two characters
//
// ftfy's repairs, in its order, on each line, again until nothing changes (at most TEXT_ROUNDS
// times, so that nesting cannot cost quadratic time): HTML references where no '<' was seen;
// mojibake (repair/mojibake.h); C1 controls read as windows-1252; Latin ligatures; full-width and
// half-width forms; curly quotes; line breaks; terminal escapes; control characters; NFC.
//
// Where it may differ from Python: lone surrogates cannot come up, as the input must be UTF-8;
// character data is utf8proc's Unicode version (15.0 in Debian 12), not that of the Python used;
// references nested deeper than TEXT_ROUNDS are not resolved to the end.
#ifndef REPAIR_CLEAN_H
#define REPAIR_CLEAN_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { TEXT_ROUNDS = 64 };

enum text_status {
    TEXT_OK = 0,
    TEXT_BAD_UTF8 = 1, // the input is at fault: e says at which byte
    TEXT_ERROR = -1,   // out of memory: e is set
};

// What tokenizers do to a caption before they cut it.
enum text_form {
    TEXT_LOWER,      // CLIP's: as above
    TEXT_WHITESPACE, // the same without lower()
    TEXT_CANONICAL, // open_clip's canonicalize: after ftfy and references '_' becomes a space, ASCII
                    // punctuation goes, lower(), runs of white space become one space
    TEXT_RAW,       // as it is
    TEXT_SIGLIP,    // SiglipTokenizer's: lower(), ASCII punctuation ('_' too) goes, runs of white
                    // space become one space; no ftfy
    TEXT_LOWER_EACH, // Siglip2Tokenizer's: each character's lower case by itself, the rest kept
};

struct text_bytes {
    uint8_t *data; // cleaned UTF-8, no NUL at its end; kept between calls
    size_t n, cap;
};

// Cleans text[0..len) into *out, replacing what was there.
enum text_status text_clean(const char *text, size_t len, struct text_bytes *out, struct err *e);
enum text_status text_clean_as(enum text_form form, const char *text, size_t len,
                               struct text_bytes *out, struct err *e);
void text_bytes_release(struct text_bytes *b);

#endif
