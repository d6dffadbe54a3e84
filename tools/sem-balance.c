// SPDX-License-Identifier: Apache-2.0
// sem-balance: finds the rows of embeddings that mean the same, and keeps one of each.
#include <stdio.h>

#include "balance/stage.h"
#include "comm/open.h"
#include "embeddings/stage.h"
#include "system/cli.h"
#include "system/log.h"
#include "base/mem.h"
#include "system/signals.h"

static struct balance_stage_options o = {.distance = 0.1,
                                         .share = -1,
                                         .warn_above = {50, true},
                                         .biggest = 20,
                                         .seed = 1,
                                         .mem = (uint64_t)4 << 30,
                                         .device = "cpu",
                                         .comm = COMM_DEFAULT};

static const struct cli_option options[] = {
    {.name = "keep-dir",
     .type = CLI_TEXT,
     .to = &o.keep_dir,
     .arg = "DIR",
     .help = "write a mask for each input"},
    {.name = "groups-dir",
     .type = CLI_TEXT,
     .to = &o.groups_dir,
     .arg = "DIR",
     .help = "write each row's kept row for each input"},
    {.name = "hard",
     .type = CLI_UINT,
     .to = &o.hard,
     .arg = "K",
     .max = 1000,
     .no_default = true,
     .help = "find K hard partners of each row, for --hard-dir"},
    {.name = "hard-dir",
     .type = CLI_TEXT,
     .to = &o.hard_dir,
     .arg = "DIR",
     .help = "write each row's hard partners for each input"},
    {.name = "distance",
     .type = CLI_REAL,
     .to = &o.distance,
     .arg = "D",
     .min = 0,
     .max = 2,
     .given = &o.distance_given,
     .help = "join rows under this cosine distance"},
    {.name = "euclidean",
     .type = CLI_REAL,
     .to = &o.euclidean,
     .arg = "D",
     .min = 0,
     .max = 2,
     .given = &o.euclidean_given,
     .no_default = true,
     .help = "the same as a Euclidean distance of unit rows"},
    {.name = "remove",
     .type = CLI_REAL,
     .to = &o.share,
     .arg = "SHARE",
     .min = 0,
     .max = 1,
     .given = &o.share_given,
     .no_default = true,
     .help = "find the distance that removes this share"},
    {.name = "rule",
     .type = CLI_CHOICE,
     .to = &o.rule,
     .choices = "union|semdedup",
     .help = "which rows are removed: see the manual"},
    {.name = "survivor",
     .type = CLI_CHOICE,
     .to = &o.survivor,
     .choices = "center|hard|easy|first|random|score",
     .given = &o.survivor_given,
     .help = "row that stays (semdedup: the order, hard)"},
    {.name = "may-survive",
     .type = CLI_TEXT,
     .to = &o.may_survive,
     .arg = "DIR",
     .help = "rows that may stay: masks, or text embeddings"},
    {.name = "text-dir",
     .type = CLI_TEXT,
     .to = &o.text_dir,
     .arg = "DIR",
     .help = "text embeddings: only rows with one take part"},
    {.name = "min-score",
     .type = CLI_REAL,
     .to = &o.min_score,
     .arg = "X",
     .min = -1,
     .max = 1,
     .given = &o.min_score_given,
     .no_default = true,
     .help = "least cosine of picture and text"},
    {.name = "max-score",
     .type = CLI_REAL,
     .to = &o.max_score,
     .arg = "X",
     .min = -1,
     .max = 1,
     .given = &o.max_score_given,
     .no_default = true,
     .help = "greatest cosine of picture and text"},
    {.name = "keep-score",
     .type = CLI_REAL,
     .to = &o.keep_score,
     .arg = "SHARE",
     .min = 0,
     .max = 1,
     .given = &o.keep_score_given,
     .no_default = true,
     .help = "the share of the rows with the greatest cosines"},
    {.name = "targets",
     .type = CLI_TEXT,
     .to = &o.targets,
     .arg = "FILE",
     .help = "embeddings (NPY) to which rows must be near"},
    {.name = "min-similarity",
     .type = CLI_REAL,
     .to = &o.min_similarity,
     .arg = "X",
     .min = -1,
     .max = 1,
     .given = &o.min_similarity_given,
     .no_default = true,
     .help = "least cosine with the nearest of them"},
    {.name = "against",
     .type = CLI_TEXT,
     .to = &o.against,
     .arg = "DIR",
     .help = "leave out near duplicates of the rows of these files"},
    {.name = "against-distance",
     .type = CLI_REAL,
     .to = &o.against_distance,
     .arg = "D",
     .min = 0,
     .max = 2,
     .given = &o.against_distance_given,
     .no_default = true,
     .help = "cosine distance of --against [that of --distance]"},
    {.name = "warn-above",
     .type = CLI_COUNT,
     .to = &o.warn_above,
     .arg = "N",
     .help = "warn where more rows go, N or P%, without --remove"},
    {.name = "cap",
     .type = CLI_UINT,
     .to = &o.cap,
     .arg = "N",
     .min = 1,
     .given = &o.cap_given,
     .no_default = true,
     .help = "of a cell at most N rows stay, by chance"},
    {.name = "cap-share",
     .type = CLI_REAL,
     .to = &o.cap_share,
     .arg = "SHARE",
     .min = 1e-9,
     .max = 1,
     .given = &o.cap_share_given,
     .no_default = true,
     .help = "find the N that leaves this share of them"},
    {.name = "cells",
     .type = CLI_TEXT,
     .to = &o.cells,
     .arg = "CENTROIDS",
     .help = "compare within the cells of these [all with all]"},
    {.name = "probe",
     .type = CLI_UINT,
     .to = &o.probe,
     .arg = "N",
     .max = INT32_MAX,
     .help = "compare with the N nearest other cells too"},
    {.name = "labels-dir",
     .type = CLI_TEXT,
     .to = &o.labels_dir,
     .arg = "DIR",
     .help = "take the cells of rows from these labels"},
    {.name = "pairs",
     .type = CLI_TEXT,
     .to = &o.pairs,
     .arg = "FILE",
     .help = "write which row is dropped for which"},
    {.name = "index-dir",
     .type = CLI_TEXT,
     .to = &o.index_dir,
     .arg = "DIR",
     .help = "--pairs with keys, from these indexes"},
    {.name = "curve",
     .type = CLI_TEXT,
     .to = &o.curve,
     .arg = "FILE",
     .help = "write the kept share at many distances"},
    {.name = "curve-to",
     .type = CLI_REAL,
     .to = &o.curve_to,
     .arg = "D",
     .min = 0,
     .max = 2,
     .no_default = true,
     .help = "greatest distance of the curve [0.2 or that of the run]"},
    {.name = "list",
     .type = CLI_UINT,
     .to = &o.biggest,
     .arg = "N",
     .max = 1000000,
     .help = "list the N biggest groups"},
    {.name = "seed",
     .type = CLI_UINT,
     .to = &o.seed,
     .arg = "S",
     .help = "seed of all random choices"},
    COMM_OPTION(&o.comm),
    {.name = "part",
     .type = CLI_TEXT,
     .to = &o.part,
     .arg = "A/B",
     .help = "compare the A-th of B parts of the cells, for --merge"},
    {.name = "merge",
     .type = CLI_LIST,
     .to = &o.merge,
     .arg = "FILE",
     .help = "compare nothing: take what --part found; once for each part"},
    EMBEDDINGS_STAGE_OPTIONS(o),
};

static const struct cli cli = {
    .tool = "sem-balance",
    .summary = "finds rows of embeddings that mean the same, and keeps one of each",
    .operands = "EMB.npy...",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .devices = dev_names,
    .min_operands = 0,
    .max_operands = SIZE_MAX,
};

static int work(const struct cli_common *common, int argc, char **argv, struct comm *c,
                struct log *l)
{
    struct err e;
    uint64_t rows, kept;
    char counts[96];
    if (comm_open(c, o.comm, l, &e) ||
        balance_stage_run(&o, common, argc, argv, c, l, &rows, &kept, &e)) {
        comm_report(c, l, &e);
        return CLI_FAILED;
    }
    snprintf(counts, sizeof counts, "%llu rows, %llu kept", (unsigned long long)rows,
             (unsigned long long)kept);
    if (o.part)
        snprintf(counts, sizeof counts, "%llu rows, part %s", (unsigned long long)rows, o.part);
    log_footer(l, rows, counts);
    return CLI_OK;
}

static int run(const struct cli_common *common, int argc, char **argv, struct log *l)
{
    struct err e;
    struct comm c = COMM_ALONE;
    if (balance_stage_check(&o, common, &e)) {
        log_error(l, "%s; try --help", e.text);
        return CLI_WRONG_USAGE;
    }
    signals_catch_stop();
    int status = work(common, argc, argv, &c, l);
    comm_close(&c);
    return status;
}

int main(int argc, char **argv)
{
    struct cli_common common = CLI_COMMON_INIT;
    struct log log;
    int status = CLI_FAILED;
    if (cli_start(&cli, &common, argc, argv, &status)) {
        log_init(&log, stderr, &cli, &common);
        status = run(&common, argc, argv, &log);
        cli_release(&cli, &common);
    }
    if (status == CLI_FAILED && signals_stop_signal())
        signals_die_of_stop();
    return status;
}
