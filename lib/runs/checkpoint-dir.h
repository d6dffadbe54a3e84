// SPDX-License-Identifier: Apache-2.0
// The folder OUT/checkpoints of a run: checkpoints are folders step-N in it, of any number of
// digits. One under construction is called .step-N.HOST.PID.tmp and gets its name when it is whole.
// The caller owns OUT (folder-lock.h).
#ifndef RUNS_CHECKPOINT_DIR_H
#define RUNS_CHECKPOINT_DIR_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct checkpoint_entry {
    uint64_t step;
    char name[NAME_MAX + 1];
};

struct checkpoint_list {
    struct checkpoint_entry *at; // the newest first
    size_t n, cap;
};

// Which of them stay.
struct checkpoint_keep {
    size_t newest;  // so many; SIZE_MAX: all
    uint64_t every; // and for good those of a multiple of so many steps; 0: none
    uint64_t best;  // and for good that of this step; 0: none
};

// The checkpoints of OUT; none where the folder is missing. 0 or -1.
int checkpoint_list_read(struct checkpoint_list *l, const char *out, struct err *e);
void checkpoint_list_release(struct checkpoint_list *l);
// "OUT/checkpoints/NAME". 0 or -1: too long.
int checkpoint_path(char path[PATH_MAX], const char *out, const char *name, struct err *e);

// Removes unfinished folders of runs that were killed. Keeps those that a live process may still be
// writing: a process of this host that exists, or, of another host, a folder changed in the last
// hour. 0 or -1.
int checkpoint_dir_clean(const char *out, struct err *e);
// Makes the folder for a checkpoint under construction; tmp gets its path. 0 or -1.
int checkpoint_dir_begin(const char *out, uint64_t step, char tmp[PATH_MAX], struct err *e);
// Renames it to its final name, replacing an existing one; path gets the name. On failure it is
// removed. 0 or -1.
int checkpoint_dir_commit(const char *out, uint64_t step, const char *tmp, char path[PATH_MAX],
                          struct err *e);
// Removes the checkpoints up to step `upto` that need not be kept. 0 or -1.
int checkpoint_dir_prune(const char *out, uint64_t upto, const struct checkpoint_keep *keep,
                         struct err *e);
// Removes those after `step`. 0 or -1.
int checkpoint_dir_drop_after(const char *out, uint64_t step, struct err *e);
// Renames a checkpoint that cannot be used to damaged-NAME; aside gets the new path. 0 or -1.
int checkpoint_dir_set_aside(const char *out, const char *name, char aside[PATH_MAX],
                             struct err *e);
// Removes checkpoints, damaged ones, and unfinished folders. 0 or -1.
int checkpoint_dir_remove_all(const char *out, struct err *e);
// Removes a folder and its files, as far as possible.
void checkpoint_remove(const char *path);
int checkpoint_sync(const char *dir, struct err *e); // fsync of a folder. 0 or -1

#endif
