// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "read/json.h"
#include "read/text.h"
#include "unit/tap.h"

static void test_captions(void)
{
    static const struct {
        const char *text;
        enum sample_status want;
    } cases[] = {
        {"", SAMPLE_NO_CAPTION},
        {" \t\r\n\v\f", SAMPLE_NO_CAPTION},
        {"\xc2\xa0\xe3\x80\x80\xe2\x80\xa8", SAMPLE_NO_CAPTION},
        {"a", SAMPLE_OK},
        {"\xef\xbb\xbfjack\r\n", SAMPLE_OK},
        {"caf\xc3\xa9 \xf0\x9f\x91\x8b\xf0\x9f\x8f\xbd", SAMPLE_OK},
        {"caf\xe9", SAMPLE_BAD_UTF8},
        {"caf\xc3", SAMPLE_BAD_UTF8},
        {"\xc0\x80", SAMPLE_BAD_UTF8},
        {"\xed\xa0\x80", SAMPLE_BAD_UTF8},
        {"\xf4\x90\x80\x80", SAMPLE_BAD_UTF8},
        {"\x80", SAMPLE_BAD_UTF8},
    };
    size_t at = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ok(read_caption_status((const uint8_t *)cases[i].text, strlen(cases[i].text), &at) ==
               cases[i].want,
           "caption %zu", i);
    ok(read_caption_status((const uint8_t *)"ab\xff", 3, &at) == SAMPLE_BAD_UTF8 && at == 2,
       "the byte is told");
    ok(read_caption_status((const uint8_t *)"\0", 1, &at) == SAMPLE_OK, "a NUL is text");
}

static void test_json(void)
{
    static const char *const good[] = {
        "{}",
        " [ ] ",
        "0",
        "-0.5e+10",
        "\"a\\u0000\\n\\\"\"",
        "{\"a\": [1, {\"b\": null}, []], \"a\": true}",
        "{\"similarity\": NaN, \"x\": -Infinity}",
        "[[[]], {\"k\":{}}, false]",
        "\xef\xbb\xbf{}",
    };
    static const char *const bad[] = {
        "",         " ",           "{",        "}",          "[1,]",
        "{\"a\"}",  "{\"a\":1,}",  "{a:1}",    "\"a",        "01",
        "1.",       "-",           "1e",       "[1 2]",      "{} {}",
        "\"\\x\"",  "\"\\u12g4\"", "nul",      "[1}",        "\"\n\"",
        "{\"a\":1", "\xff",        "\"\xc3\"", "\xef\xbb{}", "{}\xef\xbb\xbf",
    };
    struct err e;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ok(read_json_check((const uint8_t *)good[i], strlen(good[i]), &e) == 0, "good %s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ok(read_json_check((const uint8_t *)bad[i], strlen(bad[i]), &e) == -1, "bad %zu: %s", i,
           e.text);
    ok(read_json_check((const uint8_t *)"{}\0", 3, &e) == -1, "a NUL behind is no JSON");
    char deep[5000];
    memset(deep, '[', sizeof deep);
    ok(read_json_check((const uint8_t *)deep, sizeof deep, &e) == -1, "depth is bounded");
}

int main(void)
{
    test_captions();
    test_json();
    return tap_done();
}
