// SPDX-License-Identifier: Apache-2.0
// pixels SIZE TAR...: pictures (JPEG, PNG, WebP) a second of one thread's processor time, decoding
// alone and up to the n x n pixels with each kernel, in turns; the best of five.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <archive.h>
#include <archive_entry.h>

#include "image/crop.h"
#include "base/mem.h"
#include "base/isa.h"
#include "image/resize-pass.h"

struct picture {
    uint8_t *bytes;
    size_t n;
};

struct pictures {
    struct picture *at;
    size_t n, cap;
};

static void die(const char *what)
{
    fprintf(stderr, "pixels: %s\n", what);
    exit(1);
}

static bool known(const char *extension)
{
    static const char *const all[] = {"jpg", "jpeg", "png", "webp"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(extension, all[i]) == 0)
            return true;
    return false;
}

static void load(struct pictures *p, const char *tar)
{
    struct err e;
    struct archive *a = archive_read_new();
    struct archive_entry *entry;
    archive_read_support_format_tar(a);
    if (archive_read_open_filename(a, tar, 1 << 16))
        die(archive_error_string(a));
    while (archive_read_next_header(a, &entry) == ARCHIVE_OK) {
        const char *name = archive_entry_pathname(entry), *dot = name ? strrchr(name, '.') : NULL;
        if (!dot || !known(dot + 1))
            continue;
        struct picture one = {.n = (size_t)archive_entry_size(entry)};
        one.bytes = mem_alloc(one.n, 1, &e);
        if (!one.bytes || mem_grow((void **)&p->at, &p->cap, p->n + 1, sizeof one, &e))
            die(e.text);
        if (archive_read_data(a, one.bytes, one.n) != (la_ssize_t)one.n)
            die("short member");
        p->at[p->n++] = one;
    }
    archive_read_free(a);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// One pass over all pictures; without passes of the resizer they are decoded alone.
static double rate(const struct pictures *p, const struct resize_passes *passes, int size)
{
    struct err e;
    struct image im = {0};
    struct resizer r = {.passes = passes};
    struct crop_params params = crop_params_default;
    params.size = size;
    uint8_t *out = mem_alloc((size_t)size * (size_t)size, 3, &e);
    if (!out)
        die(e.text);
    double start = now();
    for (size_t i = 0; i < p->n; i++)
        if (image_decode(&im, p->at[i].bytes, p->at[i].n, NULL, &e) ||
            (passes && crop_make(&r, &im, &params, NULL, out, &e)))
            die(e.text);
    double got = (double)p->n / (now() - start);
    free(out);
    image_release(&im);
    resize_release(&r);
    return got;
}

enum { ROUNDS = 5, WAYS = 4 };

int main(int argc, char **argv)
{
    struct pictures p = {0};
    int size = argc > 2 ? atoi(argv[1]) : 0;
    if (size < 1)
        die("usage: pixels SIZE TAR...");
    for (int i = 2; i < argc; i++)
        load(&p, argv[i]);
    const struct resize_passes *const ways[WAYS] = {NULL, &resize_passes_portable,
                                                    resize_passes_avx2(), resize_passes_vnni()};
    static const char *const names[WAYS] = {"decode alone", "decode, resize with plain C, crop",
                                            "decode, resize with AVX2, crop",
                                            "decode, resize with AVX-512 VNNI, crop"};
    double best[WAYS] = {0};
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < WAYS; i++) {
            double got = i == 0 || ways[i] ? rate(&p, ways[i], size) : 0;
            best[i] = got > best[i] ? got : best[i];
        }
    printf("%zu pictures\n", p.n);
    for (int i = 0; i < WAYS; i++)
        if (best[i] > 0)
            printf("%s, images/s %.0f (%.2f)\n", names[i], best[i], best[i] / best[0]);
        else
            printf("%s: left out, not at level %s\n", names[i], isa_name(isa_level()));
    for (size_t i = 0; i < p.n; i++)
        free(p.at[i].bytes);
    free(p.at);
    return 0;
}
