// SPDX-License-Identifier: Apache-2.0
// What sem-balance --part writes and --merge reads: the joins of one part of the cells (run.h).
// Internal.
//
// The file: "CIDJOIN1", the digests of the options and of the rows (32 digits and zeros, 40 bytes
// each), the part (from 0), how many there are, the bytes of the joins (three u64), the joins, and
// XXH3-64 of all that.
#ifndef BALANCE_JOINS_FILE_H
#define BALANCE_JOINS_FILE_H

#include "base/err.h"
#include "system/digest.h"
#include "system/io.h"

// What the joins belong to.
struct balance_tag {
    char options[DIGEST_HEX]; // all that change them
    char rows[DIGEST_HEX];    // the inputs and the masks
};

struct balance_joins_file {
    struct map map;
    const void *joins; // in map
    size_t n;
    uint64_t part, parts;
};

int balance_joins_save(const char *path, const struct balance_tag *tag, uint64_t part,
                       uint64_t parts, const void *joins, size_t n, struct err *e);
// Refuses a file that is damaged or belongs to something else. 0, or -1 with its name in e.
int balance_joins_open(struct balance_joins_file *f, const char *path,
                       const struct balance_tag *tag, struct err *e);
void balance_joins_close(struct balance_joins_file *f); // safe on a zeroed struct
// "A/B" with 1 <= A <= B <= 2^20: *part = A - 1, *parts = B. False where it is something else.
bool balance_part_parse(const char *text, uint64_t *part, uint64_t *parts);

#endif
