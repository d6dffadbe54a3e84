// SPDX-License-Identifier: Apache-2.0
// ftfy's badness heuristic, as rules over character classes.
#include "repair/mojibake.h"

enum { RULE_MAX = 7 };

#define BIT(name) (UINT64_C(1) << MOJI_##name)
#define ACCENTED (BIT(UPPER_ACC) | BIT(LOWER_ACC))
#define PUNCTUATION (BIT(START) | BIT(END))
#define ODD (ACCENTED | PUNCTUATION | BIT(BOX) | BIT(CURRENCY) | BIT(NUMERIC) | BIT(LAW))
#define AFTER_ARABIC                                                                               \
    (BIT(COMMON) | BIT(CURRENCY) | BIT(BAD) | BIT(NUMERIC) | BIT(START) | BIT(ARABIC_NEXT))
#define BETWEEN (BIT(C1) | BIT(BAD) | PUNCTUATION | BIT(CURRENCY))

// A sequence is bad if its characters are, one by one, of the classes of a rule.
struct rule {
    uint64_t at[RULE_MAX]; // 0 ends a shorter one
};

static const struct rule rules[] = {
    {{BIT(C1)}},
    {{ODD | BIT(BAD), BIT(BAD)}},
    {{BIT(A_Z) | BIT(CAP_A_Z), BIT(LOWER_PLAIN) | BIT(UPPER_PLAIN), BIT(BAD)}},
    {{BIT(BAD), ODD}},
    {{BIT(LOWER_ACC) | BIT(LOWER_PLAIN) | BIT(BOX) | BIT(END) | BIT(CURRENCY) | BIT(NUMERIC),
      BIT(UPPER_ACC)}},
    {{BIT(BOX) | BIT(END) | BIT(CURRENCY) | BIT(NUMERIC), BIT(LOWER_ACC)}},
    {{BIT(LOWER_ACC) | BIT(BOX) | BIT(END), BIT(CURRENCY)}},
    {{BIT(SPACE), BIT(UPPER_ACC), BIT(CURRENCY)}},
    {{BIT(UPPER_ACC) | BIT(BOX), BIT(NUMERIC) | BIT(LAW)}},
    {{ACCENTED | BIT(BOX) | BIT(CURRENCY) | BIT(END), BIT(START), BIT(NUMERIC)}},
    {{ACCENTED | BIT(CURRENCY) | BIT(NUMERIC) | BIT(BOX) | BIT(LAW), BIT(END), BIT(START)}},
    {{BIT(CURRENCY) | BIT(NUMERIC) | BIT(BOX), BIT(START)}},
    {{BIT(A_Z), BIT(UPPER_ACC), BIT(START) | BIT(CURRENCY)}},
    {{BIT(BOX), BIT(KAOMOJI)}},
    {{ACCENTED | BIT(CURRENCY) | BIT(NUMERIC) | PUNCTUATION | BIT(LAW), BIT(BOX)}},
    {{BIT(BOX), BIT(END)}},
    {{ACCENTED, PUNCTUATION, BIT(WORD)}},
    {{BIT(OE), BIT(NOT_LATIN)}},
    {{BIT(UPPER_ACC), BIT(DEGREE)}},
    // windows-1252
    {{BIT(LEAD_1252), BIT(NEXT_1252) | PUNCTUATION}},
    {{BIT(TIMES), BIT(SUPERSCRIPT)}},
    {{BIT(ARABIC), AFTER_ARABIC, BIT(ARABIC), AFTER_ARABIC}},
    {{BIT(A_GRAVE), BIT(A_GRAVE_NEXT)}},
    // MacRoman
    {{BIT(ROOT), BIT(ROOT_NEXT)}},
    {{BIT(ALMOST), BIT(ALMOST_NEXT)}},
    {{BIT(LOW_9), BIT(A_UMLAUT), BIT(A_UMLAUT_NEXT)}},
    {{BIT(LOW_9), BIT(A_CIRCUMFLEX_O), BIT(A_CIRCUMFLEX_O_NEXT)}},
    // windows-1251, and on top of Latin-1 on top of windows-1252
    {{BIT(SMALL_VE), BIT(DJE)}},
    {{BIT(CYRILLIC), BETWEEN | BIT(DEGREE_MU), BIT(CYRILLIC)}},
    {{BIT(GHE), BIT(SHORT_U), BIT(VE), BIT(DJE), BIT(VE), BIT(NOT_NEWLINE),
      BIT(A_Z) | BIT(CAP_A_Z) | BIT(BLANK)}},
    // windows-1252 of a with grave or acute, of a no-break space, of a character as itself
    {{BIT(A_TILDE), BIT(A_TILDE_NEXT)}},
    {{BIT(A_Z), BIT(A_TILDE_CIRC), BIT(BLANK)}},
    {{BIT(A_Z), BIT(SPACE), BIT(A_TILDE_CIRC), BIT(BLANK)}},
    {{BIT(A_Z) | BIT(STOP) | BIT(END), BIT(A_CIRC), BIT(BLANK) | PUNCTUATION}},
    // windows-1253
    {{BIT(BETA), BIT(EURO), BIT(BETA_NEXT)}},
    {{BIT(GREEK), BETWEEN | BIT(DEGREE), BIT(GREEK)}},
    // windows-1257
    {{BIT(A_MACRON), BIT(EURO)}},
};

enum { RULES = sizeof rules / sizeof *rules };

// Classes that only listed characters have: every rule has one in its first two places or, after
// a letter and a space, in its third.
#define LISTED                                                                                     \
    (~(BIT(A_Z) | BIT(CAP_A_Z) | BIT(SPACE) | BIT(BLANK) | BIT(STOP) | BIT(WORD) |                 \
       BIT(NOT_LATIN) | BIT(NOT_NEWLINE)))

static bool rule_matches(const struct rule *r, const uint64_t *window, size_t n)
{
    for (size_t k = 0; k < RULE_MAX && r->at[k]; k++) {
        if (k >= n || !(window[k] & r->at[k]))
            return false;
    }
    return true;
}

bool mojibake_is_bad(const int32_t *c, size_t n)
{
    uint64_t window[RULE_MAX] = {0}; // classes of c[i], c[i + 1] ...
    for (size_t k = 0; k < RULE_MAX && k < n; k++)
        window[k] = mojibake_classes(c[k]);
    // At the very start a lone capital A with tilde or circumflex is bad without a word before it.
    if (n >= 2 && (window[0] & BIT(A_TILDE_CIRC)) && (window[1] & BIT(BLANK)))
        return true;
    for (size_t i = 0; i < n; i++) {
        bool worth = ((window[0] | window[1] | window[2]) & LISTED) != 0;
        for (size_t k = 0; worth && k < RULES; k++) {
            if (rule_matches(&rules[k], window, n - i))
                return true;
        }
        for (size_t k = 0; k + 1 < RULE_MAX; k++)
            window[k] = window[k + 1];
        window[RULE_MAX - 1] = i + RULE_MAX < n ? mojibake_classes(c[i + RULE_MAX]) : 0;
    }
    return false;
}
