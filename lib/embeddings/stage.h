// SPDX-License-Identifier: Apache-2.0
// What the stages kmeans-cluster and sem-balance begin with.
#ifndef EMBEDDINGS_STAGE_H
#define EMBEDDINGS_STAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "device/options.h"
#include "system/cli.h"
#include "system/log.h"
#include "embeddings/files.h"
#include "search/search-device.h"

// Fits the default of --mem (bytes; `given`: not the default) to this machine (memory-budget.h),
// with a note, and opens the device of --device in bfloat16; "cpu": d->op stays NULL. 0 or -1.
int embeddings_stage_begin(struct dev *d, const char *device, int threads, uint64_t *mem,
                           bool given, struct log *l, struct err *e);
// Allocates for searches on the device, subtracts the host memory that they take from *mem, and
// notes the sizes; without a device nothing. 0 or -1.
int embeddings_stage_search(struct search_device *s, struct dev *d,
                            const struct search_device_need *need, uint64_t *mem, struct log *l,
                            struct err *e);
// Opens the operands and the lines of files_from (NULL: none), refuses outputs that would replace
// one (embedding_files_check_outputs), and notes inputs without sidecar. 0 or -1.
int embeddings_stage_open(struct embedding_files *f, const struct cli_common *common,
                          const char *files_from, const char *const *files, size_t n_files,
                          const char *const *dirs, size_t n_dirs, struct log *l, struct err *e);

// The rows that their option tables share (system/cli.h). `o`: the options, with device, mem,
// mem_given, files_from and ledger.
#define EMBEDDINGS_STAGE_OPTIONS(o)                                                                \
    DEVICE_OPTION((o).device),                                                                     \
        {.name = "mem",                                                                            \
         .type = CLI_SIZE,                                                                         \
         .to = &(o).mem,                                                                           \
         .arg = "SIZE",                                                                            \
         .given = &(o).mem_given,                                                                  \
         .help = "memory to stay under"},                                                          \
        {.name = "files-from",                                                                     \
         .type = CLI_TEXT,                                                                         \
         .to = &(o).files_from,                                                                    \
         .arg = "FILE",                                                                            \
         .help = "more inputs, one a line"},                                                       \
    {                                                                                              \
        .name = "ledger", .type = CLI_TEXT, .to = &(o).ledger, .arg = "FILE",                      \
        .help = "add a line for each input to this ledger"                                         \
    }

#endif
