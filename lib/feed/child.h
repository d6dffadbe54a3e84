// SPDX-License-Identifier: Apache-2.0
// A command whose standard output is read. It runs in a process group of its own, so that it can be
// ended together with all processes it started, and signals from the terminal reach it only through
// its reader. If the reader dies, by kill -9 too, the command's next write to the pipe ends it
// (SIGPIPE).
#ifndef FEED_CHILD_H
#define FEED_CHILD_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

struct train_child {
    pthread_mutex_t lock; // of pid and stopped
    pid_t pid;            // 0: none
    bool stopped;         // none is started any more
    int fd;               // its standard output, while pid is not 0
};

void train_child_init(struct train_child *c);
void train_child_release(struct train_child *c); // ends it early
// Starts the command words[0] with its arguments; standard input is not the terminal. 0 or -1.
int train_child_start(struct train_child *c, char **words, struct err *e);
// Waits for its first output or its end. 0, or -1: the run was stopped (train_child_stop, or a
// signal: system/signals.h).
int train_child_wait_output(struct train_child *c, struct err *e);
// Closes the pipe and waits for the end of the command.
// CHILD_DONE (it has written everything): 0, or -1 with how it ended if not with status 0.
// CHILD_FAILED (its stream is cut off): the same, if it ends by itself within seconds and not by
// SIGPIPE. CHILD_EARLY (the rest is not needed): 0.
// A command that does not end gets SIGTERM, and some seconds later SIGKILL.
enum child_end { CHILD_DONE, CHILD_FAILED, CHILD_EARLY };
int train_child_end(struct train_child *c, enum child_end how, struct err *e);
// Sends a signal to the command and all processes it started, and prevents further starts. May be
// called from any thread.
void train_child_stop(struct train_child *c, int sig);

#endif
