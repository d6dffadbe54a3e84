// SPDX-License-Identifier: Apache-2.0
// The order of a run: every slice of the output sequence is the same slice of the whole.
#include "read/read.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/npy-write.h"
#include "base/path.h"
#include "read/keep.h"
#include "read/order.h"
#include "unit/tap.h"

enum { MAX = 400 };

static char folder[] = "/tmp/read-test.XXXXXX";
static struct err err;

// What came out: samples as shard * 100 + ordinal, those dropped, and the events.
struct got {
    int n, n_dropped, begun, ended, whole, counted, damaged, skipped;
    uint8_t chain[DIGEST_BYTES]; // of what was skipped and what came
    int seq[MAX], dropped[MAX];
    uint64_t pixels[MAX]; // digest of the pixels
    char keys[10][DIGEST_HEX];
    bool order_good; // begin before, end after the samples of a shard
    bool open[10];
};

static int shard_of(const struct read_shard *s)
{
    return s->name[0] - '0';
}

static int on_begin(void *ctx, struct read_shard *s, struct err *e)
{
    struct got *g = ctx;
    (void)e;
    g->begun++;
    g->order_good &= !g->open[shard_of(s)];
    g->open[shard_of(s)] = true;
    return 0;
}

static int on_sample(void *ctx, struct read_shard *s, const struct samples_record *r, bool bad,
                     struct err *e)
{
    (void)bad;
    struct got *g = ctx;
    (void)e;
    int id = shard_of(s) * 100 + (int)r->ordinal;
    g->order_good &= g->open[shard_of(s)];
    if (sample_left_out(r->status)) {
        g->dropped[g->n_dropped++] = id;
        return 0;
    }
    digest_chain(g->chain, r->key);
    g->pixels[g->n] = r->image ? digest_u64(r->image, r->image_bytes) : 0;
    g->seq[g->n++] = id;
    return 0;
}

static int on_end(void *ctx, struct read_shard *s, struct err *e)
{
    struct got *g = ctx;
    (void)e;
    g->ended++;
    g->whole += s->whole;
    g->counted += s->counted;
    g->damaged += s->damaged;
    g->order_good &= g->open[shard_of(s)];
    g->open[shard_of(s)] = false;
    strcpy(g->keys[shard_of(s)], s->whole ? s->keys : "");
    return 0;
}

static int on_skipped(void *ctx, uint64_t n, const uint8_t chain[DIGEST_BYTES], struct err *e)
{
    struct got *g = ctx;
    (void)e;
    g->order_good &= !g->begun && !g->n;
    g->skipped = (int)n;
    memcpy(g->chain, chain, sizeof g->chain);
    return 0;
}

static struct got *run(const struct read_options *o)
{
    struct got *g = calloc(1, sizeof *g);
    struct read_sink sink = {g, on_begin, on_sample, on_end, on_skipped};
    g->order_good = true;
    if (read_run(o, &sink, &err)) {
        free(g);
        return NULL;
    }
    return g;
}

static void make_shard(int id, int samples, struct shard_list *l)
{
    char path[200], name[40];
    snprintf(path, sizeof path, "%s/%d.tar", folder, id);
    struct archive *a = archive_write_new();
    struct archive_entry *en = archive_entry_new();
    archive_write_set_format_ustar(a);
    archive_write_open_filename(a, path);
    for (int i = 0; i < samples; i++) {
        archive_entry_clear(en);
        snprintf(name, sizeof name, "%d-%d.txt", id, i);
        archive_entry_set_pathname(en, name);
        archive_entry_set_filetype(en, AE_IFREG);
        archive_entry_set_size(en, (la_int64_t)strlen(name));
        archive_write_header(a, en);
        archive_write_data(a, name, strlen(name));
    }
    archive_write_close(a);
    archive_entry_free(en);
    archive_write_free(a);
    if (shard_list_add(l, path, &err))
        exit(1);
}

static bool same(const struct got *whole, int from, const struct got *slice)
{
    return slice && from + slice->n <= whole->n &&
           memcmp(whole->seq + from, slice->seq, (size_t)slice->n * sizeof(int)) == 0;
}

static struct read_options defaults(const struct shard_list *l)
{
    return (struct read_options){
        .shards = l, .captions = true, .n_parts = 1, .limit = READ_ALL, .seed = 1, .threads = 1};
}

// Parts, and runs with their continuations, of one order.
static void test_slices(struct read_options o, const char *what)
{
    struct got *all = run(&o);
    bool good = all && all->order_good && all->begun == all->ended && all->whole == all->begun;
    ok(o.keep || good, "%s: %d samples, all shards whole", what, all ? all->n : -1);
    good = true;
    for (o.n_parts = 2; o.n_parts <= 7; o.n_parts++) {
        int at = 0, dropped = 0;
        for (o.part = 0; o.part < o.n_parts; o.part++) {
            struct got *g = run(&o);
            good = good && same(all, at, g) && g->order_good && g->begun == g->ended &&
                   g->counted == g->ended;
            at += g ? g->n : 0;
            dropped += g ? g->n_dropped : 0;
            free(g);
        }
        good = good && at == all->n && dropped == all->n_dropped;
    }
    ok(good, "%s: parts put together are the whole", what);
    o.part = 0;
    o.n_parts = 1;
    good = true;
    for (int s = 0; s <= all->n + 1; s++) {
        o.skip = 0;
        o.limit = (uint64_t)s;
        struct got *head = run(&o);
        o.skip = (uint64_t)s;
        o.limit = READ_ALL;
        struct got *tail = run(&o);
        int most = s < all->n ? s : all->n;
        good = good && same(all, 0, head) && head->n == most && same(all, most, tail) &&
               tail->n == all->n - most && head->begun == head->ended && tail->order_good;
        good = good && tail->skipped == most && !memcmp(tail->chain, all->chain, sizeof all->chain);
        good = good && head->counted == head->ended && tail->counted == tail->ended;
        good = good && (head->n_dropped + tail->n_dropped == all->n_dropped || s >= all->n);
        free(head);
        free(tail);
    }
    ok(good, "%s: a run and its continuation are the whole", what);
    o.part = 1;
    o.n_parts = 2;
    o.skip = 0;
    struct got *second = run(&o);
    o.skip = 3;
    o.limit = 4;
    struct got *g = run(&o);
    ok(g && g->n == 4 && second && memcmp(second->seq + 3, g->seq, 4 * sizeof(int)) == 0,
       "%s: skip and limit within a part", what);
    free(second);
    free(g);
    free(all);
}

static int by_value(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void test_shuffle(struct read_options o)
{
    struct got *plain = run(&o);
    bool rising = true;
    for (int i = 1; i < plain->n; i++)
        rising &= plain->seq[i] > plain->seq[i - 1];
    ok(rising && plain->n == 60, "no shuffle: the order of the shards");
    o.shuffle = 8;
    struct got *a = run(&o);
    o.threads = 3;
    struct got *b = run(&o);
    ok(memcmp(a->seq, b->seq, sizeof a->seq) == 0, "any number of threads");
    ok(memcmp(plain->keys, a->keys, sizeof a->keys) == 0, "key digests stay those of the tar");
    free(b);
    o.epoch = 1;
    b = run(&o);
    ok(memcmp(a->seq, b->seq, sizeof a->seq) != 0, "another epoch, another order");
    free(b);
    o.epoch = 0;
    o.seed = 2;
    b = run(&o);
    ok(memcmp(a->seq, b->seq, sizeof a->seq) != 0, "another seed, another order");
    qsort(a->seq, (size_t)a->n, sizeof(int), by_value);
    qsort(b->seq, (size_t)b->n, sizeof(int), by_value);
    ok(memcmp(a->seq, plain->seq, sizeof a->seq) == 0 &&
           memcmp(b->seq, plain->seq, sizeof a->seq) == 0,
       "every sample once");
    free(b);
    free(a);
    free(plain);
}

static void write_mask(int id, int rows)
{
    char path[200];
    struct npy_writer w;
    snprintf(path, sizeof path, "%s/%d.npy", folder, id);
    npy_create(&w, path, NPY_U1, 0, NULL, NPY_UNKNOWN, &err);
    for (int i = 0; i < rows; i++)
        npy_write(&w, &(uint8_t){(uint8_t)(i % 3 != 0)}, 1, &err);
    npy_commit(&w, &err);
}

static void test_keep(struct read_options o, const int *sizes, int n)
{
    for (int i = 0; i < n; i++)
        write_mask(i, sizes[i]);
    o.keep = folder;
    struct got *g = run(&o);
    bool good = g != NULL;
    for (int i = 0; g && i < g->n; i++)
        good &= g->seq[i] % 100 % 3 != 0;
    for (int i = 0; g && i < g->n_dropped; i++)
        good &= g->dropped[i] % 100 % 3 == 0;
    ok(good && g->n + g->n_dropped == 60, "masks: %d kept, %d dropped", g ? g->n : -1,
       g ? g->n_dropped : -1);
    free(g);
    test_slices(o, "masks");
    o.shuffle = 8;
    test_slices(o, "masks and shuffle");
    write_mask(0, sizes[0] + 1);
    ok(!run(&o), "mask too long: %s", err.text);
    write_mask(0, sizes[0] - 1);
    ok(!run(&o), "mask too short: %s", err.text);
    char path[200];
    snprintf(path, sizeof path, "%s/0.npy", folder);
    unlink(path);
    ok(!run(&o), "no mask: %s", err.text);
    ok(path_stem("00000.tar") == 5 && path_stem("a.b.tar.gz") == 3 && path_stem("x.tgz") == 1 &&
           path_stem(".tar") == 4 && path_stem("x") == 1,
       "stems");
}

// Random crops and flips belong to the sample, not to the order.
static void test_choices(void)
{
    struct shard_list l = {0};
    shard_list_add(&l, "tests/data/shards/00002.tar", &err);
    struct read_options o = defaults(&l);
    o.images = SAMPLES_PIXELS;
    o.picture = (struct read_picture){.crop = crop_params_default, .max_pixels = 1 << 20};
    o.picture.crop.size = 32;
    o.picture.crop.random = o.picture.crop.flip = true;
    struct got *a = run(&o);
    o.shuffle = 3;
    o.threads = 2;
    struct got *b = run(&o);
    bool good = a && b && a->n == 4 && b->n == 4;
    for (int i = 0; good && i < 4; i++)
        good = a->pixels[b->seq[i] % 100] == b->pixels[i];
    ok(good, "crops do not depend on the order");
    o.epoch = 1;
    struct got *c = run(&o);
    ok(c && memcmp(b->pixels, c->pixels, sizeof b->pixels) != 0, "but on the epoch");
    free(a);
    free(b);
    free(c);
    shard_list_release(&l);
}

static void test_check(void)
{
    struct shard_list l = {0};
    shard_list_add(&l, "tests/data/shards/{truncated-member,00002,zero-byte}.tar", &err);
    struct read_options o = defaults(&l);
    ok(read_check(&o, &err) == 0, "shards are there");
    shard_list_add(&l, "-", &err);
    ok(read_check(&o, &err) == 0, "standard input too");
    o.n_parts = 2;
    ok(read_check(&o, &err) == -1, "%s", err.text);
    o.n_parts = 1;
    o.keep = folder;
    ok(read_check(&o, &err) == -1, "%s", err.text);
    o.keep = NULL;
    shard_list_add(&l, "missing.tar", &err);
    ok(read_check(&o, &err) == -1, "%s", err.text);
    shard_list_release(&l);
}

int main(void)
{
    static const int sizes[] = {17, 0, 1, 30, 12};
    struct shard_list l = {0};
    if (!mkdtemp(folder))
        return 1;
    for (int i = 0; i < 5; i++)
        make_shard(i, sizes[i], &l);
    struct read_options o = defaults(&l);
    test_slices(o, "in order");
    static const uint64_t windows[] = {1, 2, 7, 8, 59, 60, 1000};
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        char what[40];
        snprintf(what, sizeof what, "window %d", (int)windows[i]);
        o.shuffle = windows[i];
        test_slices(o, what);
    }
    o.shuffle = 0;
    test_shuffle(o);
    test_keep(o, sizes, 5);
    test_choices();
    test_check();
    ok(read_order_part(10, 0, 3) == 0 && read_order_part(10, 1, 3) == 4 &&
           read_order_part(10, 2, 3) == 7 && read_order_part(10, 3, 3) == 10,
       "parts of 10");
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", folder);
    shard_list_release(&l);
    return system(command) ? 1 : tap_done();
}
