// SPDX-License-Identifier: Apache-2.0
// Crashes of a library that was refused memory. oneDNN does not look at what an allocation
// returned, and the C++ runtime aborts: the run then ends with a line that says so and status 1. A
// crash of any other cause keeps its signal.
#ifndef SYSTEM_CRASH_H
#define SYSTEM_CRASH_H

// Installs the handlers for SIGSEGV and SIGABRT, unless others are there (a sanitizer's).
void crash_install(void);

#endif
