// SPDX-License-Identifier: Apache-2.0
// Checks the grammar of JSON without building a tree. Used by json.c before it calls cJSON, for the
// strings of a safetensors header, and for a shard's json member.
#ifndef FORMATS_JSON_SCAN_H
#define FORMATS_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_scan {
    const char *text;
    size_t at, n;  // the next byte, and how many there are
    int depth;     // levels of nesting still allowed
    size_t digits; // characters of a number, at most; 0: any number
    bool python;   // what Python's json module reads too: NaN, Infinity, halves of surrogate pairs
                   // and NUL, as escapes
    const char *why; // after -1: what is wrong at `at`
};

// The next byte, -1 at the end.
int json_scan_peek(const struct json_scan *s);
void json_scan_space(struct json_scan *s);
// A string; `to` (or NULL) gets its bytes, decoded, which are never more than the text's. The
// address behind the last is stored. 0 or -1.
int json_scan_string(struct json_scan *s, char **to);
// One value with the white space before it. 0 or -1.
int json_scan_value(struct json_scan *s);

#endif
