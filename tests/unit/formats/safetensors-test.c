// SPDX-License-Identifier: Apache-2.0
#include "formats/safetensors.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unit/tap.h"

// Parses header + n zero bytes.
static int parse(struct safetensors *s, const char *header, size_t n, struct err *e)
{
    static uint8_t file[4096];
    size_t len = strlen(header);
    memset(file, 0, sizeof file);
    file[0] = (uint8_t)len;
    file[1] = (uint8_t)(len >> 8);
    memcpy(file + 8, header, len);
    return st_parse(s, file, 8 + len + n, e);
}

static void refuses(const char *header, size_t n, const char *why)
{
    struct safetensors s;
    struct err e = {.text = ""};
    int rc = parse(&s, header, n, &e);
    ok(rc == -1 && strstr(e.text, why), "refused: %s (%s)", why, rc ? e.text : "accepted");
    if (!rc)
        st_close(&s);
}

#define T(dtype, shape, off)                                                                       \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" off "}"

static void test_hostile(void)
{
    refuses("", 0, "expected '{'");
    refuses(" {}", 0, "expected '{'");
    refuses("{", 0, "expected");
    refuses("{} x", 0, "something after");
    refuses("{}", 1, "after the last tensor");
    refuses("{\"a\":" T("F32", "[2]", "[0,4]") "}", 4, "disagree");
    refuses("{\"a\":" T("F32", "[1]", "[4,0]") "}", 4, "disagree");
    refuses("{\"a\":" T("F32", "[1]", "[0,4]") "}", 3, "past the end");
    refuses("{\"a\":" T("F32", "[1]", "[4,8]") "}", 8, "gap");
    refuses("{\"a\":" T("U8", "[4]", "[0,4]") ",\"b\":" T("U8", "[4]", "[2,6]") "}", 6, "overlap");
    refuses("{\"a\":" T("U8", "[4]", "[0,4]") ",\"b\":" T("U8", "[4]", "[0,4]") "}", 4, "overlap");
    refuses("{\"a\":" T("U8", "[1]", "[0,1]") ",\"a\":" T("U8", "[1]", "[1,2]") "}", 2,
            "duplicate tensor 'a'");
    refuses("{\"a\":" T("U8", "[1]", "[0,1]") ",\"\\u0061\":" T("U8", "[1]", "[1,2]") "}", 2,
            "duplicate tensor 'a'");
    refuses("{\"a\":" T("F32", "[4294967296,4294967296]", "[0,0]") "}", 0, "overflows");
    refuses("{\"a\":" T("F64", "[2305843009213693952]", "[0,0]") "}", 0, "overflows");
    refuses("{\"a\":" T("F32", "[99999999999999999999]", "[0,0]") "}", 0, "too large");
    refuses("{\"a\":" T("F32", "[-1]", "[0,0]") "}", 0, "whole number");
    refuses("{\"a\":" T("F32", "[01]", "[0,4]") "}", 4, "whole number");
    refuses("{\"a\":" T("F32", "[1.0]", "[0,4]") "}", 4, "expected ']'");
    refuses("{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, "too many");
    refuses("{\"a\":" T("Q4", "[1]", "[0,4]") "}", 4, "unknown dtype 'Q4'");
    refuses("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "lacks data_offsets");
    refuses("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 4, "duplicate key");
    refuses("{\"a\":{\"x\":1}}", 4, "unknown key 'x'");
    refuses("{\"__metadata__\":{\"a\":1}}", 0, "expected a string");
    refuses("{\"__metadata__\":{\"a\":null}}", 0, "expected a string");
    refuses("{\"__metadata__\":nul}", 0, "expected a value");
    refuses("{\"__metadata__\":null,\"__metadata__\":{}}", 0, "duplicate __metadata__");
    refuses("{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "duplicate __metadata__ key");
    refuses("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate __metadata__");
    refuses("{\"a\\u0000\":" T("U8", "[0]", "[0,0]") "}", 0, "NUL");
    refuses("{\"\\ud800\":" T("U8", "[0]", "[0,0]") "}", 0, "surrogate");
    refuses("{\"\xc0\x80\":" T("U8", "[0]", "[0,0]") "}", 0, "UTF-8");
    refuses("{\"a\\q\":" T("U8", "[0]", "[0,0]") "}", 0, "escape");
    refuses("{\"a\":" T("U8", "[0]", "[0,0]") ",}", 0, "expected");

    struct safetensors s;
    struct err e;
    uint8_t huge[8] = {0, 0, 0, 0, 0, 0, 0, 0x80};
    ok(st_parse(&s, huge, 8, &e) == -1, "huge header length refused");
    ok(st_parse(&s, huge, 3, &e) == -1, "short file refused");
    uint8_t past[10] = {100, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    ok(st_parse(&s, past, 10, &e) == -1, "header past the end refused");
}

static void test_legal(void)
{
    struct safetensors s;
    struct err e;
    ok(parse(&s, "{}  ", 0, &e) == 0 && s.n_tensors == 0, "empty file");
    ok(!st_find(&s, "a"), "nothing to find");
    st_close(&s);
    ok(parse(&s, "{\"__metadata__\": null ,\"a\":" T("U8", "[1]", "[0,1]") "}", 1, &e) == 0 &&
           s.n_tensors == 1 && s.n_meta == 0,
       "metadata of null is none");
    st_close(&s);
    int rc = parse(
        &s,
        "{ \"b\" : " T("F32", "[]", "[0, 4]") ",\"\xc3\xa9\":" T(
            "U8", "[0,3]",
            "[4,4]") ",\"\\ud83d\\ude00\":" T("BF16", "[1,2]",
                                              "[4,8]") ",\"__metadata__\":{\"format\":\"pt\"}}   ",
        8, &e);
    ok(rc == 0 && s.n_tensors == 3, "rank 0, zero size, escapes, spaces, %s", rc ? e.text : "");
    if (rc)
        return;
    const struct st_tensor *t = st_find(&s, "b");
    ok(t && t->rank == 0 && t->numel == 1 && t->n_bytes == 4, "rank 0 has one element");
    t = st_find(&s, "\xf0\x9f\x98\x80");
    ok(t && t->dtype == ST_BF16 && t->numel == 2, "surrogate pair decoded");
    ok(st_find(&s, "\xc3\xa9") && st_find(&s, "\xc3\xa9")->numel == 0, "zero-size tensor");
    ok(st_meta_find(&s, "format") && !strcmp(st_meta_find(&s, "format"), "pt"), "metadata");
    st_close(&s);
}

static void write_file(const char *path, struct st_spec *specs, size_t n, const float *data)
{
    struct out o;
    struct st_writer w;
    struct err e;
    struct st_meta m = {"note", "a \"quoted\"\n\\ text"};
    int rc = out_open(&o, path, &e) || st_writer_begin(&w, &o, specs, n, &m, 1, &e);
    for (size_t i = 0; i < n && !rc; i++) {
        uint64_t numel = 1;
        for (int k = 0; k < specs[i].rank; k++)
            numel *= specs[i].shape[k];
        rc = st_writer_put(&w, data, (size_t)numel * st_dtype_size(specs[i].dtype), &e);
    }
    rc = rc || st_writer_end(&w, &e) || out_commit(&o, &e);
    ok(!rc, "written %s", rc ? e.text : "");
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    if (f) {
        fputs(text, f);
        fclose(f);
    }
}

static void test_index(const char *dir)
{
    struct safetensors s;
    struct err e;
    static const struct {
        const char *json, *why;
    } cases[] = {
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\"}}", "not in weight_map"},
        {"{\"weight_map\":{\"h\":\"1.safetensors\",\"a\":\"1.safetensors\",\"z\":\"2.safetensors\","
         "\"b\":\"1.safetensors\",\"y\":\"2.safetensors\"}}",
         "'y' is in no file"},
        {"{\"weight_map\":{\"a\":\"../1.safetensors\"}}", "not a file name"},
        {"{\"weight_map\":{\"a\":\"none.safetensors\"}}", "none.safetensors"},
        {"{\"weight_map\":{\"a\":1}}", "not a string"},
        {"{\"weight_map\":[]}", "weight_map"},
        {"{", "model.safetensors.index.json"},
    };
    char path[256];
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    write_text(path, "{\"metadata\":{\"total_size\":30},\"weight_map\":{\"a\":\"1.safetensors\","
                     "\"b\":\"1.safetensors\",\"h\":\"1.safetensors\",\"z\":\"2.safetensors\"}}");
    int rc = st_open(&s, path, &e);
    ok(rc == 0 && s.n_tensors == 4 && s.n_maps == 2 && st_find(&s, "z"), "two files as one: %s",
       rc ? e.text : "");
    st_close(&s);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text(path, cases[i].json);
        rc = st_open(&s, path, &e);
        ok(rc == -1 && strstr(e.text, cases[i].why), "index refused: %s", e.text);
        if (!rc)
            st_close(&s);
    }
    unlink(path);
}

static void test_write(void)
{
    char dir[] = "/tmp/st-test-XXXXXX", path[64], path2[64];
    if (!mkdtemp(dir)) {
        ok(0, "temporary folder");
        return;
    }
    snprintf(path, sizeof path, "%s/1.safetensors", dir);
    snprintf(path2, sizeof path2, "%s/2.safetensors", dir);
    float data[6] = {1, 2, 3, 4, 5, 6};
    struct st_spec specs[] = {
        {"h", ST_F16, 1, {2}, NULL}, {"b", ST_F32, 2, {2, 3}, NULL}, {"a", ST_F32, 0, {0}, NULL}};
    struct st_spec z = {"z", ST_F32, 1, {0}, NULL};
    write_file(path, specs, 3, data);
    write_file(path2, &z, 1, data);
    ok(!strcmp(specs[0].name, "a") && !strcmp(specs[2].name, "h"), "wide dtypes first, by name");

    struct safetensors s;
    struct err e;
    int rc = st_open(&s, path, &e);
    ok(rc == 0 && s.n_tensors == 3, "read back: %s", rc ? e.text : "");
    if (!rc) {
        const struct st_tensor *b = st_find(&s, "b"), *a = st_find(&s, "a");
        float back[4];
        ok(((uintptr_t)a->data & 7) == 0, "data aligned to 8 bytes");
        ok(a->data < b->data, "a's data comes first");
        ok(!st_read_f32(b, 2, 4, back, &e) && back[0] == 3 && back[3] == 6, "values");
        ok(st_read_f32(b, 3, 4, back, &e) == -1, "read past the end refused");
        ok(!strcmp(st_meta_find(&s, "note"), "a \"quoted\"\n\\ text"), "metadata escaped");
        st_close(&s);
    }
    test_index(dir);

    struct out o;
    struct st_writer w;
    struct st_spec twice[] = {{"a", ST_F32, 0, {0}, NULL}, {"a", ST_F16, 0, {0}, NULL}};
    char path3[64];
    snprintf(path3, sizeof path3, "%s/3", dir);
    ok(!out_open(&o, path3, &e) && st_writer_begin(&w, &o, twice, 2, NULL, 0, &e) == -1,
       "duplicate names refused");
    ok(!st_writer_begin(&w, &o, twice, 1, NULL, 0, &e) && st_writer_end(&w, &e) == -1,
       "missing data noticed");
    ok(st_writer_put(&w, data, 8, &e) == -1, "too much data refused");
    out_abort(&o);
    unlink(path);
    unlink(path2);
    ok(rmdir(dir) == 0, "nothing left behind");
}

int main(void)
{
    test_hostile();
    test_legal();
    test_write();
    return tap_done();
}
