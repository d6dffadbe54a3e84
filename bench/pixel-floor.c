// SPDX-License-Identifier: Apache-2.0
// pixel-floor SIZE EVAL_SET SHARD...: the floor that a model has to beat. Each picture of the set
// gets the name of the nearest picture of the shards, by Euclidean distance on raw pixels at SIZE x
// SIZE; it is right when that picture's caption is the class's name or begins with it and a comma.
// Prints "SET TAB nearest neighbour on pixels TAB share".
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/set.h"
#include "base/mem.h"
#include "system/threads.h"
#include "read/read.h"

struct picture {
    uint8_t *pixels;
    char *caption;
};

struct bank {
    struct picture *item;
    size_t n, cap, bytes;
    size_t tested, hits;
    const struct eval_set *set;
};

static int add_training(void *ctx, struct read_shard *s, const struct samples_record *r, bool bad,
                        struct err *e)
{
    struct bank *b = ctx;
    (void)s, (void)bad;
    if (!r->image || !r->caption)
        return 0;
    void *p = b->item;
    if (mem_grow(&p, &b->cap, b->n + 1, sizeof *b->item, e))
        return -1;
    b->item = p;
    struct picture *k = &b->item[b->n];
    k->pixels = mem_alloc(b->bytes, 1, e);
    k->caption = mem_strdup(r->caption, e);
    if (!k->pixels || !k->caption)
        return -1;
    memcpy(k->pixels, r->image, b->bytes);
    b->n++;
    return 0;
}

static int nothing(void *ctx, struct read_shard *s, struct err *e)
{
    (void)ctx, (void)s, (void)e;
    return 0;
}

// Sums of 4096 squares fit in 32 bits, which the compiler can vectorise.
#ifndef __clang__ // which vectorises at O2 too
__attribute__((optimize("O3")))
#endif
static uint64_t
distance(const uint8_t *a, const uint8_t *b, size_t n)
{
    enum { CHUNK = 4096 };
    uint64_t sum = 0;
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t end = n - at < CHUNK ? n : at + CHUNK;
        uint32_t part = 0;
        for (size_t i = at; i < end; i++) {
            int d = a[i] - b[i];
            part += (uint32_t)(d * d);
        }
        sum += part;
    }
    return sum;
}

// "dog face, dog" has the parts "dog face" and "dog".
static bool has_part(const char *caption, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = caption; p;) {
        if (strncmp(p, name, n) == 0 && (p[n] == '\0' || p[n] == ','))
            return true;
        p = strstr(p, ", ");
        p = p ? p + 2 : NULL;
    }
    return false;
}

static int test_one(void *user, const struct eval_sample *s, struct err *e)
{
    struct bank *b = user;
    const struct picture *best = NULL;
    uint64_t least = UINT64_MAX;
    (void)e;
    if (!s->pixels)
        return 0;
    for (size_t i = 0; i < b->n; i++) {
        uint64_t d = distance(s->pixels, b->item[i].pixels, b->bytes);
        if (d < least) {
            least = d;
            best = &b->item[i];
        }
    }
    b->tested++;
    b->hits += best && has_part(best->caption, b->set->classes.lines[s->label]);
    return 0;
}

int main(int argc, char **argv)
{
    struct err e = {.text = ""};
    struct shard_list shards = {0};
    struct bank b = {0};
    struct eval_set set;
    if (argc < 4) {
        fprintf(stderr, "usage: pixel-floor SIZE EVAL_SET SHARD...\n");
        return 2;
    }
    int size = atoi(argv[1]);
    struct read_picture picture = {.crop = crop_params_default, .max_pixels = 100000000};
    picture.crop.size = size;
    b.bytes = (size_t)size * (size_t)size * 3;
    int rc = eval_set_open(&set, argv[2], NULL, NULL, &e);
    for (int i = 3; rc == 0 && i < argc; i++)
        rc = shard_list_add(&shards, argv[i], &e);
    const struct read_options o = {.shards = &shards,
                                   .images = SAMPLES_PIXELS,
                                   .captions = true,
                                   .picture = picture,
                                   .n_parts = 1,
                                   .limit = READ_ALL,
                                   .threads = threads_cpus()};
    const struct read_sink sink = {&b, nothing, add_training, nothing, NULL};
    b.set = &set;
    if (rc == 0 && read_run(&o, &sink, &e) == 0 &&
        eval_set_read(&set, "test", &picture, threads_cpus(), test_one, &b, &e) == 0) {
        printf("%s\tnearest neighbour on %d x %d pixels, acc1\t%.1f\n", set.name, size, size,
               100.0 * (double)b.hits / (double)b.tested);
        return 0;
    }
    fprintf(stderr, "pixel-floor: %s\n", e.text);
    return 1;
}
