// SPDX-License-Identifier: Apache-2.0
// Where the name of an output leads. Internal to io-*.c.
#ifndef SYSTEM_IO_PATH_H
#define SYSTEM_IO_PATH_H

#include "base/err.h"

// One of these is set.
struct io_path {
    int fd; // "-", /dev/stdout, /dev/fd/N, or a link to one of them: the descriptor; else -1
    char *
        file; // else the path of the file with all symbolic links followed, heap; it need not exist
};

int io_path_follow(const char *path, struct io_path *p, struct err *e); // 0 or -1

#endif
