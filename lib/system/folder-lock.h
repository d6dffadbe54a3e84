// SPDX-License-Identifier: Apache-2.0
// One owner at a time in a folder: the file DIR/.lock names the process that works there, in lines
// of "NAME VALUE": tool, host, pid, start, boot (process.h), since, and in a job of Slurm its
// number. It appears whole by link(2), which is atomic on NFS too, and goes when the owner ends, by
// a signal too. The owner also holds flock(2) on it, where the file system has that.
//
// A lock whose owner was a process of this host and is gone (kill -9, a crash, a reboot) is taken
// over. The state of a process on another host is unknown: its lock is respected, and the error
// says who holds it and how to remove it.
#ifndef SYSTEM_FOLDER_LOCK_H
#define SYSTEM_FOLDER_LOCK_H

#include <limits.h>

#include "base/err.h"

struct folder_lock {
    char path[PATH_MAX]; // "" = not held
    int fd;
};

// 0 held, or -1: another process holds it, or the folder cannot be written.
int folder_lock_take(struct folder_lock *l, const char *dir, const char *tool, struct err *e);
// Releases the lock; no-op when it is not held (all zero).
void folder_lock_release(struct folder_lock *l);

#endif
