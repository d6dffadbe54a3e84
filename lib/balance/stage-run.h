// SPDX-License-Identifier: Apache-2.0
// What the stage*.c files share. Internal.
#ifndef BALANCE_STAGE_RUN_H
#define BALANCE_STAGE_RUN_H

#include "balance/stage.h"
#include "balance/balance.h"
#include "balance/joins-file.h"
#include "balance/select.h"
#include "device/dev.h"
#include "embeddings/files.h"
#include "search/search-device.h"
#include "system/progress.h"

enum { BALANCE_MEMBERS = 50 }; // of a group in the report, at most

struct balance_stage {
    const struct balance_stage_options *o;
    const struct cli_common *common;
    struct comm *comm;
    struct log *log;
    uint64_t mem; // that may be used now
    int survivor; // with the default of the rule
    struct embedding_files files;
    struct embedding_files texts; // with --hard
    struct embeddings_origin origin;
    struct dev dev; // with --device
    struct search_device sim;
    struct progress bar;
    struct balance_result result;
    float *centroids;
    uint8_t *may;    // per row, with --may-survive
    uint64_t barred; // rows that may not
    struct balance_select select;
    struct balance_selected selected;
    size_t n_cells;
    char cells_hex[DIGEST_HEX];
    // With --part or --merge
    uint64_t part, parts; // parts 0: all
    struct balance_tag tag;
    struct balance_joins_file joins; // that is open
    bool made_keep_dir, made_groups_dir, made_hard_dir;
};

// stage-parts.c: fills tag; the callbacks of balance_options; are these all parts?
int balance_stage_tag(struct balance_stage *j, const struct balance_options *o, struct err *e);
int balance_stage_found(void *ctx, const void *joins, size_t n, struct err *e);
const void *balance_stage_take(void *ctx, size_t i, size_t *n, struct err *e);
int balance_stage_check_parts(struct balance_stage *j, struct err *e);
int balance_stage_write(struct balance_stage *j, struct err *e); // all outputs
void balance_stage_tell(struct balance_stage *j);                // the figures, to the log

#endif
