// SPDX-License-Identifier: Apache-2.0
// Digests that tell files and key lists apart: XXH3-128, written as 32 hexadecimal digits in
// xxhash's canonical (big-endian) order, as `xxh128sum` prints them. They guard against mix-ups,
// not against forgery.
//
// The key digest of a shard or stream is XXH3-128 over its keys in order, each followed by a NUL
// byte; `cut -f2 00000.tsv | tr '\n' '\0' | xxh128sum` gives the same.
#ifndef SYSTEM_DIGEST_H
#define SYSTEM_DIGEST_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#include "base/err.h"

enum { DIGEST_HEX = 33 }; // 32 digits and a NUL

struct digest;
struct digest *digest_new(struct err *e); // empty; NULL with e set
void digest_free(struct digest *d);
void digest_reset(struct digest *d);
void digest_add(struct digest *d, const void *data, size_t n);
void digest_key(struct digest *d, const char *key); // the key and its NUL
// The digest of what was added so far; more may be added afterwards.
void digest_hex(const struct digest *d, char hex[DIGEST_HEX]);

// A digest of keys that goes on from its own value, so that a run can be taken up in the middle:
// XXH3-128 of the 16 bytes so far (zeros at the start), the key and its NUL.
enum { DIGEST_BYTES = 16 };
void digest_chain(uint8_t chain[DIGEST_BYTES], const char *key);

// Of n bytes at once, and of a file's content.
void digest_bytes(const void *data, size_t n, char hex[DIGEST_HEX]);
int digest_file(const char *path, char hex[DIGEST_HEX], struct err *e);
// XXH3-64, the checksum of the samples stream.
uint64_t digest_u64(const void *data, size_t n);
// Of a followed by b.
uint64_t digest_u64_two(const void *a, size_t n_a, const void *b, size_t n_b);
// Is it 32 lower-case hexadecimal digits?
bool digest_is_hex(const char *s);

#endif
