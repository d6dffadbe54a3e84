// SPDX-License-Identifier: Apache-2.0
// Reads tests/data/images/expected.txt for the picture tests.
#ifndef IMAGE_REFS_H
#define IMAGE_REFS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include "system/io.h"

#define REFS_DIR "tests/data/images/"

struct ref {
    char file[64], what[32];
    int width, height;
    uint32_t crc;
};

// The next line: 1, or 0 at the end.
static inline int ref_next(FILE *f, struct ref *r)
{
    return fscanf(f, "%63s %31s %d %d %x", r->file, r->what, &r->width, &r->height, &r->crc) == 5;
}

static inline FILE *ref_open(void)
{
    FILE *f = fopen(REFS_DIR "expected.txt", "r");
    if (!f) {
        printf("Bail out! no " REFS_DIR "expected.txt; run in the root of the tree\n");
        exit(1);
    }
    return f;
}

static inline void ref_map(struct map *m, const char *file)
{
    char path[128];
    struct err e;
    snprintf(path, sizeof path, REFS_DIR "%s", file);
    if (map_open(m, path, &e)) {
        printf("Bail out! %s\n", e.text);
        exit(1);
    }
}

static inline uint32_t ref_crc(const uint8_t *rgb, int width, int height)
{
    return (uint32_t)crc32(0, rgb, (uInt)(width * height * 3));
}

#endif
