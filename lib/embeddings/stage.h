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

// Fits the default of --mem to this machine (memory-budget.h), and says so.
void embeddings_stage_memory(struct log *l, uint64_t *mem, bool given);
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
