// SPDX-License-Identifier: Apache-2.0
// ledger.tsv: what went into each stage and what came out of it, a line for each stage and shard:
//
//     stage TAB shard TAB in TAB out TAB dropped TAB reasons
//
// with reasons such as bad-image=3,no-caption=1.
//
// The first line names the columns. A later line for the same stage and shard replaces the earlier
// one (a stage done again). Names hold no TAB, line feed or other control character; reasons are
// lower-case words joined by '-'.
#ifndef FORMATS_LEDGER_H
#define FORMATS_LEDGER_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

enum { LEDGER_REASONS = 24, LEDGER_REASON_MAX = 32 };

struct ledger_reason {
    char name[LEDGER_REASON_MAX];
    uint64_t count;
};

struct ledger_row {
    char *stage; // owned
    char *shard; // owned; "*" for a stage that takes all shards at once
    uint64_t in, out;
    struct ledger_reason *reasons; // owned; in the order of their names
    size_t n_reasons;
};

// A zeroed row with copies of the two names.
int ledger_row_init(struct ledger_row *r, const char *stage, const char *shard, struct err *e);
void ledger_row_release(struct ledger_row *r);
// Adds n dropped samples with this reason. 0, or -1: too many reasons, or a bad name.
int ledger_drop(struct ledger_row *r, const char *reason, uint64_t n, struct err *e);
uint64_t ledger_dropped(const struct ledger_row *r);
// in = out + dropped? -1 with a message that gives the figures.
int ledger_row_check(const struct ledger_row *r, struct err *e);

struct ledger {
    struct ledger_row *rows; // sorted by stage (as they first appear) and shard
    size_t n, cap;
};

// Adds one row to the file, creating it; safe when many processes do it at once (a lock file
// PATH.lock beside it). The row is checked first. A line cut short by a crash is removed. 0 or -1.
int ledger_append(const char *path, const struct ledger_row *r, struct err *e);
// Reads the file; a missing one is an empty ledger. Errors give file and line. 0 or -1.
int ledger_read(struct ledger *l, const char *path, struct err *e);
void ledger_release(struct ledger *l);
// Writes all rows, sorted, replacing the file at once; under the same lock. Order and bytes then do
// not depend on which shard was done first. `stages` (NULL-terminated, or NULL) gives the order of
// stages; others follow by name.
int ledger_rewrite(const char *path, const char *const *stages, struct err *e);

// Appends a checked row and empties r, which no longer owns it. 0, or -1 and r still owns it.
int ledger_add(struct ledger *l, struct ledger_row *r, struct err *e);
// Brings the rows into the order that the functions below expect: stages as given, others after
// them by name, then shards; of equal ones the last stays. 0 or -1.
int ledger_sort(struct ledger *l, const char *const *stages, struct err *e);
// Writes the rows as they stand, replacing the file at once; under the same lock.
int ledger_write(const char *path, const struct ledger *l, struct err *e);

// Sum of a stage over its shards, `shard` = "*": 1 found, 0 no such stage, -1 error.
int ledger_sum(const struct ledger *l, const char *stage, struct ledger_row *sum, struct err *e);
// Every row adds up, and in each shard (or in total, where either stage has "*") what goes into a
// stage is what came out of the one before it in `stages` (NULL-terminated; stages not in the
// ledger are passed over). 0, or -1: e says which stage, shard and figures.
int ledger_check(const struct ledger *l, const char *const *stages, struct err *e);
// The table as text: a line for each stage with its sums.
int ledger_print(const struct ledger *l, const char *const *stages, FILE *f, struct err *e);

#endif
