// SPDX-License-Identifier: Apache-2.0
// Is the json of a sample whole? Little of it is used, so this is lenient where writers of
// data sets are: NaN and Infinity (Python's), escaped NULs and repeated names are let through.
#ifndef READ_JSON_H
#define READ_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// 0, or -1 with e saying at which byte n bytes stop being one JSON value (RFC 8259, UTF-8).
int read_json_check(const uint8_t *text, size_t n, struct err *e);

// The value of a member of the outermost object, as it stands in the text: *value points into it.
// Names with escapes match no name; of repeated ones the last counts. False: not there, or no
// object.
bool read_json_member(const uint8_t *text, size_t n, const char *name, const char **value,
                      size_t *size);

// The string of such a member, without its escapes, heap; NULL with the reason in e: there is none,
// or it is no string.
char *read_json_string(const uint8_t *text, size_t n, const char *name, struct err *e);

#endif
