// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "system/io.h"
#include "formats/sidecar.h"
#include "unit/tap.h"

static struct err e;

static void write_text(const char *path, const char *text)
{
    struct out o;
    if (out_open(&o, path, &e) || out_write(&o, text, strlen(text), &e) || out_commit(&o, &e))
        exit(1);
}

// An array of n rows of 64 floats; with a sidecar if s is given.
static int put_array(const char *path, size_t n, float value, struct sidecar *s)
{
    struct npy_writer w;
    float row[64];
    if (npy_create(&w, path, NPY_F4, 1, (uint64_t[]){64}, NPY_UNKNOWN, &e))
        return -1;
    for (size_t i = 0; i < n; i++) {
        for (size_t d = 0; d < 64; d++)
            row[d] = value + (float)i;
        if (npy_write_f32(&w, row, 1, &e))
            return -1;
    }
    return (s && (sidecar_set_data(s, &w, &e) || sidecar_write(path, s, &e))) || npy_commit(&w, &e);
}

static void test_stale(const char *npy, const char *json)
{
    struct sidecar s, r;
    struct npy a;
    for (size_t n = 0; n <= 10000; n = n ? n * 100 : 1) {
        sidecar_init(&s, "x", &e);
        ok(put_array(npy, n, 1, &s) == 0 && s.rows == n && sidecar_open(npy, n, &r, &e) == 1,
           "%zu rows and their sidecar", n);
        char hex[DIGEST_HEX] = "";
        if (npy_open(&a, npy, &e) == 0)
            npy_sample(&a, hex);
        npy_close(&a);
        ok(!strcmp(hex, s.sample) && !strcmp(hex, r.sample), "the sample as written and as read");
        sidecar_release(&r);
        sidecar_release(&s);
        if (!n)
            continue;
        ok(put_array(npy, n, 2, NULL) == 0 && sidecar_open(npy, n, &r, &e) == -1 &&
               strstr(e.text, "is not the array that its sidecar"),
           "as many other rows: %s", e.text);
    }
    sidecar_init(&s, "x", &e);
    ok(put_array(npy, 5, 1, &s) == 0, "a small one");
    *s.sample = '\0'; // of version 0.1
    ok(sidecar_write(npy, &s, &e) == 0 && sidecar_open(npy, 5, &r, &e) == 1, "without a sample");
    sidecar_release(&r);
    ok(put_array(npy, 5, 2, NULL) == 0 && sidecar_open(npy, 5, &r, &e) == -1,
       "its data digest is compared: %s", e.text);
    sidecar_release(&s);
    unlink(npy);
    unlink(json);
}

static void test_many_inputs(const char *npy, const char *json)
{
    struct sidecar s, r;
    char name[32], hex[DIGEST_HEX];
    sidecar_init(&s, "x", &e);
    digest_bytes("a", 1, hex);
    for (int i = 0; i < 200000; i++) {
        snprintf(name, sizeof name, "%08d.npy", i);
        sidecar_add_input(&s, name, hex, &e);
    }
    ok(sidecar_write(npy, &s, &e) == 0 && sidecar_read(npy, &r, &e) == 1, "200,000 inputs: %s",
       e.text);
    ok(r.n_inputs == 1 && !strcmp(r.inputs[0].name, "200000 files") && *r.inputs[0].hex,
       "are one entry with a digest");
    sidecar_release(&r);
    sidecar_release(&s);
    unlink(json);
}

static void test_arguments(void)
{
    struct sidecar s;
    char *plain[] = {"x", "-k5", "in"},
         *with[] = {"x", "-qvt4", "-qvk5", "-vt", "2", "-vo", "f", "-v", "in"};
    sidecar_init(&s, "x", &e);
    ok(sidecar_set_args(&s, 3, plain, &e) == 0 && s.n_args == 2 && !strcmp(s.args[0], "-k5"),
       "-k5");
    ok(sidecar_set_args(&s, 9, with, &e) == 0 && s.n_args == 2 && !strcmp(s.args[0], "-k5") &&
           !strcmp(s.args[1], "in"),
       "letters written together that have no effect are left out");
    sidecar_release(&s);
}

int main(void)
{
    char dir[] = "/tmp/sidecar-test.XXXXXX", npy[64], json[80];
    if (!mkdtemp(dir))
        return 1;
    snprintf(npy, sizeof npy, "%s/00000.npy", dir);
    snprintf(json, sizeof json, "%s.json", npy);
    struct sidecar s, r, other;
    put_array(npy, 10000, 0, NULL);
    char *argv[] = {"teacher-embed", "-t", "2",           "-m",  "model", "--threads=4", "-t8",
                    "--mem",         "2G", "--out-dtype", "f16", "-q",    "--text-out",  "-o",
                    "x.npy",         "in", "--",          "-q",  NULL};
    ok(sidecar_init(&s, "teacher-embed", &e) == 0, "init");
    ok(sidecar_set_args(&s, 18, argv, &e) == 0 && s.n_args == 8 && strcmp(s.args[0], "-m") == 0 &&
           strcmp(s.args[3], "f16") == 0 && strcmp(s.args[7], "-q") == 0,
       "arguments, less those without effect");
    s.seed = UINT64_MAX - 1;
    s.rows = 10000;
    digest_bytes("a", 1, s.keys);
    digest_bytes("b", 1, s.data);
    digest_bytes("m", 1, s.model);
    s.scale = 117.330765;
    s.bias = -12.932437;
    s.has_bias = true;
    for (int i = 0; i < 5; i++)
        sidecar_add_input(&s, i ? "dir/00000.tar" : "b", i ? s.data : NULL, &e);
    ok(sidecar_read(npy, &r, &e) == 0 && !r.tool, "none there");
    ok(sidecar_write("-", &s, &e) == 0, "nothing for a pipe");
    ok(sidecar_write(npy, &s, &e) == 0 && access(json, F_OK) == 0, "written");
    ok(sidecar_read(npy, &r, &e) == 1, "read");
    ok(strcmp(r.tool, "teacher-embed") == 0 && r.seed == s.seed && r.rows == 10000 &&
           strcmp(r.keys, s.keys) == 0 && strcmp(r.data, s.data) == 0 &&
           strcmp(r.model, s.model) == 0 && r.n_args == 8 && strcmp(r.args[7], "-q") == 0 &&
           r.n_inputs == 5 && strcmp(r.inputs[4].name, "00000.tar") == 0 &&
           strcmp(r.inputs[4].hex, s.data) == 0 && !*r.inputs[0].hex,
       "the same");
    ok(r.scale == s.scale && r.has_bias && r.bias == s.bias, "scale and bias of the model");
    ok(sidecar_same_keys("a", &s, "b", &r, &e) == 1, "same keys");
    ok(sidecar_same_model("a", &s, "b", &r, &e) == 1, "same model");
    digest_bytes("x", 1, r.keys);
    digest_bytes("x", 1, r.model);
    ok(sidecar_same_keys("a.npy", &s, "b.npy", &r, &e) == -1 && strstr(e.text, "key digests"),
       "other keys: %s", e.text);
    ok(sidecar_same_model("a.npy", &s, "b.npy", &r, &e) == -1, "other model: %s", e.text);
    r.rows = 9;
    ok(sidecar_same_keys("a.npy", &s, "b.npy", &r, &e) == -1 && strstr(e.text, "has 9"), "%s",
       e.text);
    memset(&other, 0, sizeof other);
    ok(sidecar_same_keys("a.npy", &s, "b.npy", &other, &e) == 0, "one without sidecar");
    sidecar_release(&r);
    ok(sidecar_open(npy, 9999, &r, &e) == -1 && strstr(e.text, "stale") && !r.tool,
       "rows that do not fit the file");
    ok(sidecar_open(npy, 10000, &r, &e) == 1, "rows that do");
    sidecar_release(&r);
    static const char *const bad[] = {"",
                                      "[]",
                                      "{\"rows\":-1}",
                                      "{\"rows\":1,\"keys\":\"xyz\"}",
                                      "{\"rows\":1,\"inputs\":[1]}",
                                      "{\"rows\":1,\"arguments\":[1]}",
                                      "{\"rows\":1,\"scale\":0}",
                                      "{\"rows\":1,\"bias\":\"-10\"}",
                                      "{\"rows\":1,\"bias\":1e999}",
                                      "{\"tool\":\"x\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(json, bad[i]);
        ok(sidecar_read(npy, &r, &e) == -1 && strstr(e.text, "00000.npy.json") && !r.tool,
           "refused: %s", e.text);
    }
    sidecar_release(&s);
    unlink(json);
    unlink(npy);
    test_stale(npy, json);
    test_many_inputs(npy, json);
    test_arguments();
    rmdir(dir);
    return tap_done();
}
