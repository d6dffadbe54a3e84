// SPDX-License-Identifier: Apache-2.0
// Drives a fuzz target without libFuzzer: `target FILE...` replays files, `target -s SECONDS
// FILE...` mutates them for that long with a fixed seed. Linked with a target that defines
// LLVMFuzzerTestOneInput.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t state = 0x9e3779b97f4a7c15u;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static uint8_t *read_file(const char *name, size_t *size)
{
    FILE *f = fopen(name, "rb");
    if (!f || fseek(f, 0, SEEK_END)) {
        perror(name);
        exit(1);
    }
    *size = (size_t)ftell(f);
    rewind(f);
    uint8_t *p = malloc(*size + 1);
    if (!p || fread(p, 1, *size, f) != *size)
        exit(1);
    fclose(f);
    return p;
}

// One of: flip a bit, overwrite a byte or a 32-bit field with an edge value, cut, repeat a run.
static size_t mutate(uint8_t *p, size_t n)
{
    static const uint32_t edges[] = {0,      1,      0x7f,       0x80,      0xff,
                                     0x7fff, 0xffff, 0x7fffffff, 0xffffffff};
    for (uint64_t k = 1 + next_random() % 8; k && n; k--) {
        size_t i = next_random() % n;
        uint32_t v = edges[next_random() % (sizeof edges / sizeof *edges)];
        switch (next_random() % 6) {
        case 0:
            p[i] ^= (uint8_t)(1u << (next_random() % 8));
            break;
        case 1:
            p[i] = (uint8_t)next_random();
            break;
        case 2:
            p[i] = (uint8_t)v;
            break;
        case 3:
            memcpy(p + i, &v, n - i < 4 ? n - i : 4);
            break;
        case 4:
            if (next_random() % 8 == 0)
                n = i;
            break;
        default: {
            size_t j = next_random() % n, len = next_random() % 32;
            len = len > n - i ? n - i : len;
            len = len > n - j ? n - j : len;
            memmove(p + i, p + j, len);
        }
        }
    }
    return n;
}

int main(int argc, char **argv)
{
    double seconds = 0;
    int first = 1;
    if (argc > 2 && strcmp(argv[1], "-s") == 0) {
        seconds = strtod(argv[2], NULL);
        first = 3;
    }
    if (first >= argc) {
        fprintf(stderr, "usage: %s [-s SECONDS] FILE...\n", argv[0]);
        return 2;
    }
    uint64_t runs = 0;
    for (int i = first; i < argc; i++) {
        size_t n;
        uint8_t *p = read_file(argv[i], &n);
        LLVMFuzzerTestOneInput(p, n);
        runs++;
        clock_t end = clock() + (clock_t)(seconds / (argc - first) * CLOCKS_PER_SEC);
        while (seconds > 0 && clock() < end) {
            uint8_t *q = malloc(n + 1); // exact size, so that ASan sees a read past the end
            if (!q)
                return 1;
            memcpy(q, p, n);
            size_t m = mutate(q, n);
            uint8_t *r = realloc(q, m ? m : 1);
            LLVMFuzzerTestOneInput(r ? r : q, m);
            free(r ? r : q);
            runs++;
        }
        free(p);
    }
    printf("%llu runs\n", (unsigned long long)runs);
    return 0;
}
