// SPDX-License-Identifier: Apache-2.0
// The samples stream between shard-read and its readers; the bytes are described in samples(5).
//
// A stream is a header, records, and a trailer that counts them: shards announced as they come,
// samples in the order of their use, the end of each shard. Every block has a checksum. No
// trailer means truncated, which is an error. Several whole streams one after another (cat) are
// read as one if their formats agree; shard numbers continue across them.
//
// samples-write.h writes it.
#ifndef FORMATS_SAMPLES_H
#define FORMATS_SAMPLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "system/digest.h"
#include "base/err.h"

enum samples_images {
    SAMPLES_NO_IMAGES, // captions only
    SAMPLES_PIXELS,    // size x size RGB bytes, rows from the top, no padding
    SAMPLES_RAW,       // the encoded file as it stood in the shard
};

// Why a sample has no image or no caption. The name is what the index shows.
enum sample_status {
    SAMPLE_OK,
    SAMPLE_BAD_IMAGE,     // cannot be decoded
    SAMPLE_NO_IMAGE,      // no member with a known extension
    SAMPLE_NO_CAPTION,    // no text, or only white space
    SAMPLE_BAD_UTF8,      // its caption is not UTF-8
    SAMPLE_BAD_JSON,      // its json does not parse
    SAMPLE_DUPLICATE_KEY, // the key was there before
    SAMPLE_OVERSIZE,      // a member over the limits
    SAMPLE_NOT_KEPT,      // its keep mask is 0
    SAMPLE_NOT_SELECTED,  // a condition of --select does not hold
    SAMPLE_NO_FIELD,      // a field of --select is missing in its json
    SAMPLE_N_STATUS
};
const char *sample_status_name(enum sample_status s); // "ok", "bad-image" ...
int sample_status_of(const char *name);               // or -1
// Left out by choice: no sample of a stream has such a status.
static inline bool sample_left_out(enum sample_status s)
{
    return s == SAMPLE_NOT_KEPT || s == SAMPLE_NOT_SELECTED || s == SAMPLE_NO_FIELD;
}

// What all samples of a stream have in common. Names are short words: letters, digits, '-'.
enum { SAMPLES_NAME = 32 };
struct samples_header {
    // the format: must agree between streams that follow each other
    enum samples_images images;
    bool captions;
    uint32_t size;                    // side of the pictures; 0 unless SAMPLES_PIXELS
    char resize[SAMPLES_NAME];        // "shortest", "squash", "pad"; "" without pixels
    char crop[SAMPLES_NAME];          // "center", "random"
    char interpolation[SAMPLES_NAME]; // "bicubic"
    bool has_norm;                    // mean and std are meant for a certain model; pixels are
    double mean[3], std[3];           // bytes all the same, the reader applies them
    double scale_min, scale_max;      // of a random crop's area; 1, 1 otherwise
    double ratio_min, ratio_max;      // its width by its height; 0, 0: 3:4 to 4:3
    bool flip;                        // pictures may be mirrored
    double jitter[4];                 // ranges of brightness, contrast, saturation, hue,
    double jitter_prob;               // the share that they change; 0: none
    double gray;                      // share of the pictures without colour
    bool fast;                        // decoded with DCT scaling: not bit-equal
    bool white;                       // transparent pictures stand on white; else alpha is dropped
    // how it was made: may differ
    char tool[SAMPLES_NAME], version[SAMPLES_NAME];
    uint64_t seed, epoch;
    bool has_view; // the pictures' random choices are those of `view`, not of the epoch
    uint64_t view;
    uint64_t shuffle;       // samples of the shuffle buffer, 0 = order of the shards
    uint64_t skip;          // samples left out at the start
    uint64_t limit;         // at most so many samples; UINT64_MAX = all
    uint64_t part, n_parts; // this is part 0..n_parts-1; 0, 1 = everything
    bool keep;              // keep masks were applied
};

// A header with the defaults: 224 x 224 pixels as CLIP's evaluation wants them, captions, the whole
// of the shards in order; version is that of this build.
void samples_header_init(struct samples_header *h, const char *tool);

struct samples_record {
    uint64_t row;           // from 0, over all that was read
    uint32_t shard;         // number of its shard, samples_shard
    const char *shard_name; // "00000.tar"
    uint64_t ordinal;       // row of the sample in its shard
    enum sample_status status;
    const char *key;
    const char *reason;     // more about a status that is not ok; "" = nothing
    const char *caption;    // UTF-8, a NUL follows; NULL when there is none
    size_t caption_bytes;   // a caption may hold NULs
    uint32_t width, height; // of the picture in the shard; 0 = unknown
    // pixels (64-byte aligned), or the encoded file; NULL when there is none. Both images and
    // captions may be there though the status is not ok, and the other way round.
    const uint8_t *image;
    size_t image_bytes;
};

struct samples_shard {
    char *name;    // last part of the path; "-" for standard input
    size_t stream; // number of its stream, where several follow each other
    bool slice;    // that stream may hold a part of it only: skip, limit or part
    bool ended;    // the fields below are set
    bool whole;    // all its samples are in the stream: none masked, skipped, limited, parted or
                   // cut off by damage
    bool damaged;  // its end could not be read: damage, not a choice of the reader
    bool counted;  // all its keys were read, whichever samples are in the stream
    uint64_t rows; // its samples; less when not counted
    char keys[DIGEST_HEX]; // key digest of its samples in the order of the tar, when counted
};

struct samples_reader;

// Reads from a file descriptor, which stays the caller's; `name` is for messages. The header is
// read at once. NULL with e set.
struct samples_reader *samples_open_fd(int fd, const char *name, struct err *e);
// A file, or "-" for standard input.
struct samples_reader *samples_open(const char *path, struct err *e);
// n bytes of memory, the caller's until samples_close.
struct samples_reader *samples_open_memory(const void *data, size_t n, struct err *e);
void samples_close(struct samples_reader *r);

const struct samples_header *samples_header(const struct samples_reader *r);
// 1: the next sample; its pointers last until the next call. 0: the end, trailer checked. -1: error
// "NAME: record N: ..." with N the row counted from 0; later calls repeat it.
int samples_next(struct samples_reader *r, struct samples_record *out, struct err *e);
// The shards announced so far.
size_t samples_n_shards(const struct samples_reader *r);
const struct samples_shard *samples_shard(const struct samples_reader *r, size_t i);
// The chained digest (digest_chain) of the keys of all samples up to here in the order of the
// stream, those that it left out at its start among them: a run and its continuation have the same.
void samples_chain(const struct samples_reader *r, char hex[DIGEST_HEX]);
// The same before the first sample that came.
void samples_chain_before(const struct samples_reader *r, char hex[DIGEST_HEX]);
// True when reading has failed: samples_next gave -1.
bool samples_failed(const struct samples_reader *r);
// True when the stream says which samples it left out at its start; *n of them. Known after the
// first samples_next.
bool samples_skipped(const struct samples_reader *r, uint64_t *n);
// The key digest of all samples read so far in the order of the stream.
void samples_keys(const struct samples_reader *r, char hex[DIGEST_HEX]);
// Samples read so far.
uint64_t samples_count(const struct samples_reader *r);

#endif
