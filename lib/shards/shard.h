// SPDX-License-Identifier: Apache-2.0
// The samples of one WebDataset shard: a tar (ustar, pax, GNU long names, sparse members; plain or
// gzip, bzip2, xz, zstd) read once from start to end in bounded memory. Archives joined by cat are
// one shard.
//
// A member `DIR/KEY.EXT` belongs to the sample `DIR/KEY`: the key is everything to the first dot of
// the last path part, the extension the rest, in lower case; a leading `./` is dropped. A sample is
// a run of consecutive members with one key, in any order; a repeated extension starts a new sample
// (as in open_clip). Folders, links, names whose first part is `__x__`, names without a dot or
// extension and names that start with a dot are passed over.
#ifndef SHARDS_SHARD_H
#define SHARDS_SHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// Keys seen in the shards of a run; safe to share between threads. Memory is bounded (64 MB): after
// some three million keys the oldest shards are forgotten, and a single shard of more has its later
// keys not remembered.
struct remote;
struct shard_keys;
struct shard_keys *shard_keys_new(struct err *e);
void shard_keys_free(struct shard_keys *k);

// A zero means the default, checked before anything is allocated.
struct shard_limits {
    size_t member_bytes;     // 256 MiB; a larger member is passed over and its sample flagged
    size_t sample_bytes;     // 512 MiB; the same, for all members of a sample together
    size_t name_bytes;       // 4096; a longer name is an error
    size_t members;          // 64 in one sample; more is an error
    bool scan;               // mostly passed over (shard_pass_over): small reads, so that seeks pay
    struct shard_keys *keys; // keys of all shards, or NULL: this one's only
    struct remote *remote;   // reads URLs; NULL: they are refused
};

enum {
    SHARD_DUPLICATE = 1,       // the key was used before in this shard
    SHARD_DUPLICATE_OTHER = 2, // the key was used before in another shard (of limits.keys)
    SHARD_OVERSIZE = 4,        // a member over the limits was left out
};

struct shard_member {
    const char *ext;     // lower case, without the first dot
    const uint8_t *data; // a NUL follows the bytes; never NULL
    size_t size;
};

// Everything belongs to the shard and lasts until its next call.
struct shard_sample {
    uint64_t index; // from 0: the row of this sample in every file of the shard
    const char *key;
    unsigned flags;
    const struct shard_member *members; // in the order of the tar
    size_t n_members;
    const struct shard_member *image;   // the first there is of jpg, png, jpeg, webp; or NULL
    const struct shard_member *caption; // txt, or NULL
    const struct shard_member *json;    // or NULL
};

struct shard;

// Opens a file, a URL (url.h), a link to one (shard-link.h), or standard input when path is "-".
// `limits` may be NULL. NULL with e set on error; what is not a tar shows only at the first
// shard_next.
struct shard *shard_open(const char *path, const struct shard_limits *limits, struct err *e);
// The same over `size` bytes of memory, which the caller keeps until shard_close.
struct shard *shard_open_memory(const void *data, size_t size, const struct shard_limits *limits,
                                struct err *e);
// 1: *out is the next sample. 0: the end (an empty file is a shard of no samples). -1: an error of
// the machine (e->machine: a read was refused, memory ran out), or the archive is damaged; the
// samples before the damage have been returned, nothing after it is read, and later calls repeat
// the error. The message starts with `record N: `, N counted from 0 as in `index`: the sample that
// could not be had. A run cut off between two members is returned only when it has as many members
// as the sample before it, since what is missing cannot be seen.
int shard_next(struct shard *s, struct shard_sample *out, struct err *e);
void shard_close(struct shard *s);

// While on, the bytes of members are passed over (by seeking, where the file allows it) and members
// have size 0; keys, flags, counts and damage are as they would be otherwise.
void shard_pass_over(struct shard *s, bool on);

// Bytes of the file that have been read or passed over so far.
uint64_t shard_position(const struct shard *s);
// True if the shard is on another machine.
bool shard_is_remote(const struct shard *s);

// The member with this extension, or NULL.
const struct shard_member *shard_find(const struct shard_sample *s, const char *ext);

// Splits a member name by the rule above. Sets *key (inside name) and its length, and *ext (inside
// name); false for a name that belongs to no sample.
bool shard_split_name(const char *name, const char **key, size_t *key_len, const char **ext);

#endif
