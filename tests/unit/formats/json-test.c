// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "system/digest.h"
#include "formats/json.h"
#include "unit/tap.h"

static struct err e;

static bool takes(const char *text)
{
    cJSON *t = json_parse(text, strlen(text), NULL, &e);
    cJSON_Delete(t);
    return t != NULL;
}

static void test_grammar(void)
{
    static const char *const good[] = {
        "{}",
        "[]",
        " 1 ",
        "-0.5e-3",
        "\"\\ud83d\\ude00\"",
        "[1,[2,{\"a\":null}],true,false]",
        "\"\xc3\xa9\"",
        "{\"a\":1,\"b\":{\"a\":1}}",
    };
    static const char *const bad[] = {
        "",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "01",
        "+1",
        "1.",
        ".5",
        "1e",
        "nul",
        "'a'",
        "{a:1}",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u0000\"",
        "\"a\nb\"",
        "\"\xff\"",
        "\"\xc0\x80\"",
        "\"\xed\xa0\x80\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "[1] 2",
        "1e999",
        "NaN",
        "Infinity",
        "{\"a\":1,\"a\":2}",
        "[\"a\"",
        "/*x*/1",
        "\"\\ud800\\u0041\"",
        "[1 2]",
        "{\"a\" 1}",
        "{1:2}",
        "{}\xef\xbb\xbf",
        "\xef\xbb\xbf\xef\xbb\xbf{}",
        "\xef\xbb{}",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ok(takes(good[i]), "takes %zu", i);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ok(!takes(bad[i]), "refuses %zu: %s", i, e.text);
    ok(takes("\xef\xbb\xbf{\"a\":1}"), "a byte order mark before the value");
    ok(!takes("{\"x\":{\"b\":1,\"a\":2,\"b\":3}}") && strstr(e.text, "'b' stands twice"),
       "a duplicate is named");
    ok(!takes("[1, 2, x]") && strstr(e.text, "offset 7"), "an error gives its place");
    char deep[200];
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    ok(!json_parse(deep, 200, NULL, &e) && strstr(e.text, "deep"), "nesting is limited");
    cJSON *t = json_parse(deep, 200, &(struct json_limits){.depth = 100}, &e);
    ok(t, "up to the limit given");
    cJSON_Delete(t);
    ok(!json_parse("[1,2,3]", 7, &(struct json_limits){.bytes = 6}, &e), "length is limited");
    ok(!takes("1234567890123456789012345678901234567890123456789012345678901234567890"),
       "a number too long for cJSON");
}

static void test_getters(void)
{
    static const char text[] =
        "{\"s\":\"x\",\"n\":3,\"f\":1.5,\"b\":true,\"big\":\"18446744073709551615\","
        "\"a\":[1,2,3],\"o\":{},\"z\":null,\"neg\":-1}";
    cJSON *t = json_parse(text, strlen(text), NULL, &e);
    const char *s = NULL;
    double d = 0, v[3];
    int64_t i = 0;
    uint64_t u = 0;
    bool b = false;
    const cJSON *o;
    ok(json_string(t, "s", JSON_REQUIRED, &s, &e) == 1 && strcmp(s, "x") == 0, "string");
    ok(json_double(t, "f", JSON_REQUIRED, &d, &e) == 1 && d == 1.5, "number");
    ok(json_int(t, "n", JSON_REQUIRED, 0, 5, &i, &e) == 1 && i == 3, "whole number");
    ok(json_int(t, "n", JSON_REQUIRED, 4, 5, &i, &e) == -1 && strstr(e.text, "'n' is 3"), "range");
    ok(json_int(t, "f", JSON_REQUIRED, 0, 5, &i, &e) == -1, "a fraction is no whole number");
    ok(json_bool(t, "b", JSON_REQUIRED, &b, &e) == 1 && b, "truth value");
    ok(json_u64(t, "big", JSON_REQUIRED, &u, &e) == 1 && u == UINT64_MAX, "64 bits as a string");
    ok(json_u64(t, "neg", JSON_REQUIRED, &u, &e) == -1 &&
           json_u64(t, "s", JSON_REQUIRED, &u, &e) == -1,
       "not a 64-bit number");
    ok(json_doubles(t, "a", JSON_REQUIRED, v, 3, &e) == 1 && v[2] == 3, "numbers");
    ok(json_doubles(t, "a", JSON_REQUIRED, v, 2, &e) == -1, "of another count");
    ok(json_object(t, "o", JSON_REQUIRED, &o, &e) == 1 &&
           json_array(t, "o", JSON_REQUIRED, &o, &e) == -1,
       "object and array");
    ok(json_string(t, "none", JSON_OPTIONAL, &s, &e) == 0 && strcmp(s, "x") == 0, "absent");
    ok(json_string(t, "z", JSON_REQUIRED, &s, &e) == -1 && strstr(e.text, "'z' is missing"),
       "null is absent");
    ok(json_string(t, "n", JSON_OPTIONAL, &s, &e) == -1 && strstr(e.text, "not a string"), "type");
    ok(json_only(t, (const char *const[]){"s", "n", NULL}, &e) == -1 && strstr(e.text, "'f'"),
       "an unknown name is told");
    cJSON_Delete(t);
}

static void test_writer(void)
{
    cJSON *o = cJSON_CreateObject();
    json_add_string(o, "s", "a\"\\\n\x01\xff\xc3\xa9", &e);
    json_add_u64(o, "n", 41454, &e);
    json_add_u64(o, "big", UINT64_MAX, &e);
    json_add_i64(o, "neg", -5, &e);
    json_add_double(o, "tenth", 0.1, &e);
    json_add_double(o, "large", 1e15, &e);
    json_add_double(o, "nan", NAN, &e);
    json_add_doubles(o, "v", (double[]){1, 2.5}, 2, &e);
    json_add_object(json_add_array(o, "list", &e), NULL, &e);
    char *s = json_text(o, false, &e);
    ok(strcmp(s, "{\"s\":\"a\\\"\\\\\\n\\u0001\xef\xbf\xbd\xc3\xa9\",\"n\":41454,"
                 "\"big\":\"18446744073709551615\",\"neg\":-5,\"tenth\":0.1,"
                 "\"large\":1000000000000000,\"nan\":null,\"v\":[1,2.5],\"list\":[{}]}") == 0,
       "one line: %s", s);
    ok(takes(s), "which the reader takes");
    free(s);
    s = json_text(o, true, &e);
    ok(strstr(s, "\n  \"v\": [1, 2.5],\n  \"list\": [\n    {}\n  ]\n}\n"), "pretty");
    free(s);
    char path[] = "/tmp/json-test.XXXXXX";
    close(mkstemp(path));
    ok(json_write_file(path, o, &e) == 0, "written to a file");
    cJSON *t = json_read_file(path, NULL, &e);
    uint64_t u = 0;
    ok(t && json_u64(t, "big", JSON_REQUIRED, &u, &e) == 1 && u == UINT64_MAX, "and read back");
    cJSON_Delete(t);
    unlink(path);
    ok(!json_read_file(path, NULL, &e) && strstr(e.text, path), "a missing file is named");
    cJSON_Delete(o);
    double v[] = {0.1, 1 / 3.0, 1e-300, 1.7976931348623157e308, 5e-324, -0.0, 123456.789};
    int same = 0;
    for (size_t i = 0; i < 7; i++) {
        cJSON *a = cJSON_CreateArray();
        json_add_double(a, NULL, v[i], &e);
        s = json_text(a, false, &e);
        cJSON *b = json_parse(s, strlen(s), NULL, &e);
        same += b && b->child->valuedouble == v[i];
        free(s);
        cJSON_Delete(a);
        cJSON_Delete(b);
    }
    ok(same == 7, "numbers read back as they were");
}

static void test_digest(void)
{
    char a[DIGEST_HEX], b[DIGEST_HEX];
    digest_bytes("", 0, a);
    ok(strcmp(a, "99aa06d3014798d86001c324468d497f") == 0, "XXH3-128 of nothing is %s", a);
    struct digest *d = digest_new(&e);
    digest_key(d, "000000000");
    digest_key(d, "000000001");
    digest_hex(d, a);
    digest_bytes("000000000\0"
                 "000000001",
                 20, b);
    ok(strcmp(a, b) == 0 && digest_is_hex(a) && !digest_is_hex("xyz"), "keys are ended by NULs");
    char path[] = "/tmp/digest-test.XXXXXX";
    int fd = mkstemp(path);
    ok(write(fd,
             "000000000\0"
             "000000001",
             20) == 20 &&
           digest_file(path, a, &e) == 0 && strcmp(a, b) == 0,
       "of a file");
    close(fd);
    unlink(path);
    ok(digest_u64("abcdef", 6) == digest_u64_two("abc", 3, "def", 3), "64 bits in two pieces");
    digest_free(d);
}

int main(void)
{
    test_grammar();
    test_getters();
    test_writer();
    test_digest();
    return tap_done();
}
