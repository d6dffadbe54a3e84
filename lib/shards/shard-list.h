// SPDX-License-Identifier: Apache-2.0
// Names of shards as WebDataset writes them: `{00000..41454}.tar`, `{0..10..2}`, `{a,b}`, nested
// and several in one name (the first varies slowest), sources joined by `::`, `-` for standard
// input. A backslash takes the next character as it is: `\{`, `\,`, `\:`.
#ifndef SHARDS_SHARD_LIST_H
#define SHARDS_SHARD_LIST_H

#include <stddef.h>

#include "base/err.h"

enum { SHARD_LIST_MAX = 1000000, SHARD_NAME_MAX = 4096 };

struct shard_list {
    char **names;
    size_t n, cap;
    size_t bytes; // of all names together
};

// Appends the names of `spec`. Errors: a brace that is not closed, a group with nothing to choose
// from, an empty name, `-` twice, more than SHARD_LIST_MAX names, `pipe:` and URLs but those of
// url.h (nothing is run here). On an error the list may hold the names before it. 0 or -1.
int shard_list_add(struct shard_list *l, const char *spec, struct err *e);
// Appends one name as it stands: braces, `::` and backslashes are of the name. Errors: as above.
int shard_list_add_name(struct shard_list *l, const char *name, struct err *e);
// Refuses two different files whose names differ only in their folders or in the suffix (.tar,
// .tar.gz ...), and a pipe that is named twice. 0 or -1.
int shard_list_check_names(const struct shard_list *l, struct err *e);
void shard_list_release(struct shard_list *l);

#endif
