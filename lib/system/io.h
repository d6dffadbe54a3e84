// SPDX-License-Identifier: Apache-2.0
// Files. An output appears whole or not at all: it is written beside its final name as
// `.NAME.HOST.PID.RANDOM.tmp` (nameless before, where the system can), synced, renamed, and its
// directory synced. A symbolic link is written through: the file that it leads to is replaced, and
// keeps its mode and, as far as allowed, owner and group. A device, a pipe, or a descriptor by name
// (/dev/stdout, /dev/fd/N) is written directly.
//
//     struct out o;
//     if (out_open(&o, path, &e)) ...           "-" is stdout
//     out_write(&o, data, n, &e) ...
//     out_commit(&o, &e)                        the file is there
//     out_abort(&o)                             nothing is there (safe after commit too)
#ifndef SYSTEM_IO_H
#define SYSTEM_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct out {
    int fd;           // -1 when closed
    bool is_stdout;   // for messages
    bool direct;      // a descriptor, device or pipe: no temporary file, no rename
    bool nameless;    // the temporary file has no name yet
    bool can_seek;    // out_pwrite allowed
    char *path;       // as given
    char *target;     // final name, links followed; NULL with a descriptor
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
// Writes the buffered bytes to the file. 0 or -1.
int out_flush(struct out *o, struct err *e);
// Flushes, syncs and renames the file to its name. 0 or -1. After a failure no file is left, except
// when only the sync of the directory failed: then the file is complete, and the message says so.
int out_commit(struct out *o, struct err *e);
// Drops the output; nothing is left. No-op on a committed or never opened (zeroed) one.
void out_abort(struct out *o);

// Refuses two outputs of one name, and an output that is also an input. NULL outputs are passed
// over, and so are devices, pipes and an input "-". 0 or -1.
int io_check_apart(const char *const *outputs, size_t n_outputs, char *const *inputs,
                   size_t n_inputs, struct err *e);

// True for a descriptor ("-", /dev/stdout, ...), a device or a pipe: these get no sidecar.
bool io_is_stream(const char *path);
// Checks before a long run for the errors that out_open and out_commit would report after it: a
// missing folder, a folder of that name, no permission, a closed descriptor. 0 or -1.
int io_check_output(const char *path, struct err *e);
// The same for n of them; a NULL is none.
int io_check_outputs(const char *const *paths, size_t n, struct err *e);
// The same for one of many files of a folder that is checked already: only an existing file of
// that name can be refused.
int io_check_existing(const char *path, struct err *e);
// Creates the folder where it is missing and its parent is there (*made), and refuses one that
// cannot be written into. 0 or -1.
int io_make_folder(const char *path, bool *made, struct err *e);

// A whole file, mapped read-only.
struct map {
    const uint8_t *data; // NULL for an empty file
    size_t n;            // bytes
    bool known;          // map_resident can tell: the system reports the pages of this file
};
int map_open(struct map *m, const char *path, struct err *e);
void map_close(struct map *m);
// True if nearly all of the file is in the page cache now, so that random reads of it are fast.
// False also where the system does not tell: since Linux 5.2 mincore() reports every page as
// resident to a process that neither owns the file nor may write it.
bool map_resident(const struct map *m);

// Writes all n bytes to fd, through interruptions and short writes. 0, or -1 with errno set.
int io_write_all(int fd, const void *data, size_t n);
// Reads up to n bytes, fewer only at the end of the file. Count, or -1 with errno set.
ssize_t io_read_full(int fd, void *data, size_t n);

#endif
