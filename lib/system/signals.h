// SPDX-License-Identifier: Apache-2.0
// Signals. When a signal ends a run, the run removes its temporary files and dies of the same
// signal, so that the parent gets the right status. A signal that the parent ignored stays ignored.
// SIGUSR1 requests a line of progress. A tool that can stop cleanly (with a checkpoint) calls
// signals_catch_stop.
#ifndef SYSTEM_SIGNALS_H
#define SYSTEM_SIGNALS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

// Installs the handlers; once, at the start of main.
void signals_install(void);
// From now on the first SIGTERM, SIGINT, SIGHUP or SIGUSR2 only makes signals_stop_wanted() true. A
// second SIGTERM or SIGINT kills the process; a second SIGHUP or SIGUSR2 does not, nor does a
// SIGTERM within 5 s of the first, because a closing terminal and a batch system at its time limit
// send two signals.
void signals_catch_stop(void);
bool signals_stop_wanted(void);
// The signal that asked for the stop (0 = none), and dying of it once everything is saved.
int signals_stop_signal(void);
void signals_die_of_stop(void);
// True once after each SIGUSR1.
bool signals_progress_wanted(void);

// From now on, when a signal ends the run, the line "TOOL: stopped after NWHAT" is written, with
// N = *done and WHAT = `what` (" samples: ..."). Not for SIGPIPE, because the reader has closed the
// pipe on purpose. `done` and `what` must stay valid until the process ends.
void signals_tell_at_death(const atomic_ullong *done, const char *what);

// Removes `path` when a signal ends the run, until signals_unguard_path. Any number of paths; a
// path is not guarded only if there is no memory for it.
void signals_guard_path(const char *path);
void signals_unguard_path(const char *path);

// Sends SIGTERM to a process group when a signal ends the run; 0: none. One group at a time.
void signals_guard_group(int group);

// Registers a file mapped at `at`: if it shrinks while it is read, the run ends with an error that
// names the file and status 1, not with a bus error.
void signals_watch_map(const void *at, size_t bytes, const char *path);
void signals_unwatch_map(const void *at);

// For handlers that end the process (crash.c). Removes the guarded paths.
void signals_remove_guarded(void);
// Writes "TOOL: " and the three parts as one line to standard error, without stdio.
void signals_tell(const char *a, const char *b, const char *c);

#endif
