// SPDX-License-Identifier: Apache-2.0
// What this program is and how it was built: the text of --version, of which this is the one owner.
#ifndef BASE_VERSION_H
#define BASE_VERSION_H

#include <stdio.h>

// The commit of the sources, with "-dirty" where they differ from it. The build links it into the
// tools; it is NULL in other programs, which so need not be linked again at each commit, and empty
// where the sources are no git checkout.
extern const char build_commit[] __attribute__((weak));

// Lines of "what: value": version, commit, compiler, level of vector instructions, devices,
// optional parts. devices: the names of those that the program has, or NULL for a tool that opens
// none. 0, or -1 when the stream failed.
int version_print(FILE *to, const char *tool, const char *devices);

#endif
