// SPDX-License-Identifier: Apache-2.0
// pixels SIZE TAR...: pictures a second on one thread, decoding alone and up to the n x n pixels.
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
        if (!dot || strcmp(dot, ".jpg") != 0)
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
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// The best of three passes over all pictures.
static double rate(const struct pictures *p, bool resize, const struct resize_passes *passes,
                   int size)
{
    struct err e;
    struct image im = {0};
    struct resizer r = {.passes = passes};
    struct crop_params params = crop_params_default;
    params.size = size;
    uint8_t *out = mem_alloc((size_t)size * (size_t)size, 3, &e);
    double best = 0;
    if (!out)
        die(e.text);
    for (int pass = 0; pass < 3; pass++) {
        double start = now();
        for (size_t i = 0; i < p->n; i++)
            if (image_decode(&im, p->at[i].bytes, p->at[i].n, NULL, &e) ||
                (resize && crop_make(&r, &im, &params, NULL, out, &e)))
                die(e.text);
        double got = (double)p->n / (now() - start);
        best = got > best ? got : best;
    }
    free(out);
    image_release(&im);
    resize_release(&r);
    return best;
}

int main(int argc, char **argv)
{
    struct pictures p = {0};
    int size = argc > 2 ? atoi(argv[1]) : 0;
    if (size < 1)
        die("usage: pixels SIZE TAR...");
    for (int i = 2; i < argc; i++)
        load(&p, argv[i]);
    printf("%zu pictures\n", p.n);
    printf("decode alone, images/s %.0f\n", rate(&p, false, NULL, size));
    const struct resize_passes *const all[] = {&resize_passes_portable, resize_passes_avx2(),
                                               resize_passes_vnni()};
    static const char *const names[] = {"plain C", "AVX2", "AVX-512 VNNI"};
    for (int i = 0; i < 3; i++)
        if (all[i])
            printf("decode, resize with %s, crop, images/s %.0f\n", names[i],
                   rate(&p, true, all[i], size));
        else
            printf("resize with %s: left out, not at level %s\n", names[i], isa_name(isa_level()));
    for (size_t i = 0; i < p.n; i++)
        free(p.at[i].bytes);
    free(p.at);
    return 0;
}
