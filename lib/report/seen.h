// SPDX-License-Identifier: Apache-2.0
// Which files the ledger was counted from, so that only shards with other files are counted again.
// A file is known by number, size and both of its times: one that is put back, with its old date or
// by renaming its folder, has another number or another time of change.
#ifndef REPORT_SEEN_H
#define REPORT_SEEN_H

#include <stdbool.h>
#include <stddef.h>

#include "system/digest.h"
#include "base/err.h"

struct report_seen_shard {
    char *name;
    char files[DIGEST_HEX];
};
struct report_seen {
    struct report_seen_shard *shard; // sorted by name
    size_t n, cap;
};

// What stat() says of the shard's files, as a digest; "" when one changed so short a time ago that
// another change might not show. 0 or -1.
int report_seen_files(const char *work, const char *name, char hex[DIGEST_HEX], struct err *e);
// Reads WORK/.ledger.seen, empty when it is not there, damaged, or not of the ledger beside it.
int report_seen_read(struct report_seen *s, const char *work, struct err *e);
bool report_seen_has(const struct report_seen *s, const char *name, const char *files);
// Adds a shard; those of "" are left out. 0 or -1.
int report_seen_add(struct report_seen *s, const char *name, const char *files, struct err *e);
// Writes it beside WORK/ledger.tsv, which is there.
int report_seen_write(struct report_seen *s, const char *work, struct err *e);
void report_seen_release(struct report_seen *s);

#endif
