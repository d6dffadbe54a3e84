// SPDX-License-Identifier: Apache-2.0
// Private to lib/config: JSON objects of which every key must be known.
#ifndef CONFIG_KEYS_H
#define CONFIG_KEYS_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum key_kind {
    KEY_INT,    // int *; a whole number, 0 to INT_MAX
    KEY_SIDE,   // int *; the same, or [n, n]: a square's side
    KEY_NUMBER, // double *
    KEY_BOOL,   // bool *
    KEY_TEXT,   // const char **, the tree's
    KEY_OBJECT, // const cJSON **, the tree's
    KEY_TRIPLE, // double[3]; one number stands for three
    KEY_VALUE,  // const cJSON **, any type
    KEY_ANY,    // changes nothing here; out is NULL
    KEY_OFF,    // not implemented: only null, false, 0, "", [] and {} pass; out is NULL
};

struct key {
    const char *name;
    enum key_kind kind;
    void *out; // unchanged when the key is absent or null
};

// Reads o; `where` starts the errors ("vision_cfg"); keys of the NULL-terminated list `ignored`
// (may be NULL) pass too. 0, or -1 with the key named.
int keys_read(const cJSON *o, const char *where, const struct key *keys, size_t n,
              const char *const *ignored, struct err *e);

#define KEYS_READ(o, where, keys, ignored, e)                                                      \
    keys_read(o, where, keys, sizeof(keys) / sizeof *(keys), ignored, e)

// A number without fraction, 0 to INT_MAX.
bool key_whole(const cJSON *v, int *out);

// (int)(width * ratio), as Python's int(). 0 when it does not fit; the check then refuses it.
int clip_mlp_width(int width, double ratio);

// For writers: a new object, NULL with e set; and `j`, or NULL with j freed where `failed`.
cJSON *keys_object(struct err *e);
cJSON *keys_finish(cJSON *j, int failed);

#endif
