// SPDX-License-Identifier: Apache-2.0
// Captions a minute that a folder's tokenizer makes into rows of ids, by one thread's processor
// time. Captions are lines of standard input.
//
//     captions FOLDER CONTEXT open_clip|canonical|hf <LINES
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "text/tokenizer.h"

struct counts {
    size_t captions, bytes, ids;
    double seconds;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int encode_lines(const struct tokenizer *t, size_t context, int32_t *row, struct counts *c,
                        struct err *e)
{
    char *line = NULL;
    size_t room = 0, n;
    ssize_t len;
    int rc = 0;
    while (!rc && (len = getline(&line, &room, stdin)) > 0) {
        double start = now();
        rc = tokenizer_encode(t, line, (size_t)len, context, row, &n, e) == TEXT_ERROR ? -1 : 0;
        c->seconds += now() - start;
        c->captions++;
        c->bytes += (size_t)len;
        c->ids += n;
    }
    free(line);
    return rc;
}

int main(int argc, char **argv)
{
    struct counts c = {0};
    struct err e;
    if (argc != 4) {
        fprintf(stderr, "usage: captions FOLDER CONTEXT open_clip|canonical|hf <LINES\n");
        return 2;
    }
    size_t context = strtoull(argv[2], NULL, 10);
    bool canonical = !strcmp(argv[3], "canonical");
    struct tokenizer_style style = {strcmp(argv[3], "hf") != 0, canonical, false};
    struct tokenizer *t = tokenizer_open_as(argv[1], &style, &e);
    int32_t *row = calloc(context ? context : 1, sizeof *row);
    int rc = t && row ? encode_lines(t, context, row, &c, &e) : -1;
    if (rc)
        fprintf(stderr, "captions: %s\n", e.text);
    else if (c.captions)
        printf("%.2f million a minute; %zu captions of %.0f bytes and %.1f ids\n",
               60e-6 * (double)c.captions / c.seconds, c.captions,
               (double)c.bytes / (double)c.captions, (double)c.ids / (double)c.captions);
    tokenizer_free(t);
    free(row);
    return rc ? 1 : 0;
}
