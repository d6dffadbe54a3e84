// SPDX-License-Identifier: Apache-2.0
// Mojibake: UTF-8 that was read as a single-byte encoding ("LÃ©zard" for "Lézard"), detected and
// undone as fix_encoding of ftfy 6.3 does it (R. Speer, ftfy, doi:10.5281/zenodo.2591652).
#ifndef REPAIR_MOJIBAKE_H
#define REPAIR_MOJIBAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "repair/fix.h"

// Repairs t in place, step by step until it no longer looks bad or no step helps. *changed is set
// (never cleared) where something was. 0 or -1.
int text_fix_mojibake(struct text *t, bool *changed, struct err *e);

// Whether some sequence in c[0..n) is far likelier in mojibake than in text (ftfy's is_bad).
bool mojibake_is_bad(const int32_t *c, size_t n);

// What is known of one character. Every one has MOJI_NOT_LATIN, MOJI_NOT_NEWLINE, MOJI_WORD and
// MOJI_SPACE where it applies.
enum mojibake_class {
    MOJI_COMMON,      // in many contexts: dashes, apostrophe, soft hyphen
    MOJI_C1,          // C1 controls
    MOJI_BAD,         // hardly anywhere but in mojibake
    MOJI_LAW,         // pilcrow, section
    MOJI_CURRENCY,    // currency signs
    MOJI_START,       // punctuation at the start of words
    MOJI_END,         // punctuation at their end
    MOJI_NUMERIC,     // mathematics
    MOJI_KAOMOJI,     // letters that are eyes in emoticons
    MOJI_UPPER_ACC,   // accented capitals
    MOJI_LOWER_ACC,   // accented small letters
    MOJI_UPPER_PLAIN, // Greek and Cyrillic capitals, thorn
    MOJI_LOWER_PLAIN, // Greek and Cyrillic small letters
    MOJI_BOX,         // box drawing
    MOJI_A_Z,         // a-z
    MOJI_CAP_A_Z,     // A-Z
    MOJI_SPACE,       // white space
    MOJI_BLANK,       // U+0020
    MOJI_STOP,        // . , ? !
    MOJI_WORD,        // letters, numbers, _
    MOJI_NOT_LATIN,   // all but A-Z and a-z
    MOJI_NOT_NEWLINE, // all but U+000A
    // Sets of single characters that some rule names.
    MOJI_OE,
    MOJI_DEGREE,
    MOJI_LEAD_1252,
    MOJI_NEXT_1252,
    MOJI_TIMES,
    MOJI_SUPERSCRIPT,
    MOJI_ARABIC,
    MOJI_ARABIC_NEXT,
    MOJI_A_GRAVE,
    MOJI_A_GRAVE_NEXT,
    MOJI_ROOT,
    MOJI_ROOT_NEXT,
    MOJI_ALMOST,
    MOJI_ALMOST_NEXT,
    MOJI_LOW_9,
    MOJI_A_UMLAUT,
    MOJI_A_UMLAUT_NEXT,
    MOJI_A_CIRCUMFLEX_O,
    MOJI_A_CIRCUMFLEX_O_NEXT,
    MOJI_SMALL_VE,
    MOJI_DJE,
    MOJI_CYRILLIC,
    MOJI_DEGREE_MU,
    MOJI_GHE,
    MOJI_SHORT_U,
    MOJI_VE,
    MOJI_A_TILDE,
    MOJI_A_TILDE_NEXT,
    MOJI_A_TILDE_CIRC,
    MOJI_A_CIRC,
    MOJI_BETA,
    MOJI_EURO,
    MOJI_BETA_NEXT,
    MOJI_GREEK,
    MOJI_A_MACRON,
    MOJI_CLASSES
};

// Where a character stands in UTF-8 that was read as one of the encodings.
enum mojibake_clue {
    CLUE_FIRST_OF_2 = 1,
    CLUE_FIRST_OF_3 = 2,
    CLUE_FIRST_OF_4 = 4,
    CLUE_NEXT = 8,         // a continuation byte
    CLUE_NEXT_STRICT = 16, // one that seldom stands for itself
};

// Encodings in the order in which they are tried.
enum { MOJI_LATIN_1, MOJI_MACROMAN = 8, MOJI_ENCODINGS = 10 };

struct mojibake_char {
    uint64_t classes; // bit 1 << enum mojibake_class
    uint8_t clues;
    uint8_t byte[MOJI_ENCODINGS]; // the character in each encoding, 0 = not there
};

// Never NULL. Thread-safe.
const struct mojibake_char *mojibake_char(int32_t c);
// Classes of c, those of any character included.
uint64_t mojibake_classes(int32_t c);
// windows-*: bytes without meaning stand for themselves, and U+FFFD for byte 0x1a.
bool mojibake_is_sloppy(int encoding);

#endif
