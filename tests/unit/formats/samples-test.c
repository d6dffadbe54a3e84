// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "formats/samples-write.h"
#include "formats/samples-format.h"
#include "unit/tap.h"

static struct err e;
static char path[] = "/tmp/samples-test.XXXXXX";

enum { SIDE = 5, PIXELS = SIDE * SIDE * 3 };

static struct samples_header header_of(enum samples_images images)
{
    struct samples_header h;
    samples_header_init(&h, "shard-read");
    h.images = images;
    h.size = images == SAMPLES_PIXELS ? SIDE : 0;
    h.seed = UINT64_MAX;
    h.epoch = 3;
    h.has_norm = true;
    h.mean[0] = 0.48145466;
    h.std[2] = 0.27577711;
    return h;
}

static uint8_t pixels[PIXELS];
static const char long_caption[] = "with a\0NUL inside";

static const struct samples_record records[] = {
    {.shard = 0,
     .ordinal = 0,
     .key = "000000000",
     .caption = "a cat",
     .caption_bytes = 5,
     .width = 256,
     .height = 171,
     .image = pixels,
     .image_bytes = PIXELS},
    {.shard = 1,
     .ordinal = 4,
     .key = "dir/b",
     .status = SAMPLE_BAD_IMAGE,
     .reason = "premature end",
     .caption = "",
     .caption_bytes = 0},
    {.shard = 0,
     .ordinal = 1,
     .key = "000000001",
     .status = SAMPLE_NO_CAPTION,
     .image = pixels,
     .image_bytes = PIXELS},
    {.shard = 1,
     .ordinal = 5,
     .key = "c",
     .caption = long_caption,
     .caption_bytes = sizeof long_caption - 1,
     .image = pixels,
     .image_bytes = PIXELS},
};
enum { N = sizeof records / sizeof *records };

static int put_records(struct samples_writer *w)
{
    uint32_t a, b;
    char keys[DIGEST_HEX];
    digest_bytes("000000000\0"
                 "000000001",
                 20, keys);
    if (samples_begin_shard(w, "x/y/00000.tar", &a, &e) ||
        samples_begin_shard(w, "00001.tar", &b, &e))
        return -1;
    for (int i = 0; i < N; i++) {
        if (samples_write(w, &records[i], &e))
            return -1;
        if (i == 2 && samples_end_shard(w, a, SAMPLES_END_WHOLE, 2, keys, &e))
            return -1;
    }
    return samples_end_shard(w, b, SAMPLES_END_PART, 6, NULL, &e) || samples_finish(w, &e) ? -1 : 0;
}

static int write_stream(const char *to, const struct samples_header *h)
{
    struct out o;
    if (out_open(&o, to, &e))
        return -1;
    struct samples_writer *w = samples_writer_new(&o, h, &e);
    int rc = w && put_records(w) == 0 ? out_commit(&o, &e) : -1;
    samples_writer_free(w);
    out_abort(&o);
    return rc;
}

static bool same_record(const struct samples_record *a, const struct samples_record *b)
{
    bool text = strcmp(a->key, b->key) == 0 && strcmp(a->reason, b->reason ? b->reason : "") == 0 &&
                !a->caption == !b->caption && a->caption_bytes == b->caption_bytes &&
                (!a->caption || memcmp(a->caption, b->caption, a->caption_bytes + 1) == 0);
    bool image = !a->image == !b->image && a->image_bytes == b->image_bytes &&
                 (!a->image || memcmp(a->image, b->image, a->image_bytes) == 0);
    return text && image && a->status == b->status && a->ordinal == b->ordinal &&
           a->width == b->width && a->height == b->height;
}

static void read_stream(struct samples_reader *r, int times)
{
    struct samples_record s;
    int same = 0, aligned = 0, n = 0;
    while (samples_next(r, &s, &e) == 1) {
        const struct samples_record *want = &records[n % N];
        same += same_record(&s, want) && s.row == (uint64_t)n &&
                s.shard == want->shard + 2 * (uint32_t)(n / N) &&
                strcmp(s.shard_name, want->shard ? "00001.tar" : "00000.tar") == 0;
        aligned += (uintptr_t)s.image % 64 == 0;
        n++;
    }
    ok(n == times * N && same == n && aligned == n, "%d samples, all as they were written", n);
    ok(samples_next(r, &s, &e) == 0 && samples_count(r) == (uint64_t)n, "the end stays the end");
    ok(samples_n_shards(r) == 2 * (size_t)times, "shards");
    const struct samples_shard *a = samples_shard(r, 0), *b = samples_shard(r, 1);
    ok(a->ended && a->whole && a->rows == 2 && digest_is_hex(a->keys), "a whole shard");
    ok(b->ended && !b->whole && b->rows == 6 && !*b->keys, "a shard in part");
}

static void test_round_trip(void)
{
    struct samples_header h = header_of(SAMPLES_PIXELS);
    char keys[DIGEST_HEX], want[DIGEST_HEX];
    ok(write_stream(path, &h) == 0, "written");
    struct samples_reader *r = samples_open(path, &e);
    ok(r != NULL, "opened");
    const struct samples_header *g = samples_header(r);
    ok(g->size == SIDE && g->seed == UINT64_MAX && g->epoch == 3 && g->limit == UINT64_MAX &&
           g->n_parts == 1 && g->has_norm && g->mean[0] == 0.48145466 && g->std[2] == 0.27577711 &&
           strcmp(g->resize, "shortest") == 0 && strcmp(g->tool, "shard-read") == 0,
       "the header is the same");
    read_stream(r, 1);
    samples_keys(r, keys);
    digest_bytes("000000000\0dir/b\0"
                 "000000001\0c",
                 28, want);
    ok(strcmp(keys, want) == 0, "key digest");
    samples_close(r);
}

static void test_concatenated(void)
{
    struct map m;
    map_open(&m, path, &e);
    uint8_t *two = malloc(2 * m.n + 100);
    memcpy(two, m.data, m.n);
    memcpy(two + m.n, m.data, m.n);
    struct samples_reader *r = samples_open_memory(two, 2 * m.n, &e);
    read_stream(r, 2);
    samples_close(r);

    struct samples_record s;
    memcpy(two + m.n, "something else", 14);
    r = samples_open_memory(two, m.n + 14, &e);
    int n = 0;
    while (samples_next(r, &s, &e) == 1)
        n++;
    ok(n == N && samples_next(r, &s, &e) == -1 && strstr(e.text, "follows the trailer"),
       "rubbish after the trailer: %s", e.text);
    samples_close(r);

    struct samples_header h = header_of(SAMPLES_PIXELS);
    h.fast = true;
    char other[] = "/tmp/samples-test.XXXXXX";
    close(mkstemp(other));
    write_stream(other, &h);
    struct map m2;
    map_open(&m2, other, &e);
    two = realloc(two, m.n + m2.n);
    memcpy(two + m.n, m2.data, m2.n);
    r = samples_open_memory(two, m.n + m2.n, &e);
    while (samples_next(r, &s, &e) == 1)
        ;
    ok(samples_next(r, &s, &e) == -1 && strstr(e.text, "record 4") && strstr(e.text, "'fast'"),
       "another format: %s", e.text);
    samples_close(r);
    map_close(&m);
    map_close(&m2);
    unlink(other);
    free(two);
}

// Cut anywhere, or with any byte changed, the stream is refused: never taken for whole.
static void test_damage(void)
{
    struct map m;
    struct samples_record s;
    map_open(&m, path, &e);
    int cut = 0, says = 0, changed = 0;
    for (size_t n = 0; n < m.n; n++) {
        uint8_t *p = malloc(n + 1);
        memcpy(p, m.data, n);
        struct samples_reader *r = samples_open_memory(p, n, &e);
        while (r && samples_next(r, &s, &e) == 1)
            ;
        cut += !r || samples_next(r, &s, &e) == -1;
        says += strstr(e.text, "truncated") || n == 0;
        samples_close(r);
        free(p);
    }
    ok(cut == (int)m.n && says == (int)m.n, "cut at any of %zu places: an error", m.n);
    uint8_t *p = malloc(m.n);
    for (size_t i = 0; i < m.n; i++) {
        memcpy(p, m.data, m.n);
        p[i] ^= 0x10;
        struct samples_reader *r = samples_open_memory(p, m.n, &e);
        while (r && samples_next(r, &s, &e) == 1)
            ;
        changed += !r || samples_next(r, &s, &e) == -1;
        samples_close(r);
    }
    ok(changed == (int)m.n, "any byte changed: an error");
    memcpy(p, m.data, m.n);
    p[8] = 2;
    ok(!samples_open_memory(p, m.n, &e) && strstr(e.text, "version 2"), "version: %s", e.text);
    ok(!samples_open_memory("\x93NUMPY\1\0", 8, &e) && strstr(e.text, "not a samples stream"),
       "another magic");
    struct samples_reader *r = samples_open_memory(m.data, m.n - 60, &e);
    while (samples_next(r, &s, &e) == 1)
        ;
    ok(strcmp(e.text, "memory: record 4: truncated") == 0, "%s", e.text);
    samples_close(r);
    free(p);
    map_close(&m);
}

// A block whose length says 1 GiB must not cost 1 GiB before the bytes are there.
static void test_hostile_length(void)
{
    struct samples_header h = header_of(SAMPLES_RAW);
    struct map m;
    struct samples_record s;
    struct out o;
    out_open(&o, path, &e);
    struct samples_writer *w = samples_writer_new(&o, &h, &e);
    uint32_t id;
    samples_begin_shard(w, "a.tar", &id, &e);
    samples_writer_free(w);
    out_commit(&o, &e);
    map_open(&m, path, &e);
    uint8_t *p = calloc(1, m.n + SAMPLES_BLOCK + 10);
    memcpy(p, m.data, m.n);
    samples_put32(p + m.n, SAMPLES_SAMPLE);
    samples_put64(p + m.n + 8, 1 << 30);
    struct samples_reader *r = samples_open_memory(p, m.n + SAMPLES_BLOCK + 10, &e);
    ok(r && samples_next(r, &s, &e) == -1 && strstr(e.text, "truncated"), "a length of 1 GiB");
    samples_close(r);
    samples_put64(p + m.n + 8, UINT64_MAX - 7);
    r = samples_open_memory(p, m.n + SAMPLES_BLOCK + 10, &e);
    ok(r && samples_next(r, &s, &e) == -1 && strstr(e.text, "corrupt"), "a length that overflows");
    samples_close(r);
    map_close(&m);
    free(p);
}

static void test_writer_refuses(void)
{
    struct samples_header h = header_of(SAMPLES_PIXELS);
    struct out o;
    uint32_t id;
    out_open(&o, path, &e);
    struct samples_writer *w = samples_writer_new(&o, &h, &e);
    ok(samples_write(w, &records[0], &e) == -1, "a sample before its shard");
    samples_begin_shard(w, "a.tar", &id, &e);
    struct samples_record s = records[0];
    s.image_bytes--;
    ok(samples_write(w, &s, &e) == -1 && strstr(e.text, "does not fit"), "too few pixels");
    ok(samples_end_shard(w, 0, SAMPLES_END_WHOLE, 1, NULL, &e) == -1, "whole without key digest");
    ok(samples_begin_shard(w, "dir/", &id, &e) == -1, "a shard without name");
    samples_writer_free(w);
    h.images = SAMPLES_NO_IMAGES;
    ok(!samples_writer_new(&o, &h, &e), "a size without pixels");
    h.size = 0;
    strcpy(h.tool, "two words");
    ok(!samples_writer_new(&o, &h, &e), "a name that is not a word");
    out_abort(&o);
}

static void test_pipe(void)
{
    struct samples_header h = header_of(SAMPLES_PIXELS);
    int fd[2], status;
    if (pipe(fd))
        exit(1);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fd[1], STDOUT_FILENO);
        close(fd[0]);
        _exit(write_stream("-", &h) ? 1 : 0);
    }
    close(fd[1]);
    struct samples_reader *r = samples_open_fd(fd[0], "pipe", &e);
    read_stream(r, 1);
    samples_close(r);
    close(fd[0]);
    waitpid(pid, &status, 0);
    ok(status == 0, "through a pipe");
}

int main(void)
{
    for (int i = 0; i < PIXELS; i++)
        pixels[i] = (uint8_t)(i * 7);
    close(mkstemp(path));
    ok(sample_status_of("bad-utf8") == SAMPLE_BAD_UTF8 && sample_status_of("?") == -1 &&
           strcmp(sample_status_name(SAMPLE_NO_IMAGE), "no-image") == 0,
       "names of statuses");
    test_round_trip();
    test_concatenated();
    test_damage();
    test_hostile_length();
    test_writer_refuses();
    test_pipe();
    unlink(path);
    return tap_done();
}
