// SPDX-License-Identifier: Apache-2.0
// Is the json of a sample whole? It is passed over, not used, so this is lenient where writers of
// data sets are: NaN and Infinity (Python's), escaped NULs and repeated names are let through.
#ifndef SHARDS_READ_JSON_H
#define SHARDS_READ_JSON_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// 0, or -1 with e saying at which byte n bytes stop being one JSON value (RFC 8259, UTF-8).
int read_json_check(const uint8_t *text, size_t n, struct err *e);

#endif
