// SPDX-License-Identifier: Apache-2.0
// err and mem: messages are one clean line, sizes never wrap.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "unit/tap.h"

int main(void)
{
    struct err e;
    ok(err_set(&e, "cannot read '%s'", "a\x1b[2J\n") == -1, "err_set returns -1");
    ok(strcmp(e.text, "cannot read 'a?[2J?'") == 0, "control characters are replaced");
    err_wrap(&e, "record %d", 7);
    ok(strcmp(e.text, "record 7: cannot read 'a?[2J?'") == 0, "err_wrap prefixes");
    err_set(&e, "%s",
            "x\xc2\x9b"
            "2J \xc2\x85\xc2\xa0\xc3\x9b \x9b\xe0\x82\x9b \xfc");
    ok(strcmp(e.text, "x?2J ?\xc2\xa0\xc3\x9b ?\xe0?? \xfc") == 0,
       "those of C1 too, as UTF-8 and as bytes; letters stay");

    size_t n;
    ok(!mem_mul(SIZE_MAX / 2, 3, &n), "a product that overflows is refused");
    ok(!mem_add(SIZE_MAX, 1, &n), "a sum that overflows is refused");
    ok(mem_mul(6, 7, &n) && n == 42, "a product that fits is right");
    ok(mem_alloc(SIZE_MAX / 4, 8, &e) == NULL, "mem_alloc refuses an overflow");
    ok(mem_alloc(SIZE_MAX - 3, 1, &e) == NULL, "mem_alloc refuses what rounding would wrap");
    unsigned char *z = mem_alloc(0, 4, &e);
    ok(z != NULL && (uintptr_t)z % 64 == 0, "a block of no items is aligned and not NULL");
    free(z);

    void *p = NULL;
    size_t cap = 0;
    ok(mem_grow(&p, &cap, 3, 4, &e) == 0 && cap >= 3, "mem_grow from nothing");
    memcpy(p, "abcdefghijkl", 12);
    ok(mem_grow(&p, &cap, 100, 4, &e) == 0 && memcmp(p, "abcdefghijkl", 12) == 0,
       "mem_grow keeps the contents");
    ok(mem_grow(&p, &cap, SIZE_MAX, 4, &e) == -1, "mem_grow refuses an overflow");
    free(p);
    return tap_done();
}
