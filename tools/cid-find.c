// SPDX-License-Identifier: Apache-2.0
// cid-find: looks into a pipeline's folder: what is near a text, a picture or a sample, what a
// cluster or a group holds, which captions fit least, what was dropped for what.
#include <stdio.h>

#include "device/options.h"
#include "find/stage.h"
#include "system/cli.h"
#include "system/log.h"
#include "system/signals.h"

static struct find_stage_options o = {.n = 20, .probe = 8, .device = "cpu"};

static const struct cli_option options[] = {
    {.name = "model",
     .letter = 'm',
     .type = CLI_TEXT,
     .to = &o.model,
     .arg = "DIR",
     .help = "the model that made the embeddings, for TEXT and --image"},
    {.name = "tokenizer",
     .type = CLI_TEXT,
     .to = &o.tokenizer,
     .arg = "PATH",
     .help = "vocabulary instead of the model folder's"},
    DEVICE_OPTION(o.device),
    {.name = "image",
     .type = CLI_TEXT,
     .to = &o.image,
     .arg = "FILE",
     .help = "the rows nearest to this picture"},
    {.name = "key",
     .type = CLI_TEXT,
     .to = &o.key,
     .arg = "SHARD:ROW",
     .help = "the rows nearest to this sample; ROW may be its key"},
    {.name = "cluster",
     .type = CLI_UINT,
     .to = &o.cluster,
     .arg = "K",
     .given = &o.cluster_given,
     .no_default = true,
     .help = "the rows of this cluster, nearest its centroid first"},
    {.name = "group",
     .type = CLI_TEXT,
     .to = &o.group,
     .arg = "SHARD:ROW",
     .help = "the near duplicates of this sample"},
    {.name = "worst",
     .type = CLI_FLAG,
     .to = &o.worst,
     .help = "the rows whose picture and caption are least alike"},
    {.name = "dropped",
     .type = CLI_FLAG,
     .to = &o.dropped,
     .help = "dropped rows, least like the one kept for them first"},
    {.name = "n",
     .letter = 'n',
     .type = CLI_UINT,
     .to = &o.n,
     .arg = "N",
     .min = 1,
     .max = 10000,
     .help = "rows to show"},
    {.name = "among",
     .type = CLI_CHOICE,
     .to = &o.among,
     .choices = "pictures|captions",
     .help = "what is compared with the question"},
    {.name = "kept", .type = CLI_FLAG, .to = &o.kept, .help = "only rows that the balance keeps"},
    {.name = "probe",
     .type = CLI_UINT,
     .to = &o.probe,
     .arg = "N",
     .min = 1,
     .max = 1 << 20,
     .given = &o.probe_given,
     .no_default = true,
     .help = "compare the rows of the N nearest clusters only"},
    {.name = "exact",
     .type = CLI_FLAG,
     .to = &o.exact,
     .help = "with --probe: compare all rows too, and tell the recall"},
    {.name = "shards",
     .type = CLI_TEXT,
     .to = &o.shards,
     .arg = "DIR",
     .help = "folder of the tar files, for captions and pictures"},
    {.name = "page",
     .type = CLI_TEXT,
     .to = &o.page,
     .arg = "FILE",
     .help = "write a page with the pictures too"},
};

static const struct cli cli = {
    .tool = "cid-find",
    .summary = "finds samples in a pipeline's folder",
    .operands = "WORK_DIR [TEXT]",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .devices = dev_names,
    .min_operands = 1,
    .max_operands = 2,
};

static int run(const struct cli_common *common, struct log *l)
{
    struct err e;
    char counts[64];
    uint64_t rows;
    if (find_stage_check(&o, common, &e)) {
        log_error(l, "%s; try --help", e.text);
        return CLI_WRONG_USAGE;
    }
    signals_catch_stop();
    if (find_stage_run(&o, common, l, &rows, &e)) {
        log_error(l, "%s", e.text);
        return CLI_FAILED;
    }
    snprintf(counts, sizeof counts, "%llu rows", (unsigned long long)rows);
    log_footer(l, rows, counts);
    return CLI_OK;
}

int main(int argc, char **argv)
{
    struct cli_common common = CLI_COMMON_INIT;
    struct log log;
    int status = CLI_FAILED;
    if (cli_start(&cli, &common, argc, argv, &status)) {
        log_init(&log, stderr, &cli, &common);
        status = run(&common, &log);
        cli_release(&cli, &common);
    }
    if (status == CLI_FAILED && signals_stop_signal())
        signals_die_of_stop();
    return status;
}
