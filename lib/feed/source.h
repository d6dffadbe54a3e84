// SPDX-License-Identifier: Apache-2.0
// The samples of one epoch after another: standard input or a file (samples(5)), or a command that
// is started once an epoch and writes such a stream.
//
// The command is cut into words as a shell does it ('...', "...", backslash) and run without one;
// in its words {epoch}, {seed}, {skip}, {part}, {parts} and {view} stand for those numbers, but not
// inside '...'. With {skip} the command leaves out the samples that a resumed run has had, without
// it they are read and dropped; either way the digest of their keys is compared, when a stream of
// the first kind has it.
#ifndef FEED_SOURCE_H
#define FEED_SOURCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "system/digest.h"
#include "base/err.h"
#include "formats/samples.h"
#include "feed/child.h"

// How far training has come: records of the epoch that were read, used or not, and the chained key
// digest of these (samples_chain; "": not known).
struct train_pos {
    uint64_t epoch, records;
    char keys[DIGEST_HEX];
};

struct train_source_set {
    const char *path;    // "-", or a file; used when command is NULL
    const char *command; // NULL, or the command
    uint64_t seed, epochs;
    uint64_t part, parts; // 1 .. parts; 0: not by part
    uint64_t views;       // {view} is the epoch modulo it; 0: there are none
};

struct train_source {
    struct train_source_set set;
    struct train_pos pos;
    bool once;                     // path is standard input or a pipe: no second epoch
    bool told;                     // the command was told how many to skip
    bool unknown;                  // ... and its stream does not say which these were
    bool begun;                    // a sample was asked for
    uint64_t behind;               // of the epoch, not seen to yet: had by an earlier part
    struct samples_reader *reader; // NULL between epochs
    struct train_child child;
    atomic_bool stopped;
    atomic_bool ever_unknown; // unknown in some epoch
    char name[96];            // for messages
    // Called when an epoch has ended, its stream still open; or NULL.
    int (*ended)(void *ctx, const struct samples_reader *stream, struct err *e);
    void *ctx;
};

// Opens the stream of epoch pos->epoch, at pos (all zero: the start). 0 or -1.
int train_source_open(struct train_source *s, const struct train_source_set *set,
                      const struct train_pos *pos, struct err *e);
// The next sample, the next epoch's after the last of one: 1; 0 after the last epoch; -1. *fresh:
// it is the first of an epoch (shard numbers start again).
int train_source_next(struct train_source *s, struct samples_record *r, bool *fresh, struct err *e);
// Where the next sample stands.
void train_source_pos(const struct train_source *s, struct train_pos *pos);
// Ends the stream from another thread: the command gets the signal, and no other is started.
void train_source_stop(struct train_source *s, int sig);
// Ends the command early, too.
void train_source_close(struct train_source *s);

// What {epoch}, {seed}, {skip}, {part}, {parts} and {view} in a command stand for.
enum train_number {
    NUMBER_EPOCH,
    NUMBER_SEED,
    NUMBER_SKIP,
    NUMBER_PART,
    NUMBER_PARTS,
    NUMBER_VIEW,
    N_NUMBERS
};
// The words of a command, numbers put in; a heap array ended by NULL, one block each, freed with
// train_words_free. used[i]: number i was among them. NULL with e set.
char **train_words(const char *command, const uint64_t value[N_NUMBERS], bool used[N_NUMBERS],
                   struct err *e);
void train_words_free(char **words);

#endif
