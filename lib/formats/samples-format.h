// SPDX-License-Identifier: Apache-2.0
// The bytes of the samples stream, shared by its reader and its writer; samples(5) is the
// description. All numbers are little-endian.
#ifndef FORMATS_SAMPLES_FORMAT_H
#define FORMATS_SAMPLES_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "formats/samples.h"

#define SAMPLES_MAGIC "\x93SAMPLES"

enum {
    SAMPLES_VERSION = 1,
    SAMPLES_MAGIC_N = 8,
    // stream header: magic, u16 version, u16 0, u32 bytes of JSON; the JSON; u64 checksum
    SAMPLES_TOP = 16,
    SAMPLES_MAX_JSON = 65536,
    // block: u32 type, u32 0, u64 bytes of the body; the body; u64 checksum
    SAMPLES_BLOCK = 16,
    SAMPLES_SUM = 8,
    // body of a sample: the fixed fields, key, reason, caption (each with a NUL), zeros to the next
    // multiple of SAMPLES_ALIGN counted from the start of the block, then the image
    SAMPLES_FIXED = 40,
    SAMPLES_ALIGN = 64,
    SAMPLES_ENDING = 32, // body of the end of a shard, of what was skipped, and of the trailer
    // limits
    SAMPLES_MAX_NAME = 4096, // of a shard or a key
    SAMPLES_MAX_REASON = 1024,
    SAMPLES_MAX_CAPTION = 16 << 20,
    SAMPLES_MAX_IMAGE = 1 << 30,
    SAMPLES_MAX_SIZE = 8192,
    SAMPLES_MAX_SHARDS = 1 << 26,
};

// Types of block: four letters, as they stand in the stream.
#define SAMPLES_TYPE(a, b, c, d) ((uint32_t)(a) | (b) << 8 | (c) << 16 | (uint32_t)(d) << 24)
#define SAMPLES_SHARD SAMPLES_TYPE('S', 'H', 'R', 'D')
#define SAMPLES_SAMPLE SAMPLES_TYPE('S', 'A', 'M', 'P')
#define SAMPLES_ENDED SAMPLES_TYPE('E', 'N', 'D', 'S')
#define SAMPLES_SKIPPED SAMPLES_TYPE('S', 'K', 'I', 'P')
#define SAMPLES_TRAILER SAMPLES_TYPE('T', 'R', 'L', 'R')

enum {
    SAMPLES_HAS_CAPTION = 1,
    SAMPLES_HAS_IMAGE = 2,
    SAMPLES_WHOLE = 1,
    SAMPLES_COUNTED = 2,
    SAMPLES_DAMAGED = 4
};

static inline void samples_put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void samples_put32(uint8_t *p, uint32_t v)
{
    samples_put16(p, v);
    samples_put16(p + 2, v >> 16);
}

static inline void samples_put64(uint8_t *p, uint64_t v)
{
    samples_put32(p, (uint32_t)v);
    samples_put32(p + 4, (uint32_t)(v >> 32));
}

static inline uint32_t samples_get16(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

static inline uint32_t samples_get32(const uint8_t *p)
{
    return samples_get16(p) | samples_get16(p + 2) << 16;
}

static inline uint64_t samples_get64(const uint8_t *p)
{
    return samples_get32(p) | (uint64_t)samples_get32(p + 4) << 32;
}

// Bytes of a sample's block before its image, its own head included; the lengths are within the
// limits.
static inline size_t samples_image_at(size_t key, size_t reason, size_t caption)
{
    size_t n = SAMPLES_BLOCK + SAMPLES_FIXED + key + reason + caption + 3;
    return (n + SAMPLES_ALIGN - 1) / SAMPLES_ALIGN * SAMPLES_ALIGN;
}

// The JSON of the header: one line, padded; freed with free(). NULL with e set.
char *samples_header_text(const struct samples_header *h, struct err *e);
// Reads it back. Unknown names are passed over: a later shard-read may add some. 0 or -1.
int samples_header_parse(struct samples_header *h, const char *text, size_t n, struct err *e);
// 0 when the format fields agree; -1, naming the first that does not.
int samples_same_format(const struct samples_header *a, const struct samples_header *b,
                        struct err *e);
// Refuses what neither side may have: sizes over the limits, pixels without a size ...
int samples_header_check(const struct samples_header *h, struct err *e);

// Hexadecimal digest to its 16 bytes and back.
void samples_digest_pack(const char *hex, uint8_t out[16]);
void samples_digest_unpack(const uint8_t in[16], char hex[DIGEST_HEX]);

#endif
