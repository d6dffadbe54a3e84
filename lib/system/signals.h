// SPDX-License-Identifier: Apache-2.0
// Signals. A run that is ended by one removes its temporary files and dies of that same signal, so
// that the parent sees the truth; a signal the parent ignored stays ignored. SIGUSR1 asks for a
// line of progress. A tool that can stop cleanly (a checkpoint) calls signals_catch_stop.
#ifndef SYSTEM_SIGNALS_H
#define SYSTEM_SIGNALS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

// Installs the handlers; once, at the start of main.
void signals_install(void);
// From now on the first SIGTERM, SIGINT, SIGHUP or SIGUSR2 only makes signals_stop_wanted() true; a
// second SIGTERM or SIGINT kills. More of SIGHUP or SIGUSR2 do not, nor does a SIGTERM within 5 s
// of the first: a terminal that goes away sends two, and a batch system at its time limit.
void signals_catch_stop(void);
bool signals_stop_wanted(void);
// The signal that asked for the stop (0 = none), and dying of it once everything is saved.
int signals_stop_signal(void);
void signals_die_of_stop(void);
// True once after each SIGUSR1.
bool signals_progress_wanted(void);

// From now on the line "TOOL: stopped after NWHAT" (what = " samples: ...") is written when a
// signal ends the run, N being *done then. Not for SIGPIPE: the reader has what it wants. Both live
// as long as the process.
void signals_tell_at_death(const atomic_ullong *done, const char *what);

// A path to be removed when a signal ends the run; forgotten again with signals_unguard_path. Any
// number of them; only where memory is short a path is not guarded.
void signals_guard_path(const char *path);
void signals_unguard_path(const char *path);

// A process group that is told to end (SIGTERM) when a signal ends the run; 0: none. One at a time.
void signals_guard_group(int group);

// A file that is mapped at `at`: where it becomes shorter while it is read, the run ends with a
// line that names it and status 1, not with a bus error.
void signals_watch_map(const void *at, size_t bytes, const char *path);
void signals_unwatch_map(const void *at);

// For handlers that end the process (crash.c). Removes the guarded paths.
void signals_remove_guarded(void);
// Writes "TOOL: " and the three parts as one line to standard error, without stdio.
void signals_tell(const char *a, const char *b, const char *c);

#endif
