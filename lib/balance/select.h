// SPDX-License-Identifier: Apache-2.0
// Which rows take part in a balance at all: by the cosine of a picture with its caption (DFN,
// DataComp; omni-supervised learning's selection by similarity, arXiv 2206.02183), and by the
// greatest cosine with a row of a set of targets. A row without usable caption has no score. Rows
// that are near duplicates of an evaluation set's take no part either.
#ifndef BALANCE_SELECT_H
#define BALANCE_SELECT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "comm/comm.h"
#include "embeddings/files.h"

// Why a row takes no part; 0: it does.
enum balance_why {
    BALANCE_IN,
    BALANCE_NO_CAPTION,
    BALANCE_SCORE_OUT,
    BALANCE_FAR,
    BALANCE_EVALUATED,
    BALANCE_WHYS
};

struct balance_select {
    const char *text_dir; // text embeddings of the same samples, or NULL
    double min_score, max_score;
    double keep_share;       // of the rows that have a score, those with the greatest; < 0: off
    const char *targets;     // NPY, or NULL
    double min_similarity;   // with targets
    const char *against;     // folder of NPY, or NULL
    double against_distance; // rows within this cosine distance of one of its rows take no part
    int threads;
    struct comm *comm; // each rank works out its share of the rows
};

struct balance_selected {
    uint8_t *why; // per row, enum balance_why
    float *score; // per row (embedding_files_scores); NULL without text_dir
    uint64_t n[BALANCE_WHYS];
    double least; // score of the kept ones with keep_share
};

static inline bool balance_selects(const struct balance_select *s)
{
    return s->text_dir || s->targets || s->against;
}
// Bytes that balance_select takes for n rows.
uint64_t balance_select_bytes(const struct balance_select *s, uint64_t n);
// The same bytes on any number of ranks and threads. 0 or -1.
int balance_select(const struct embedding_files *f, const struct balance_select *s,
                   struct balance_selected *to, struct err *e);
void balance_selected_release(struct balance_selected *s);

#endif
