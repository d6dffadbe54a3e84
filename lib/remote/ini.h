// SPDX-License-Identifier: Apache-2.0
// The text files of ~/.aws: sections in brackets, `name = value` lines, and lines that are indented
// below a name without a value, which belong to that name (`s3 =` and below it
// `  endpoint_url = ...`). Lines that begin with # or ; are comments, as is what follows a blank
// and one of them.
#ifndef INI_H
#define INI_H

// One value. `group`: the name that an indented line stands below, else "".
struct ini_value {
    const char *section, *group, *name, *value;
};

// Calls take(ctx, value) for each value of the text, whose lines are changed in place and which the
// values point into. A line that is none of the above is passed over, as the AWS tools do.
void ini_each(char *text, void (*take)(void *ctx, const struct ini_value *v), void *ctx);

#endif
