// SPDX-License-Identifier: Apache-2.0
// A text file as lines: lists of files (--files-from), class names, templates.
#ifndef SYSTEM_LINES_H
#define SYSTEM_LINES_H

#include <stddef.h>

#include "base/err.h"

struct lines {
    char *text;        // the file, line ends replaced by NULs; owned
    const char **line; // [n], inside text; no CR at the end, no empty lines at the end of the file
    size_t n;
};

// Length of the UTF-8 byte order mark at the start of a text: 3, or 0 when there is none. Editors
// on Windows write one; every reader of text passes over it.
size_t lines_mark(const void *text, size_t n);

// Reads a file ("-" = standard input). Refuses NUL bytes. 0 or -1.
int lines_read(struct lines *l, const char *path, struct err *e);
void lines_release(struct lines *l); // safe on a zeroed one

#endif
