// SPDX-License-Identifier: Apache-2.0
// Evaluation sets: what a folder and its labels may be, and what is said of one that is wrong.
#include <archive.h>
#include <archive_entry.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "system/digest.h"
#include "eval/set.h"
#include "unit/tap.h"

static char dir[] = "/tmp/eval-set-test-XXXXXX";
static struct err e;

static const char *in_dir(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(in_dir(name), "w");
    if (f) {
        fputs(text, f);
        fclose(f);
    }
}

static void member(struct archive *a, const char *name, const void *data, size_t n)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, (la_int64_t)n);
    archive_write_header(a, entry);
    archive_write_data(a, data, n);
    archive_entry_free(entry);
}

// Shard s/test/`shard` with one sample a label: s0000000.EXT ...
static void put_labels(const char *shard, const char *ext, const void *const *label,
                       const size_t *n_label, size_t n)
{
    char path[64], name[32];
    struct archive *a = archive_write_new();
    archive_write_set_format_ustar(a);
    snprintf(path, sizeof path, "s/test/%s", shard);
    archive_write_open_filename(a, in_dir(path));
    for (size_t i = 0; i < n; i++) {
        snprintf(name, sizeof name, "s%07zu.%s", i, ext);
        member(a, name, label[i], n_label[i]);
    }
    archive_write_close(a);
    archive_write_free(a);
}

static void put_texts(const char *shard, const char *ext, const char *a, const char *b)
{
    const void *label[2] = {a, b};
    put_labels(shard, ext, label, (size_t[]){strlen(a), strlen(b)}, 2);
}

// A good set of two classes in one shard; `type` may be NULL.
static void good_set(const char *type)
{
    mkdir(in_dir("s"), 0777);
    mkdir(in_dir("s/test"), 0777);
    put("s/classnames.txt", "a cat\na dog\n");
    put("s/zeroshot_classification_templates.txt", "a photo of {c}\n{c}\n");
    put("s/test/nshards.txt", "1\n");
    if (type)
        put("s/dataset_type.txt", type);
    else
        unlink(in_dir("s/dataset_type.txt"));
    put_texts("0.tar", "cls", "0", "1\n");
}

struct seen {
    size_t n;
    int32_t label[8];
    uint8_t targets[8][8];
    char captions[256]; // "a|b;c": of one sample, of the next
    size_t classes;
};

static int see(void *user, const struct eval_sample *s, struct err *unused)
{
    struct seen *v = user;
    (void)unused;
    if (v->n == 8)
        return 0;
    v->label[v->n] = s->label;
    if (s->targets)
        memcpy(v->targets[v->n], s->targets, v->classes);
    for (size_t k = 0; k < s->n_captions; k++) {
        size_t at = strlen(v->captions);
        snprintf(v->captions + at, sizeof v->captions - at, "%s%s",
                 k      ? "|"
                 : v->n ? ";"
                        : "",
                 s->captions[k]);
    }
    v->n++;
    return 0;
}

// Reads dir/s: the number of samples, or -1 with e set.
static int read_set(struct seen *v)
{
    struct eval_set s;
    *v = (struct seen){0};
    if (eval_set_open(&s, in_dir("s"), NULL, NULL, &e))
        return -1;
    v->classes = s.classes.n;
    int rc = eval_set_read(&s, "test", NULL, 2, see, v, &e);
    eval_set_close(&s);
    return rc ? -1 : (int)v->n;
}

static void test_labels(void)
{
    struct seen v;
    good_set(NULL);
    ok(read_set(&v) == 2 && v.label[0] == 0 && v.label[1] == 1, "classes from .cls");
    good_set("Classification \n");
    ok(read_set(&v) == 2, "the type said");
    put("s/classnames.txt", "\n a cat \r\n\n\ta dog\n\n");
    ok(read_set(&v) == 2 && v.classes == 2, "blanks and empty lines are no names");
    put("s/test/nshards.txt", "2");
    put_texts("1.tar", "cls", "1", "0");
    ok(read_set(&v) == 4 && v.label[2] == 1 && v.label[3] == 0, "shards in their order");
    good_set("retrieval\n");
    put_texts("0.tar", "txt", "one\r\ntwo\n\nthree", "four\n");
    unlink(in_dir("s/classnames.txt"));
    ok(read_set(&v) == 2 && !strcmp(v.captions, "one|two|three;four"), "captions: %s", v.captions);
}

// An NPY of three values in `descr`, each `size` bytes.
static size_t npy_of(uint8_t *out, const char *descr, const char *shape, const void *values,
                     size_t bytes)
{
    char head[160];
    int n = snprintf(head, sizeof head, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }",
                     descr, shape);
    memcpy(out, "\x93NUMPY\1\0v\0", 10);
    memset(out + 10, ' ', 118);
    memcpy(out + 10, head, (size_t)n);
    out[127] = '\n';
    memcpy(out + 128, values, bytes);
    return 128 + bytes;
}

static int read_npy(struct seen *v, const char *descr, const char *shape, const void *values,
                    size_t bytes)
{
    uint8_t file[256];
    const void *label = file;
    size_t n = npy_of(file, descr, shape, values, bytes);
    put_labels("0.tar", "npy", &label, &n, 1);
    return read_set(v);
}

static void test_multilabel_types(void)
{
    const double f8[3] = {1, -0.0, 1}, half[3] = {1, 0.5, 0}, nan[3] = {NAN, 0, 0};
    const float f4[3] = {1, 0, 1};
    const uint16_t f2[3] = {0x3c00, 0, 0x3c00};
    const int64_t i8[3] = {1, 0, 1}, minus[3] = {1, -1, 0};
    const int32_t i4[3] = {1, 0, 1};
    const uint8_t u1[4] = {1, 0, 1, 0}, two[3] = {1, 2, 0};
    const struct {
        const char *descr, *shape;
        const void *values;
        size_t bytes;
    } good[] = {{"<f8", "(3,)", f8, 24},  {"<f4", "(3,)", f4, 12}, {"<f2", "(3,)", f2, 6},
                {"<i8", "(3,)", i8, 24},  {"<i4", "(3,)", i4, 12}, {"<u8", "(3,)", i8, 24},
                {"|b1", "(3,)", u1, 3},   {"|u1", "(3,)", u1, 3},  {"<f4", "(1, 3)", f4, 12},
                {"<f8", "(3, 1)", f8, 24}},
      bad[] = {{"<f8", "(3,)", half, 24},  {"<f8", "(3,)", nan, 24}, {"<i8", "(3,)", minus, 24},
               {"<u8", "(3,)", minus, 24}, {"|u1", "(3,)", two, 3},  {"|u1", "(4,)", u1, 4},
               {"|u1", "(2,)", u1, 2},     {"|u1", "()", u1, 1},     {"|u1", "(3,)", u1, 2},
               {"<i2", "(3,)", f2, 6},     {">f4", "(3,)", f4, 12},  {"|O", "(3,)", u1, 3}};
    static const uint8_t want[3] = {1, 0, 1};
    struct seen v;
    good_set("multilabel\n");
    put("s/classnames.txt", "a cat\na dog\na bird\n");
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int n = read_npy(&v, good[i].descr, good[i].shape, good[i].values, good[i].bytes);
        ok(n == 1 && !memcmp(v.targets[0], want, 3), "labels of %s %s%s%s", good[i].descr,
           good[i].shape, n < 0 ? ": " : "", n < 0 ? e.text : "");
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ok(read_npy(&v, bad[i].descr, bad[i].shape, bad[i].values, bad[i].bytes) < 0 &&
               strstr(e.text, "s/test/0.tar': sample 's0000000'") && strstr(e.text, "npy"),
           "refused: %s", e.text);
}

// What is wrong with the folder is named in one line; `file` and `what` stand in it.
static void refused(const char *file, const char *what)
{
    struct seen v;
    int n = read_set(&v);
    const char *at = n < 0 ? strstr(e.text, file) : NULL;
    ok(at && strstr(e.text, what) && !strchr(e.text, '\n'), "%s", n < 0 ? e.text : "taken");
    ok(at && !strstr(at + 1, file), "names the file once");
}

static void test_wrong_folders(void)
{
    static const char *const counts[] = {"0\n",   "-1\n",  "one\n",       "",
                                         "1.5\n", "1 2\n", "9999999999\n"};
    static const char *const labels[] = {"2", "-1", "x", "", "1x", "99999999999999999999"};
    struct eval_set s;
    good_set(NULL);
    ok(eval_set_open(&s, in_dir("nowhere"), NULL, NULL, &e) && strstr(e.text, "nowhere"), "%s",
       e.text);
    unlink(in_dir("s/classnames.txt"));
    refused("classnames.txt", "No such file");
    put("s/classnames.txt", "\n \n");
    refused("s/classnames.txt", "no class names");
    good_set(NULL);
    unlink(in_dir("s/zeroshot_classification_templates.txt"));
    refused("zeroshot_classification_templates.txt", "No such file");
    put("s/zeroshot_classification_templates.txt", "a photo of c\n");
    refused("s/zeroshot_classification_templates.txt",
            "line 1: template 'a photo of c' has no {c}");
    good_set("detection\n");
    refused("dataset_type.txt", "type 'detection' is not known");
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        good_set(NULL);
        put("s/test/nshards.txt", counts[i]);
        refused("s/test/nshards.txt", "is not a number of shards");
    }
    unlink(in_dir("s/test/nshards.txt"));
    refused("s/test/nshards.txt", "No such file");
    good_set(NULL);
    put("s/test/nshards.txt", "2\n");
    unlink(in_dir("s/test/1.tar"));
    refused("s/test/1.tar", "No such file");
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++) {
        good_set(NULL);
        put_texts("0.tar", "cls", "1", labels[i]);
        refused("s/test/0.tar", "sample 's0000001'");
    }
    good_set(NULL);
    put_texts("0.tar", "txt", "1", "0");
    refused("s/test/0.tar", "no cls");
    good_set("retrieval\n");
    put_texts("0.tar", "txt", "one\ntwo", "three\nfo\xffur");
    refused("s/test/0.tar", "sample 's0000001': caption 2 of txt is not UTF-8");
    good_set(NULL);
    put("s/test/0.tar", "this is no archive, by no means");
    refused("s/test/0.tar", "tar");
    good_set(NULL);
    if (!truncate(in_dir("s/test/0.tar"), 700))
        refused("s/test/0.tar", "truncated");
    char digest[DIGEST_HEX];
    good_set(NULL);
    put("s/test/nshards.txt", "2\n");
    ok(!eval_set_open(&s, in_dir("s"), NULL, NULL, &e) && eval_set_digest(&s, "test", digest, &e) &&
           strstr(e.text, "1.tar"),
       "digest: %s", e.text);
    size_t n = 1;
    ok(!eval_set_shards(&s, "train", &n, &e) && n == 0, "no such split");
    eval_set_close(&s);
}

static void test_templates(void)
{
    static const char *const cases[][3] = {{"a {c} of {c}", "b", "a b of b"},
                                           {"{c}", "{c}", "{c}"},
                                           {"{", "b", "{"},
                                           {"{c", "b", "{c"},
                                           {"{c}", "", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = eval_fill_template(cases[i][0], cases[i][1], &e);
        ok(!strcmp(text, cases[i][2]), "'%s' with '%s': '%s'", cases[i][0], cases[i][1], text);
        free(text);
    }
}

static void remove_all(void)
{
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    if (system(command))
        printf("# '%s' is left\n", dir);
}

int main(void)
{
    if (!mkdtemp(dir)) {
        ok(false, "no folder for the sets");
        return tap_done();
    }
    test_templates();
    test_labels();
    test_multilabel_types();
    test_wrong_folders();
    remove_all();
    return tap_done();
}
