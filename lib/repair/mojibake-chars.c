// SPDX-License-Identifier: Apache-2.0
// The characters that mojibake is made of: their classes and clues are ftfy's (badness.py,
// chardata.py; Apache-2.0), the encodings those of the Unicode Consortium's mapping tables.
#include "repair/mojibake.h"

#include <pthread.h>
#include <string.h>
#include <uchar.h>
#include <utf8proc.h>

struct char_set {
    int which;
    const char32_t *chars; // a-b = all from a to b
};

// clang-format off
static const struct char_set class_sets[] = {
    {MOJI_COMMON, U"\u00a0\u00ad·´–—―…’"},
    {MOJI_C1, U"\200-\237"},
    {MOJI_BAD, U"¦¤¨¬¯¸ƒˆˇ˘˛˜†‡‰⌐◊\ufffdªº"},
    {MOJI_LAW, U"¶§"},
    {MOJI_CURRENCY, U"¢£¥₧€"},
    {MOJI_START, U"¡«¿©΄΅‘‚“„•‹\uf8ff"},
    {MOJI_END, U"®»˝”›™"},
    {MOJI_NUMERIC, U"²³¹±¼½¾×µ÷⁄∂∆∏∑√∞∩∫≈≠≡≤≥№"},
    {MOJI_KAOMOJI, U"Ò-ÖÙ-Üò-öø-üŐŌŪŲ°"},
    {MOJI_UPPER_ACC, U"À-ÑØÜÝĂĀĄĆČĎĐĘĚĒĖĞĢİĪĶĹĽŁĻŃŇŅŒŘŚŞŠŢŤŮŰŸŹŻŽҐ"},
    {MOJI_LOWER_ACC, U"ßà-ñăąāćčďđęěēėğģįīķĺľłļœŕśşšťüźżžґﬁﬂ"},
    {MOJI_UPPER_PLAIN, U"ÞΑ-ΩΆΈΉΊΌΎΏΪΫЁ-Я"},
    {MOJI_LOWER_PLAIN, U"α-ωάέήίΰа-џ"},
    {MOJI_BOX, U"│┌┐┘├┤┬┼═-╬▀▄█▌▐░▒▓"},
    {MOJI_OE, U"Œœ"},
    {MOJI_DEGREE, U"°"},
    {MOJI_LEAD_1252, U"ÂÃÎÐ"},
    {MOJI_NEXT_1252, U"€œŠš¢£Ÿž\u00a0\u00ad®©°·»–—´"},
    {MOJI_TIMES, U"×"},
    {MOJI_SUPERSCRIPT, U"²³"},
    {MOJI_ARABIC, U"ØÙ"},
    {MOJI_ARABIC_NEXT, U"ŸŠ®°µ»"},
    {MOJI_A_GRAVE, U"à"},
    {MOJI_A_GRAVE_NEXT, U"²µ¹¼½¾"},
    {MOJI_ROOT, U"√"},
    {MOJI_ROOT_NEXT, U"±∂†≠®™´≤≥¥µø"},
    {MOJI_ALMOST, U"≈"},
    {MOJI_ALMOST_NEXT, U"°¢"},
    {MOJI_LOW_9, U"‚"},
    {MOJI_A_UMLAUT, U"Ä"},
    {MOJI_A_UMLAUT_NEXT, U"ìîïòôúùû†°¢π"},
    {MOJI_A_CIRCUMFLEX_O, U"âó"},
    {MOJI_A_CIRCUMFLEX_O_NEXT, U"àä°ê"},
    {MOJI_SMALL_VE, U"в"},
    {MOJI_DJE, U"Ђ"},
    {MOJI_CYRILLIC, U"ВГРС"},
    {MOJI_DEGREE_MU, U"°µ"},
    {MOJI_GHE, U"Г"},
    {MOJI_SHORT_U, U"ў"},
    {MOJI_VE, U"В"},
    {MOJI_A_TILDE, U"Ã"},
    {MOJI_A_TILDE_NEXT, U"\u00a0¡"},
    {MOJI_A_TILDE_CIRC, U"ÃÂ"},
    {MOJI_A_CIRC, U"Â"},
    {MOJI_BETA, U"β"},
    {MOJI_EURO, U"€"},
    {MOJI_BETA_NEXT, U"™\u00a0Ά\u00ad®°"},
    {MOJI_GREEK, U"ΒΓΞΟ"},
    {MOJI_A_MACRON, U"ā"},
};

static const struct char_set clue_sets[] = {
    {CLUE_FIRST_OF_2, U"ĂÂÄĀÅÃÆĆČÇĎĐÉĚÊËĖÈĒĘÐĞĢÍÎÏİÌĪĶĹĻŁŃŇŅÑÓÔÖŐÒŌØÕŘŚŠŞŢÞÚÛÜŰÙŪŲŮÝŹŽŻß×ΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠ"
        U"ΡΣΤΥΦΧΨΩΪΫάέήίВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ"},
    {CLUE_FIRST_OF_3, U"áăâäàāąåãæćčçďéěêëėèēęęģíîïìīįķĺļŕźΰαβγδεζηθικλμνξοабвгдежзийклмноп"},
    {CLUE_FIRST_OF_4, U"đðğóšπσру"},
    {CLUE_NEXT, U"\200-¿ ĄÆĽŁØŖŚŠŞŤŸŹŽŻŒąæƒľłøŗśšşťźžżœˆˇ˘˛˜˝΄΅ΆΈΉΊΌΎΏЁЂЃЄЅІЇЈЉЊЋЌЎЏёђѓєѕіїјљњћќўџ"
        U"Ґґ–—―‘’‚“”„†‡•…‰‹›€№™"},
    {CLUE_NEXT_STRICT, U"\200-¿ĄÆĽŁØŖŚŠŞŤŸŹŽŻŒąæƒľłøŗśšşťźžżœˆˇ˘˛˜˝΄΅ΆΈΉΊΌΎΏЁЂЃЄЅІЇЈЉЊЋЌЎЏёђѓєѕіїјљњћќўџҐ"
        U"ґ†‡‰‹›€№™"},
};

// Bytes 0x80 to 0xff of each encoding after Latin-1. A blank: the byte stands for itself.
static const char32_t *const encodings[MOJI_ENCODINGS - 1] = {
    // windows-1252
    U"€ ‚ƒ„…†‡ˆ‰Š‹Œ Ž  ‘’“”•–—˜™š›œ žŸ\u00a0¡¢£¤¥¦§¨©ª«¬\u00ad®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅ"
    U"ÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ",
    // windows-1251
    U"ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–— ™љ›њќћџ\u00a0ЎўЈ¤Ґ¦§Ё©Є«¬\u00ad®Ї°±Ііґµ¶·ё№є»јЅѕїАБВГДЕ"
    U"ЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюя",
    // windows-1250
    U"€ ‚ „…†‡ ‰Š‹ŚŤŽŹ ‘’“”•–— ™š›śťžź\u00a0ˇ˘Ł¤Ą¦§¨©Ş«¬\u00ad®Ż°±˛ł´µ¶·¸ąş»Ľ˝ľżŔÁÂĂÄĹ"
    U"ĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙",
    // windows-1253
    U"€ ‚ƒ„…†‡ ‰ ‹     ‘’“”•–— ™ ›    \u00a0΅Ά£¤¥¦§¨© «¬\u00ad®―°±²³΄µ¶·ΈΉΊ»Ό½ΎΏΐΑΒΓΔΕ"
    U"ΖΗΘΙΚΛΜΝΞΟΠΡ ΣΤΥΦΧΨΩΪΫάέήίΰαβγδεζηθικλμνξοπρςστυφχψωϊϋόύώ ",
    // windows-1254
    U"€ ‚ƒ„…†‡ˆ‰Š‹Œ    ‘’“”•–—˜™š›œ  Ÿ\u00a0¡¢£¤¥¦§¨©ª«¬\u00ad®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅ"
    U"ÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ",
    // windows-1257
    U"€ ‚ „…†‡ ‰ ‹ ¨ˇ¸ ‘’“”•–— ™ › ¯˛ \u00a0 ¢£¤ ¦§Ø©Ŗ«¬\u00ad®Æ°±²³´µ¶·ø¹ŗ»¼½¾æĄĮĀĆÄÅ"
    U"ĘĒČÉŹĖĢĶĪĻŠŃŅÓŌÕÖ×ŲŁŚŪÜŻŽßąįāćäåęēčéźėģķīļšńņóōõö÷ųłśūüżž˙",
    // iso-8859-2
    U"                                \u00a0Ą˘Ł¤ĽŚ§¨ŠŞŤŹ\u00adŽŻ°ą˛ł´ľśˇ¸šşťź˝žżŔÁÂĂÄĹ"
    U"ĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙",
    // macroman
    U"ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø¿¡¬√ƒ≈∆«»…\u00a0"
    U"ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄€‹›ﬁﬂ‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\uf8ffÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ",
    // cp437
    U"ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧"
    U"╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0",
};
// clang-format on

enum {
    INDEX_MAX = 0x2600, // all but those of `high` are below
    SLOTS = 1024,
    FIRST_HIGH = INDEX_MAX,
};

static const int32_t high[] = {0xf8ff, 0xfb01, 0xfb02, 0xfffd};
enum { HIGH = sizeof high / sizeof *high };

static struct mojibake_char slots[SLOTS]; // slot 0: characters that are not listed
static uint16_t slot_of[INDEX_MAX + HIGH];
static size_t n_slots = 1;
static pthread_once_t once = PTHREAD_ONCE_INIT;

// Place of c in slot_of, -1 = none.
static int32_t place_of(int32_t c)
{
    if (c < INDEX_MAX)
        return c;
    for (int i = 0; i < HIGH; i++) {
        if (high[i] == c)
            return FIRST_HIGH + i;
    }
    return -1;
}

// The slot of a listed character, a new one if need be. The tables above hold fewer than SLOTS
// characters, all with a place.
static struct mojibake_char *add(int32_t c)
{
    int32_t at = place_of(c);
    if (at < 0 || (!slot_of[at] && n_slots == SLOTS))
        return &slots[0];
    if (!slot_of[at])
        slot_of[at] = (uint16_t)n_slots++;
    return &slots[slot_of[at]];
}

static void add_set(const struct char_set *set, bool is_clue)
{
    for (const char32_t *p = set->chars; *p;) {
        int32_t first = (int32_t)*p++, last = first;
        if (p[0] == '-') {
            last = (int32_t)p[1];
            p += 2;
        }
        for (int32_t c = first; c <= last; c++) {
            if (is_clue)
                add(c)->clues |= (uint8_t)set->which;
            else
                add(c)->classes |= UINT64_C(1) << set->which;
        }
    }
}

static void add_encodings(void)
{
    for (int32_t b = 0x80; b < 0x100; b++) {
        add(b)->byte[MOJI_LATIN_1] = (uint8_t)b;
        for (int k = 1; k < MOJI_ENCODINGS; k++) {
            int32_t c = (int32_t)encodings[k - 1][b - 0x80];
            add(c == ' ' ? b : c)->byte[k] = (uint8_t)b;
        }
    }
    for (int k = 0; k < MOJI_ENCODINGS; k++)
        add(0xfffd)->byte[k] = mojibake_is_sloppy(k) ? 0x1a : 0;
}

static void build(void)
{
    for (size_t i = 0; i < sizeof class_sets / sizeof *class_sets; i++)
        add_set(&class_sets[i], false);
    for (size_t i = 0; i < sizeof clue_sets / sizeof *clue_sets; i++)
        add_set(&clue_sets[i], true);
    add_encodings();
}

const struct mojibake_char *mojibake_char(int32_t c)
{
    pthread_once(&once, build);
    int32_t at = place_of(c);
    return &slots[at < 0 ? 0 : slot_of[at]];
}

bool mojibake_is_sloppy(int encoding)
{
    return encoding >= 1 && encoding <= 6;
}

static bool is_word(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) ||
           (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO) || c == '_';
}

#define BIT(x) (UINT64_C(1) << (x))

uint64_t mojibake_classes(int32_t c)
{
    uint64_t m = c < 0x80 ? 0 : mojibake_char(c)->classes;
    bool small = c >= 'a' && c <= 'z', capital = c >= 'A' && c <= 'Z';
    m |= small ? BIT(MOJI_A_Z) : capital ? BIT(MOJI_CAP_A_Z) : BIT(MOJI_NOT_LATIN);
    m |= text_is_space(c) ? BIT(MOJI_SPACE) : 0;
    m |= c == ' ' ? BIT(MOJI_BLANK) : 0;
    m |= c == '.' || c == ',' || c == '?' || c == '!' ? BIT(MOJI_STOP) : 0;
    m |= c != '\n' ? BIT(MOJI_NOT_NEWLINE) : 0;
    return m | (small || capital || is_word(c) ? BIT(MOJI_WORD) : 0);
}
