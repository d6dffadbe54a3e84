// SPDX-License-Identifier: Apache-2.0
// The samples of one epoch after another: standard input or a file (samples(5)), or a command that
// is started once an epoch and writes such a stream.
//
// The command is cut into words as a shell does it ('...', "...", backslash) and run without one;
// in its words {epoch}, {seed} and {skip} stand for those numbers. With {skip} the command leaves
// out the samples that a resumed run has had; without it they are read and dropped, and their key
// digest is compared.
#ifndef TRAIN_SOURCE_H
#define TRAIN_SOURCE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "digest.h"
#include "err.h"
#include "samples.h"

// How far training has come: records of the epoch that were read, used or not, and the key digest
// of these ("": not known).
struct train_pos {
    uint64_t epoch, records;
    char keys[DIGEST_HEX];
};

struct train_source {
    const char *path;    // "-", or a file; used when command is NULL
    const char *command; // NULL, or the command
    uint64_t seed, epochs;
    struct train_pos pos;
    bool once;                     // path is standard input or a pipe: no second epoch
    bool skipped;                  // the command left out the start: no digest
    struct samples_reader *reader; // NULL between epochs
    pid_t child;                   // 0: none
    int fd;                        // its output
    char name[64];                 // for messages
    // Called when an epoch has ended, its stream still open; or NULL.
    int (*ended)(void *ctx, const struct samples_reader *stream, struct err *e);
    void *ctx;
};

// Opens the stream of epoch pos->epoch, at pos (all zero: the start). 0 or -1.
int train_source_open(struct train_source *s, const char *path, const char *command, uint64_t seed,
                      uint64_t epochs, const struct train_pos *pos, struct err *e);
// The next sample, the next epoch's after the last of one: 1; 0 after the last epoch; -1. *fresh:
// it is the first of an epoch (shard numbers start again).
int train_source_next(struct train_source *s, struct samples_record *r, bool *fresh, struct err *e);
// Where the next sample stands.
void train_source_pos(const struct train_source *s, struct train_pos *pos);
// Ends the command early, too.
void train_source_close(struct train_source *s);

// The words of a command, numbers put in; a heap array ended by NULL, one block each, freed with
// train_words_free. NULL with e set.
char **train_words(const char *command, uint64_t epoch, uint64_t seed, uint64_t skip,
                   struct err *e);
void train_words_free(char **words);

#endif
