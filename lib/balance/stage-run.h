// SPDX-License-Identifier: Apache-2.0
// What the stage*.c files share. Internal.
#ifndef BALANCE_STAGE_RUN_H
#define BALANCE_STAGE_RUN_H

#include "balance/stage.h"
#include "balance/balance.h"
#include "device/dev.h"
#include "embeddings/files.h"
#include "search/search-device.h"

enum { BALANCE_MEMBERS = 50 }; // of a group in the report, at most

struct balance_stage {
    const struct balance_stage_options *o;
    const struct cli_common *common;
    struct log *log;
    uint64_t mem; // that may be used now
    int survivor; // with the default of the rule
    struct embedding_files files;
    struct embeddings_origin origin;
    struct dev dev; // with --device
    struct search_device sim;
    struct progress bar;
    struct balance_result result;
    float *centroids;
    uint8_t *may;    // per row, with --may-survive
    uint64_t barred; // rows that may not
    size_t n_cells;
    char cells_hex[DIGEST_HEX];
    bool made_keep_dir, made_groups_dir;
};

int balance_stage_write(struct balance_stage *j, struct err *e); // all outputs
void balance_stage_tell(struct balance_stage *j);                // the figures, to the log

#endif
