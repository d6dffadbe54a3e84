// SPDX-License-Identifier: Apache-2.0
// JSON over cJSON: a strict reader, getters that say what is wrong, a writer.
//
// The reader takes RFC 8259 only: one value, valid UTF-8, no trailing text; it refuses duplicate
// names, escaped NULs, nesting or length over the limits, and numbers beyond double's range, before
// cJSON sees the text. A byte order mark before the value is passed over (RFC 8259 allows it, and
// editors on Windows write it).
#ifndef FORMATS_JSON_H
#define FORMATS_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct json_limits {
    size_t bytes; // of the text; 0 = 16 MiB
    int depth;    // of nesting; 0 = 64, at most 500
};

// Parses n bytes (no NUL needed). The tree is freed with cJSON_Delete. `lim` may be NULL. NULL with
// e set ("offset N: ...") on error.
cJSON *json_parse(const char *text, size_t n, const struct json_limits *lim, struct err *e);
// The same for a file; the error starts with its name.
cJSON *json_read_file(const char *path, const struct json_limits *lim, struct err *e);

// Getters for a member of object `o`. 1: found, *out set. 0: absent or null and not required, *out
// unchanged. -1: absent though required, or of another type or out of range; e names it. Strings,
// objects and arrays belong to the tree.
enum json_need { JSON_OPTIONAL, JSON_REQUIRED };
int json_string(const cJSON *o, const char *name, enum json_need need, const char **out,
                struct err *e);
int json_bool(const cJSON *o, const char *name, enum json_need need, bool *out, struct err *e);
int json_double(const cJSON *o, const char *name, enum json_need need, double *out, struct err *e);
// A whole number in [lo, hi], |lo| and |hi| at most 2^53.
int json_int(const cJSON *o, const char *name, enum json_need need, int64_t lo, int64_t hi,
             int64_t *out, struct err *e);
// A whole number up to 2^53, or a string of decimal digits for any 64-bit number.
int json_u64(const cJSON *o, const char *name, enum json_need need, uint64_t *out, struct err *e);
int json_object(const cJSON *o, const char *name, enum json_need need, const cJSON **out,
                struct err *e);
int json_array(const cJSON *o, const char *name, enum json_need need, const cJSON **out,
               struct err *e);
// An array of exactly n numbers.
int json_doubles(const cJSON *o, const char *name, enum json_need need, double *out, size_t n,
                 struct err *e);
// 0 when every member's name is in `known` (NULL-terminated); otherwise -1, naming the first that
// is not.
int json_only(const cJSON *o, const char *const *known, struct err *e);

// Writing. Each adds a member to object `o` (an item, when name is NULL and o is an array); 0 or -1
// (out of memory). Bytes of a string that are not UTF-8 become U+FFFD; whole numbers over 2^53
// become strings; numbers are written with the fewest digits that read back the same, NaN and Inf
// as null.
int json_add_string(cJSON *o, const char *name, const char *value, struct err *e);
int json_add_bool(cJSON *o, const char *name, bool value, struct err *e);
int json_add_double(cJSON *o, const char *name, double value, struct err *e);
// A float: the fewest digits that read back as the same float, so that 0.1f is 0.1.
int json_add_float(cJSON *o, const char *name, float value, struct err *e);
int json_add_i64(cJSON *o, const char *name, int64_t value, struct err *e);
int json_add_u64(cJSON *o, const char *name, uint64_t value, struct err *e);
int json_add_doubles(cJSON *o, const char *name, const double *v, size_t n, struct err *e);
cJSON *json_add_object(cJSON *o, const char *name, struct err *e); // the new, empty one
cJSON *json_add_array(cJSON *o, const char *name, struct err *e);
// Text of the tree, one line without line feed or (pretty) two spaces a level with a final line
// feed. Freed with free(); NULL with e set.
char *json_text(const cJSON *o, bool pretty, struct err *e);
// Writes the pretty text to a file, whole or not at all.
int json_write_file(const char *path, const cJSON *o, struct err *e);

#endif
