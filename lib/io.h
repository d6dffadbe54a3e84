// SPDX-License-Identifier: Apache-2.0
// Files. An output appears whole or not at all: it is written beside its final name as
// `.NAME.PID.tmp` (nameless before, where the file system can), synced, renamed, and its directory
// synced. A device or pipe named as output is written directly.
//
//     struct out o;
//     if (out_open(&o, path, &e)) ...           "-" is stdout
//     out_write(&o, data, n, &e) ...
//     out_commit(&o, &e)                        the file is there
//     out_abort(&o)                             nothing is there (safe after commit too)
#ifndef IO_H
#define IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"

struct out {
    int fd;           // -1 when closed
    bool is_stdout;   // no temporary file, no rename
    bool direct;      // a device or pipe: no temporary file either
    bool nameless;    // the temporary file has no name yet
    bool can_seek;    // out_pwrite allowed
    char *path;       // final name
    char *tmp;        // temporary name
    uint8_t *buf;     // pending bytes
    size_t n_buf;     // how many
    uint64_t written; // bytes given to out_write so far
};

// Opens `path` for writing ("-" = stdout). 0 or -1.
int out_open(struct out *o, const char *path, struct err *e);
// Appends n bytes, buffered. 0 or -1.
int out_write(struct out *o, const void *data, size_t n, struct err *e);
// Overwrites bytes already written, at `at`; only where o->can_seek. 0 or -1.
int out_pwrite(struct out *o, const void *data, size_t n, off_t at, struct err *e);
// Hands buffered bytes to the system. 0 or -1.
int out_flush(struct out *o, struct err *e);
// Flushes, syncs and gives the file its name. On failure nothing is left. 0 or -1.
int out_commit(struct out *o, struct err *e);
// Drops the output; nothing is left. No-op on a committed or never opened (zeroed) one.
void out_abort(struct out *o);

// Refuses outputs that would be lost or would replace what they are made from: two of one name, or
// one that is an input. A NULL is no output; devices and pipes, "-" among the inputs, do not count.
// 0 or -1.
int io_check_apart(const char *const *outputs, size_t n_outputs, char *const *inputs,
                   size_t n_inputs, struct err *e);

// A whole file, mapped read-only.
struct map {
    const uint8_t *data; // NULL for an empty file
    size_t n;            // bytes
};
int map_open(struct map *m, const char *path, struct err *e);
void map_close(struct map *m);
// Whether nearly all of it is in the system's cache now, so that reading it anywhere costs little.
bool map_resident(const struct map *m);

// Writes all n bytes to fd, through interruptions and short writes. 0, or -1 with errno set.
int io_write_all(int fd, const void *data, size_t n);
// Reads up to n bytes, fewer only at the end of the file. Count, or -1 with errno set.
ssize_t io_read_full(int fd, void *data, size_t n);

#endif
