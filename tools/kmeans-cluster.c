// SPDX-License-Identifier: Apache-2.0
// kmeans-cluster: spherical k-means over the embeddings of many shards, and the label of each row.
#include <stdio.h>

#include "comm/open.h"
#include "embeddings/stage.h"
#include "system/cli.h"
#include "cluster/stage.h"
#include "system/log.h"
#include "base/mem.h"
#include "system/signals.h"

static struct kmeans_stage_options o = {.top = 1,
                                        .iterations = 20,
                                        .seed = 1,
                                        .mem = (uint64_t)4 << 30,
                                        .normalize = true,
                                        .init = "random",
                                        .device = "cpu",
                                        .comm = COMM_DEFAULT};

static const struct cli_option options[] = {
    {.name = "clusters",
     .letter = 'k',
     .type = CLI_UINT,
     .to = &o.k,
     .arg = "K",
     .max = INT32_MAX,
     .no_default = true,
     .help = "how many clusters"},
    {.name = "iterations",
     .type = CLI_UINT,
     .to = &o.iterations,
     .arg = "N",
     .min = 1,
     .max = 65535,
     .help = "iterations of Lloyd's algorithm"},
    {.name = "seed",
     .type = CLI_UINT,
     .to = &o.seed,
     .arg = "S",
     .help = "seed of all random choices"},
    {.name = "init",
     .type = CLI_TEXT,
     .to = &o.init,
     .arg = "random|FILE",
     .help = "first centroids: random rows, or those of FILE"},
    {.name = "levels",
     .type = CLI_CHOICE,
     .to = &o.levels,
     .choices = "1|2",
     .help = "2: coarse clusters first, then clusters within each"},
    {.name = "coarse",
     .type = CLI_UINT,
     .to = &o.coarse,
     .arg = "K1",
     .max = INT32_MAX,
     .no_default = true,
     .help = "number of coarse clusters [the root of K]"},
    {.name = "coarse-points",
     .type = CLI_UINT,
     .to = &o.coarse_points,
     .arg = "N",
     .no_default = true,
     .help = "rows to train the coarse clusters on [2048 a cluster]"},
    {.name = "max-points",
     .type = CLI_UINT,
     .to = &o.max_points,
     .arg = "N",
     .no_default = true,
     .help = "train on N rows at most [all]"},
    {.name = "keep-dir",
     .type = CLI_TEXT,
     .to = &o.keep_dir,
     .arg = "DIR",
     .help = "train on the rows that the masks in DIR keep"},
    {.name = "checkpoint",
     .type = CLI_TEXT,
     .to = &o.checkpoint,
     .arg = "FILE",
     .help = "save the state in FILE and continue from it"},
    {.name = "assign",
     .type = CLI_TEXT,
     .to = &o.assign,
     .arg = "CENTROIDS",
     .help = "label with these centroids, train nothing"},
    {.name = "labels-dir",
     .type = CLI_TEXT,
     .to = &o.labels_dir,
     .arg = "DIR",
     .help = "write a label file for each input"},
    {.name = "each",
     .type = CLI_FLAG,
     .to = &o.each,
     .help = "with --assign: inputs one by one, and go on after one that fails"},
    {.name = "resume",
     .type = CLI_FLAG,
     .to = &o.resume,
     .help = "the same, and pass over labels that are there"},
    {.name = "top",
     .type = CLI_UINT,
     .to = &o.top,
     .arg = "N",
     .min = 1,
     .max = 65536,
     .help = "write the N nearest centroids of each row"},
    {.name = "normalize",
     .type = CLI_FLAG,
     .to = &o.normalize,
     .help = "scale rows to unit length"},
    {.name = "engine",
     .type = CLI_CHOICE,
     .to = &o.engine,
     .choices = "exact|faiss",
     .help = "library that trains; faiss needs all rows in memory"},
    COMM_OPTION(&o.comm),
    EMBEDDINGS_STAGE_OPTIONS(o),
};

static const struct cli cli = {
    .tool = "kmeans-cluster",
    .summary = "finds clusters of embeddings, and labels each row with its nearest",
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
    uint64_t rows;
    char counts[64];
    if (comm_open(c, o.comm, l, &e) || kmeans_stage_run(&o, common, argc, argv, c, l, &rows, &e)) {
        comm_report(c, l, &e);
        return CLI_FAILED;
    }
    snprintf(counts, sizeof counts, "%llu rows", (unsigned long long)rows);
    log_footer(l, rows, counts);
    return CLI_OK;
}

static int run(const struct cli_common *common, int argc, char **argv, struct log *l)
{
    struct err e;
    struct comm c = COMM_ALONE;
    if (kmeans_stage_check(&o, common, &e)) {
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
