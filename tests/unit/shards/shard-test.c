// SPDX-License-Identifier: Apache-2.0
// Shards of tests/data/shards and small ones made here, header by header.
#include "shards/shard.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unit/tap.h"

#define DATA "tests/data/shards/"

static char *text; // "key:ext,ext[flags] ..." of all samples of the last read, then the error
static struct err err;

static int read_all(struct shard *sh)
{
    struct shard_sample s;
    size_t size;
    int n = 0, rc;
    free(text);
    FILE *f = open_memstream(&text, &size);
    while ((rc = shard_next(sh, &s, &err)) > 0) {
        fprintf(f, "%s%s:", n++ ? " " : "", s.key);
        for (size_t i = 0; i < s.n_members; i++)
            fprintf(f, "%s%s", i ? "," : "", s.members[i].ext);
        if (s.flags)
            fprintf(f, "[%u]", s.flags);
    }
    if (rc < 0)
        fprintf(f, " error %s", err.text);
    fclose(f);
    return rc < 0 ? -1 - n : n; // an error after n samples
}

static int count(const char *path)
{
    struct shard *sh = shard_open(path, NULL, &err);
    if (!sh)
        return -1000;
    int n = read_all(sh), again = 0;
    struct shard_sample s;
    again = shard_next(sh, &s, &err);
    shard_close(sh);
    return (n < 0) == (again < 0) && again <= 0 ? n : -2000;
}

static void test_files(void)
{
    ok(count(DATA "00002.tar") == 4, "4 samples");
    ok(strncmp(text, "000020000:jpg,json,txt 000020001:jpg,json,txt", 45) == 0, "keys and parts");
    ok(count(DATA "no-end-blocks.tar") == 4, "no end blocks");
    ok(count(DATA "pax-long-names.tar") == 4, "pax names");
    ok(strstr(text, "/000000003:jpg,json,txt") != NULL, "long key kept whole");
    ok(count(DATA "gnu-long-names.tar") == 4, "GNU names");
    ok(count(DATA "dirs-and-links.tar") == 4, "folders and links passed over");
    ok(strncmp(text, "d/000000000:jpg,json,txt ", 25) == 0, "./ dropped");
    ok(count(DATA "zero-byte.tar") == 0, "zero bytes: no samples");
    ok(count(DATA "garbage.tar") == -1, "not a tar");
    ok(strcmp(err.text, "record 0: not a tar archive") == 0, "says so: %s", err.text);
    ok(count(DATA "truncated-member.tar") == -4, "cut member: 3 samples, then an error");
    ok(strncmp(err.text, "record 3: truncated", 19) == 0, "says so: %s", err.text);
    ok(count(DATA "truncated-header.tar") == -4, "cut header: 3 samples, then an error");
    ok(strncmp(err.text, "record 3: truncated", 19) == 0, "says so: %s", err.text);
    ok(count(DATA "bad-checksum.tar") == -4, "bad checksum: 3 samples, then an error");
    ok(strstr(err.text, "record 3: damaged header") == err.text, "says so: %s", err.text);
    ok(count(DATA "missing.tar") == -1000, "no such file: %s", err.text);
    ok(count("tests/data") == -1000, "a folder: %s", err.text);
}

// Passing over gives the keys and the end that reading gives.
static void test_pass_over(void)
{
    static const char *const files[] = {"00002",        "truncated-member", "truncated-header",
                                        "bad-checksum", "no-end-blocks",    "pax-long-names"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[100];
        struct shard_sample s;
        snprintf(path, sizeof path, DATA "%s.tar", files[i]);
        int want = count(path), n = 0, rc;
        struct shard_limits lim = {.scan = true};
        struct shard *sh = shard_open(path, i % 2 ? &lim : NULL, &err);
        shard_pass_over(sh, true);
        while ((rc = shard_next(sh, &s, &err)) > 0)
            n++;
        ok((rc < 0 ? -1 - n : n) == want, "%s passed over: %d, %s", files[i], n,
           rc ? err.text : "");
        shard_close(sh);
    }
    struct shard_sample s;
    struct shard *sh = shard_open(DATA "00002.tar", NULL, &err);
    shard_pass_over(sh, true);
    ok(shard_next(sh, &s, &err) == 1 && s.image && s.image->size == 0, "no bytes");
    shard_pass_over(sh, false);
    ok(shard_next(sh, &s, &err) == 1 && s.image && s.image->size > 1000, "bytes again");
    shard_close(sh);
}

static void test_bytes(void)
{
    struct shard_sample s;
    struct shard *sh = shard_open(DATA "00002.tar", NULL, &err);
    ok(sh && shard_next(sh, &s, &err) == 1, "first sample");
    ok(s.index == 0 && s.image && s.image->size == 4583 && s.image->data[0] == 0xff, "picture");
    ok(s.caption && s.caption->size == 31 && strlen((char *)s.caption->data) == 31, "caption");
    ok(s.json && s.json->size == 747 && s.json->data[0] == '{', "json");
    shard_close(sh);
    int keep = dup(0), fd = open(DATA "00002.tar", O_RDONLY);
    dup2(fd, 0);
    ok(count("-") == 4, "standard input");
    dup2(keep, 0);
    close(fd);
    close(keep);
}

// An archive in memory made of `names`, each member holding its name.
struct made {
    char data[1 << 20];
    size_t size;
};

static void make(struct made *m, int filter, const char *const *names)
{
    struct archive *a = archive_write_new();
    struct archive_entry *en = archive_entry_new();
    archive_write_add_filter(a, filter);
    archive_write_set_format_ustar(a);
    archive_write_open_memory(a, m->data, sizeof m->data, &m->size);
    for (; *names; names++) {
        archive_entry_clear(en);
        archive_entry_set_pathname(en, *names);
        archive_entry_set_filetype(en, AE_IFREG);
        archive_entry_set_perm(en, 0644);
        archive_entry_set_size(en, (la_int64_t)strlen(*names));
        archive_write_header(a, en);
        archive_write_data(a, *names, strlen(*names));
    }
    archive_write_close(a);
    archive_entry_free(en);
    archive_write_free(a);
}

static int read_made(const struct made *m, const struct shard_limits *lim)
{
    struct shard *sh = shard_open_memory(m->data, m->size, lim, &err);
    int n = read_all(sh);
    shard_close(sh);
    return n;
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_grouping(struct made *m)
{
    make(m, ARCHIVE_FILTER_NONE, LIST("a.txt", "a.JPG", "a.thumb.jpg", "b.jpg", "d.e/c.Seg.png"));
    ok(read_made(m, NULL) == 3, "runs of a key");
    ok(strcmp(text, "a:txt,jpg,thumb.jpg b:jpg d.e/c:seg.png") == 0, "any order: %s", text);
    make(m, ARCHIVE_FILTER_NONE,
         LIST("__m__/a.jpg", "__x__", "__y__.json", "__z.txt", "README", ".a.jpg", "d/.b.jpg", "e.",
              "a/__k__/f.jpg"));
    read_made(m, NULL);
    ok(strstr(text, "__z:txt a/__k__/f:jpg") != NULL, "names passed over: %s", text);
    make(m, ARCHIVE_FILTER_NONE, LIST("a.jpg", "a.txt", "a.JPG", "a.txt", "b.jpg", "a.json"));
    ok(read_made(m, NULL) == 4, "a repeated extension starts a sample");
    ok(strcmp(text, "a:jpg,txt a:jpg,txt[1] b:jpg a:json[1]") == 0, "flags: %s", text);
    struct shard_limits lim = {.keys = shard_keys_new(&err)};
    read_made(m, &lim);
    make(m, ARCHIVE_FILTER_NONE, LIST("a.jpg", "c.jpg", "c.jpg"));
    read_made(m, &lim);
    ok(strcmp(text, "a:jpg[2] c:jpg c:jpg[1]") == 0, "keys of other shards: %s", text);
    shard_keys_free(lim.keys);
    make(m, ARCHIVE_FILTER_NONE, LIST("a.webp", "a.jpeg", "a.png", "a.thumb.jpg"));
    struct shard *sh = shard_open_memory(m->data, m->size, NULL, &err);
    struct shard_sample s;
    ok(shard_next(sh, &s, &err) == 1 && strcmp(s.image->ext, "png") == 0, "png before jpeg, webp");
    ok(strcmp((const char *)shard_find(&s, "jpeg")->data, "a.jpeg") == 0, "its bytes");
    ok(!s.caption && !s.json && !shard_find(&s, "cls"), "what is not there");
    shard_close(sh);
}

static void test_filters(struct made *m)
{
    static const int filters[] = {ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_BZIP2, ARCHIVE_FILTER_XZ,
                                  ARCHIVE_FILTER_ZSTD};
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        make(m, filters[i], LIST("a.jpg", "a.txt", "b.jpg"));
        ok(read_made(m, NULL) == 2, "filter %zu", i);
        m->size = m->size * 2 / 3;
        ok(read_made(m, NULL) < 0, "filter %zu, cut: %s", i, err.text);
    }
}

static void test_limits(struct made *m)
{
    make(m, ARCHIVE_FILTER_NONE, LIST("a.jpg", "a.longer-than-ten", "b.jpg", "b.txt", "b.cls"));
    struct shard_limits lim = {.member_bytes = 10};
    ok(read_made(m, &lim) == 2 && strcmp(text, "a:jpg[4] b:jpg,txt,cls") == 0, "member: %s", text);
    lim = (struct shard_limits){.sample_bytes = 10};
    ok(read_made(m, &lim) == 2 && strcmp(text, "a:jpg[4] b:jpg,txt[4]") == 0, "sample: %s", text);
    lim = (struct shard_limits){.name_bytes = 10};
    ok(read_made(m, &lim) == -2, "name: %s", err.text);
    lim = (struct shard_limits){.members = 2};
    ok(read_made(m, &lim) == -2, "members: %s", err.text);
    make(m, ARCHIVE_FILTER_NONE, LIST("a.jpg", "a.txt", "b.jpg", "b.txt"));
    m->size = 512 * 6; // right behind b.jpg: no error can be seen
    ok(read_made(m, NULL) == 2, "cut at a block: like no end blocks");
    m->size += 100; // inside the header of b.txt
    ok(read_made(m, NULL) == -2, "half a run is not returned: %s", text);
    make(m, ARCHIVE_FILTER_NONE, LIST("a.jpg"));
    memcpy(m->data + 124, "77777777777", 11);
    unsigned sum = 8 * 32;
    for (int i = 0; i < 512; i++)
        sum += i >= 148 && i < 156 ? 0 : (unsigned char)m->data[i];
    snprintf(m->data + 148, 8, "%06o", sum);
    ok(read_made(m, NULL) == -1, "a size of 8 GiB in 10 kB: %s", err.text);
}

int main(void)
{
    struct made *m = calloc(1, sizeof *m);
    test_files();
    test_pass_over();
    test_bytes();
    test_grouping(m);
    test_filters(m);
    test_limits(m);
    free(m);
    free(text);
    return tap_done();
}
