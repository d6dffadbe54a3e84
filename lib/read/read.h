// SPDX-License-Identifier: Apache-2.0
// The reading pipeline: shards in, samples out, in an order that depends on the options only. Its
// users are shard-read and teacher-embed.
//
// Order. The source sequence is the samples of all shards, shard after shard, without those that a
// keep mask drops; with `shuffle` the shards stand in a random order. It is cut into windows of
// `shuffle` samples, the last one shorter, and each window is permuted. So where a sample goes is a
// function of (seed, epoch, place in the source), and the output sequence can be cut anywhere:
// parts, or a run and its continuation, put one after another are the uninterrupted run.
//
// Memory: the encoded samples of one window and of the samples in work, the decoded picture of each
// thread, and the keys of the shards (shard.h).
#ifndef READ_READ_H
#define READ_READ_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "system/digest.h"
#include "base/err.h"
#include "image/picture.h"
#include "formats/samples.h"
#include "remote/remote.h"
#include "read/select.h"
#include "shards/shard-list.h"

#define READ_ALL UINT64_MAX

struct read_options {
    const struct shard_list *shards;
    enum samples_images images;
    bool captions;
    const char *caption; // the member of a sample's json that is its caption, in place of KEY.txt;
                         // or NULL
    struct read_picture picture; // used with SAMPLES_PIXELS
    uint64_t shuffle;            // samples in a window; 0 = the order of the shards
    uint64_t seed, epoch;
    uint64_t
        view; // of the pictures' random choices, as an epoch is: the same view, the same pictures
    uint64_t part, n_parts; // part 0 .. n_parts - 1 of the output sequence, in nearly equal slices
    uint64_t skip, limit;   // samples of that slice left out at its start; then at most so many
    const char *group_labels; // folder of labels, one file per shard (read/group.h); or NULL
    uint64_t group;           // so many of one label in a row
    const char *keep;         // folder of keep masks, NPY |u1, one per shard: 00000.npy; or NULL
    const char *counts; // with parts: folder of files that give the counts (read/count.h), or NULL
    struct remote *remote;       // reads URLs
    atomic_ullong *bytes;        // gets what is read of the shards added, while it is read; or NULL
    const struct select *select; // samples that it does not take are dropped as by a mask; or NULL
    int threads;
};

// One shard of the run. The pipeline's; sinks use it between begin and end.
struct read_shard {
    const char *path, *name; // to be shown, a URL without secrets; name: its last part
    uint64_t rows;           // samples read from it so far; all of them at its end
    uint64_t delivered;      // samples handed out so far
    uint64_t dropped;        // left out by the keep mask
    bool whole;              // at the end: every sample was handed out, and nothing is damaged
    bool counted; // at the end: every key was read, so that `rows` and `keys` are the shard's own,
                  // whether all samples were handed out or not
    bool damaged; // at the end: `damage` says which record could not be had, and why
    struct err damage;
    char keys[DIGEST_HEX]; // at the end: digest of the keys of `rows` samples in the order of the
                           // tar
    uint32_t id;           // for the sink to use

    // the pipeline's own
    char *names; // owns path and name
    struct digest *digest;
    atomic_bool done;
    struct read_shard *next;
};

// Takes what comes out, in order, one call at a time. A shard is announced before its samples and
// ends after them; shuffled shards overlap. A sample dropped by a keep mask comes once, with
// SAMPLE_NOT_KEPT and neither picture nor caption; it has no place in the output sequence. The same
// for one that `select` does not take, with its status and reason.
// record.row and record.shard are not set. `bad`: something is wrong with the sample; not for one
// that only has its key in common with a sample of another shard. Each returns 0, or -1; `sample`
// also 1: enough, stop.
struct read_sink {
    void *ctx;
    int (*begin)(void *ctx, struct read_shard *s, struct err *e);
    int (*sample)(void *ctx, struct read_shard *s, const struct samples_record *r, bool bad,
                  struct err *e);
    int (*end)(void *ctx, struct read_shard *s, struct err *e);
    // With `skip`, before anything else: how many samples are left out, and their chained digest in
    // the order of the output. NULL: not wanted.
    int (*skipped)(void *ctx, uint64_t n, const uint8_t chain[DIGEST_BYTES], struct err *e);
};

// Runs to the end. Errors of a sample or a shard go to the sink and do not end the run; a shard
// that cannot be opened, a read that the system refuses, lack of memory, a keep mask that does not
// fit and the sink's -1 do. 0 or -1.
int read_run(const struct read_options *o, const struct read_sink *sink, struct err *e);

// Refuses options that do not go together, and shards that are not there. 0 or -1.
int read_check(const struct read_options *o, struct err *e);

#endif
