// SPDX-License-Identifier: Apache-2.0
// zs-eval: a model on evaluation sets in CLIP_benchmark's layout; a line of JSON for each.
#include "device/options.h"
#include "eval/stage.h"
#include "system/cli.h"
#include "system/log.h"

static struct eval_stage_options o = {.split = "test",
                                      .device = "cpu",
                                      .batch = 64,
                                      .confusions = 20,
                                      .seed = 1,
                                      .iterations = 1000,
                                      .shortcuts = true};

static const struct cli_option options[] = {
    {.name = "model",
     .letter = 'm',
     .type = CLI_TEXT,
     .to = &o.model,
     .arg = "MODEL",
     .help = "model folder (needed)"},
    {.name = "task",
     .type = CLI_CHOICE,
     .to = &o.task,
     .choices = "auto|zeroshot|retrieval|linear-probe|neighbours|instance",
     .help = "auto: as the set's type says"},
    {.name = "teacher-image",
     .type = CLI_TEXT,
     .to = &o.teacher_image,
     .arg = "DIR",
     .help = "the teacher's rows: how many neighbours the models share"},
    {.name = "split",
     .type = CLI_TEXT,
     .to = &o.split,
     .arg = "NAME",
     .help = "folder of the shards"},
    {.name = "tokenizer",
     .type = CLI_TEXT,
     .to = &o.tokenizer,
     .arg = "PATH",
     .help = "vocabulary file or folder, when the model folder has none"},
    {.name = "classnames",
     .type = CLI_TEXT,
     .to = &o.classnames,
     .arg = "FILE",
     .help = "instead of the set's own"},
    {.name = "templates",
     .type = CLI_TEXT,
     .to = &o.templates,
     .arg = "FILE",
     .help = "instead of the set's own"},
    {.name = "batch",
     .type = CLI_UINT,
     .to = &o.batch,
     .arg = "N",
     .min = 1,
     .max = 65536,
     .help = "pictures or texts at once"},
    DTYPE_OPTION(o.dtype),
    DEVICE_OPTION(o.device),
    {.name = "shortcuts",
     .type = CLI_FLAG,
     .to = &o.shortcuts,
     .help = "leave out what does not change the result"},
    {.name = "features",
     .type = CLI_CHOICE,
     .to = &o.features,
     .choices = "embedding|tower",
     .help = "of the linear probe: after or before the projection"},
    {.name = "c",
     .type = CLI_REAL,
     .to = &o.c,
     .arg = "C",
     .min = 0,
     .max = 1e12,
     .help = "of the linear probe; 0 = search"},
    {.name = "iterations",
     .type = CLI_UINT,
     .to = &o.iterations,
     .arg = "N",
     .min = 1,
     .max = 1000000,
     .help = "of the linear probe's L-BFGS, at most"},
    {.name = "seed",
     .type = CLI_UINT,
     .to = &o.seed,
     .arg = "S",
     .help = "chooses the rows that C is tried on"},
    {.name = "cache", .type = CLI_TEXT, .to = &o.cache, .arg = "DIR", .help = "keep features here"},
    {.name = "predictions",
     .type = CLI_TEXT,
     .to = &o.predictions,
     .arg = "FILE",
     .help = "a line for each sample"},
    {.name = "csv",
     .type = CLI_TEXT,
     .to = &o.csv,
     .arg = "FILE",
     .help = "the results as a table too, with CLIP_benchmark's columns"},
    {.name = "confusions",
     .type = CLI_UINT,
     .to = &o.confusions,
     .arg = "N",
     .max = 1000000,
     .help = "most frequent pairs to list"},
    {.name = "min-acc1",
     .type = CLI_REAL,
     .to = &o.min_acc1,
     .arg = "X",
     .min = 0,
     .max = 1,
     .help = "fail when any acc1 is lower",
     .given = &o.min_given,
     .no_default = true},
    {.name = "max-bad",
     .type = CLI_COUNT,
     .to = &o.max_bad,
     .arg = "N|P%",
     .help = "fail when more pictures cannot be decoded"},
};
static const struct cli cli = {
    .tool = "zs-eval",
    .summary = "evaluates a model: zero-shot classification, retrieval, linear probe, neighbours",
    .operands = "WDS_DIR...",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .devices = dev_names,
    .min_operands = 1,
    .max_operands = SIZE_MAX,
};

int main(int argc, char **argv)
{
    struct cli_common common = CLI_COMMON_INIT;
    struct log log;
    struct err e;
    bool missed = false;
    int status;
    if (!cli_start(&cli, &common, argc, argv, &status))
        return status;
    log_init(&log, stderr, &cli, &common);
    status = CLI_OK;
    if (eval_stage_check(&o, &common, &e)) {
        log_error(&log, "%s; try --help", e.text);
        status = CLI_WRONG_USAGE;
    } else if (eval_stage_run(&o, &common, &log, &missed, &e)) {
        log_error(&log, "%s", e.text);
        status = CLI_FAILED;
    } else {
        log_detail(&log, "%.1f s", log_seconds(&log));
        status = missed ? CLI_FAILED : CLI_OK;
    }
    cli_release(&cli, &common);
    return status;
}
