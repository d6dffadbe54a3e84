// SPDX-License-Identifier: Apache-2.0
// The report of sem-balance: sizes of groups, and the biggest groups with their members.
#ifndef BALANCE_REPORT_H
#define BALANCE_REPORT_H

#include <stddef.h>
#include <stdint.h>

#include "balance/balance.h"
#include "formats/json.h"
#include "embeddings/files.h"

// Adds to object o: "histogram", a list of {from, to, groups, rows} with sizes 1, 2, 3, 4, 5-8,
// 9-16, ... (only those that occur), and "biggest", the `count` biggest groups (ties: lowest kept
// row) as {rows, kept: {file, row}, members: [{file, row} ...]}, `members` of each at most, in the
// order of rows. 0 or -1.
int balance_report_groups(cJSON *o, const struct balance_result *r, const struct embedding_files *f,
                          size_t count, size_t members, struct err *e);
// An estimate of the bytes that balance_report_groups takes for at most `rows` rows.
uint64_t balance_report_bytes(uint64_t count, uint64_t members, uint64_t rows);
// Writes a table of each row that goes and the row that is kept for it: file, row, kept_file,
// kept_row, and their cosine, a line each, TAB between them, in the order of rows; with index_dir
// (balance/keys.h, or NULL) also the keys of both. 0 or -1.
int balance_report_pairs(const char *path, const struct balance_result *r,
                         const struct embedding_files *f, const char *index_dir, struct err *e);
// Writes a table of distance, rows left and their share at `steps` distances up to r->reach. 0 or
// -1.
int balance_report_curve(const char *path, const struct balance_result *r, size_t steps,
                         struct err *e);

#endif
