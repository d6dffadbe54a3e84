// SPDX-License-Identifier: Apache-2.0
// Paths put together with their length checked, and the files of a folder.
#ifndef PATH_H
#define PATH_H

#include <stddef.h>

#include "err.h"

enum { PATH_BYTES = 4096 }; // room for a path, its NUL included

// printf into to[PATH_BYTES]. 0, or -1: the path is too long, which would name another file.
int path_format(char to[PATH_BYTES], struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

// Names of the files of a folder, without the folder, sorted by bytes.
struct path_names {
    char **names; // owned
    size_t n, cap;
};
// Adds those that end with `ending` and do not begin with a dot; none when there is no such folder.
// 0 or -1.
int path_names_of(struct path_names *l, const char *folder, const char *ending, struct err *e);
void path_names_free(struct path_names *l);

#endif
