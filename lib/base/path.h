// SPDX-License-Identifier: Apache-2.0
// Names of files: joining with a check of the length, taking apart, and listing a folder. The only
// place that knows how the name of a shard is made.
#ifndef BASE_PATH_H
#define BASE_PATH_H

#include <stddef.h>

#include "base/err.h"

enum { PATH_BYTES = 4096 }; // of a path, its NUL included

// printf into to[PATH_BYTES]. 0, or -1: the path is too long, which would name another file.
int path_format(char to[PATH_BYTES], struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

// "folder/name" (name alone where folder is empty; one slash between them). 0 or -1.
int path_join(char to[PATH_BYTES], const char *folder, const char *name, struct err *e);
// The same on the heap, of any length; NULL with e set.
char *path_new(const char *folder, const char *name, struct err *e);

// What stands after the last slash, of a URL (url.h) after the last one before its query: part of
// the argument, never NULL.
const char *path_base(const char *path);
// Bytes of a shard's name before its archive ending (.tar, .tar.gz, .tgz...; one only, letter case
// ignored): "00000" of 00000.tar and 00000.tar.gz, "x.tar.y" of x.tar.y.tar. A name without an
// ending, or that is nothing else, is its own stem. What follows an ending and "?" is the query of
// a URL. `name` has no folder (path_base). Masks, labels and embeddings of the shard are called
// "STEM.npy".
size_t path_stem(const char *name);

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
