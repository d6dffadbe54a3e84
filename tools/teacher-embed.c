// SPDX-License-Identifier: Apache-2.0
// teacher-embed: samples in, CLIP embeddings out. Row i of every output is sample i of the input; a
// sample without a usable picture or caption has a row of zeros there.
#include <stdio.h>
#include <sys/stat.h>

#include "device/options.h"
#include "embed/stage.h"
#include "system/cli.h"
#include "model/describe.h"
#include "system/log.h"

static struct embed_stage_options o = {
    .images = true,
    .device = "cpu",
    .batch = 64,
    .max_pixels = 89478485,
    .normalize = true,
    .shortcuts = true,
    .seed = 1,
    .augment = {.scale = "0.9,1.0", .ratio = "0.75,1.3333333333333333", .jitter_prob = 1},
    .resume = true,
    .remote = REMOTE_DEFAULTS};

static const char *describe;

static const struct cli_option options[] = {
    {.name = "model",
     .letter = 'm',
     .type = CLI_TEXT,
     .to = &o.model,
     .arg = "DIR",
     .help = "model folder, of open_clip or Hugging Face (required)"},
    {.name = "image-out",
     .type = CLI_TEXT,
     .to = &o.image_out,
     .arg = "FILE",
     .help = "image embeddings, in place of -o"},
    {.name = "text-out",
     .type = CLI_TEXT,
     .to = &o.text_out,
     .arg = "FILE",
     .help = "text embeddings"},
    {.name = "tokens-out",
     .type = CLI_TEXT,
     .to = &o.tokens_out,
     .arg = "FILE",
     .help = "token ids of the captions"},
    {.name = "images", .type = CLI_FLAG, .to = &o.images, .help = "run the image tower"},
    {.name = "shards",
     .type = CLI_LIST,
     .to = &o.shards,
     .arg = "SHARD",
     .help = "read this tar file, and all operands, directly"},
    {.name = "shards-from",
     .type = CLI_TEXT,
     .to = &o.shards_from,
     .arg = "FILE",
     .help = "read the tar files named in FILE, one a line"},
    {.name = "image-dir",
     .type = CLI_TEXT,
     .to = &o.image_dir,
     .arg = "DIR",
     .help = "with --shards-from: image embeddings, a file a shard"},
    {.name = "text-dir",
     .type = CLI_TEXT,
     .to = &o.text_dir,
     .arg = "DIR",
     .help = "the same for text embeddings"},
    {.name = "index-dir",
     .type = CLI_TEXT,
     .to = &o.index_dir,
     .arg = "DIR",
     .help = "refuse shards whose keys are not those of their index in DIR"},
    {.name = "resume",
     .type = CLI_FLAG,
     .to = &o.resume,
     .help = "pass over shards whose files are there and belong"},
    {.name = "tokenizer",
     .type = CLI_TEXT,
     .to = &o.tokenizer,
     .arg = "PATH",
     .help = "vocabulary file or folder, when the model folder has none"},
    {.name = "size",
     .type = CLI_UINT,
     .to = &o.size,
     .arg = "N",
     .no_default = true,
     .help = "refuse a model whose pictures are not N x N pixels"},
    {.name = "batch",
     .type = CLI_UINT,
     .to = &o.batch,
     .given = &o.batch_given,
     .arg = "N",
     .min = 1,
     .max = 65536,
     .help = "samples handed on at a time"},
    DTYPE_OPTION(o.dtype),
    {.name = "emulate",
     .type = CLI_FLAG,
     .to = &o.emulate,
     .help = "allow bf16 where the processor has none (slow)"},
    DEVICE_OPTION(o.device),
    {.name = "out-dtype",
     .type = CLI_CHOICE,
     .to = &o.out_dtype,
     .choices = "f16|f32",
     .help = "numbers of the embeddings"},
    {.name = "normalize", .type = CLI_FLAG, .to = &o.normalize, .help = "unit rows"},
    {.name = "shortcuts",
     .type = CLI_FLAG,
     .to = &o.shortcuts,
     .help = "leave out what does not change the result"},
    {.name = "partial",
     .type = CLI_FLAG,
     .to = &o.partial,
     .help = "embed what is left of a damaged shard"},
    {.name = "alpha",
     .type = CLI_CHOICE,
     .to = &o.alpha,
     .choices = "drop|white",
     .help = "with --shards: transparent pictures"},
    {.name = "caption",
     .type = CLI_TEXT,
     .to = &o.caption,
     .arg = "FIELD",
     .help = "with --shards: this string of a sample's json"},
    {.name = "select",
     .type = CLI_TEXT,
     .to = &o.select,
     .arg = "CONDITIONS",
     .help = "with --shards: leave out samples by their json"},
    {.name = "max-pixels",
     .type = CLI_UINT,
     .to = &o.max_pixels,
     .arg = "N",
     .min = 1,
     .help = "with --shards: refuse larger pictures"},
    {.name = "crop",
     .type = CLI_CHOICE,
     .to = &o.crop,
     .choices = "center|random",
     .help = "with --shards: where the square is cut out"},
    {.name = "scale",
     .type = CLI_TEXT,
     .to = &o.augment.scale,
     .arg = "MIN,MAX",
     .given = &o.augment.scale_given,
     .help = "area of a random crop"},
    {.name = "ratio",
     .type = CLI_TEXT,
     .to = &o.augment.ratio,
     .arg = "MIN,MAX",
     .given = &o.augment.ratio_given,
     .help = "its width by its height"},
    {.name = "flip",
     .type = CLI_FLAG,
     .to = &o.augment.flip,
     .help = "with --shards: mirror half of the pictures"},
    {.name = "jitter",
     .type = CLI_TEXT,
     .to = &o.augment.jitter,
     .arg = "B,C,S,H",
     .help = "with --shards: ranges of the four colour changes"},
    {.name = "jitter-prob",
     .type = CLI_REAL,
     .to = &o.augment.jitter_prob,
     .arg = "P",
     .min = 0,
     .max = 1,
     .given = &o.augment.jitter_prob_given,
     .help = "share of the pictures that --jitter changes"},
    {.name = "gray",
     .type = CLI_REAL,
     .to = &o.augment.gray,
     .arg = "P",
     .min = 0,
     .max = 1,
     .help = "with --shards: share without colour"},
    {.name = "seed", .type = CLI_UINT, .to = &o.seed, .arg = "S", .help = "of these choices"},
    {.name = "view",
     .type = CLI_UINT,
     .to = &o.view,
     .arg = "V",
     .help = "the choices that shard-read --view V makes"},
    {.name = "describe",
     .type = CLI_TEXT,
     .to = &describe,
     .arg = "CONFIG",
     .help = "say what a config or model folder is, and do nothing else"},
    SHARD_REMOTE_OPTIONS(o.remote),
};

static const struct cli cli = {
    .tool = "teacher-embed",
    .summary = "embeds the pictures and captions of a samples stream with a CLIP model",
    .operands = "[SAMPLES | SHARD...]",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .devices = dev_names,
    .max_operands = SIZE_MAX,
};

// --describe: of a config file or a model folder.
static int tell(struct err *e)
{
    static const char *const what[2] = {"picture", "text of full length"};
    struct clip_config c;
    struct clip_numbers n;
    struct stat st;
    bool folder = stat(describe, &st) == 0 && S_ISDIR(st.st_mode);
    if (folder ? clip_config_read_folder(&c, describe, e) : clip_config_read_file(&c, describe, e))
        return -1;
    if (clip_describe(&c, &n, e))
        return err_wrap(e, "%s", describe);
    for (int i = 0; i < 2; i++)
        printf("%s tower: %s\n    %zu parameters, %.2f GFLOP a %s (%.2f computed)\n",
               i ? "text" : "image", n.text[i], n.parameters[i], n.gflop[i], what[i], n.cheap[i]);
    printf("embeddings of %d columns\n", c.embed_dim);
    return fflush(stdout) ? err_errno(e, "standard output") : 0;
}

static int run(const struct cli_common *common, int argc, char **argv, struct log *l)
{
    static struct embed_job job;
    struct err e;
    bool usage;
    int status = CLI_OK;
    if (describe) {
        if (tell(&e)) {
            log_error(l, "%s", e.text);
            status = CLI_FAILED;
        }
    } else if (embed_stage_prepare(&job, &o, common, &usage, &e)) {
        log_error(l, "%s%s", e.text, usage ? "; try --help" : "");
        status = usage ? CLI_WRONG_USAGE : CLI_FAILED;
    } else if (embed_stage_run(&job, argc, argv, l, &e)) {
        log_error(l, "%s", e.text);
        status = CLI_FAILED;
    }
    embed_stage_release(&job);
    return status;
}

int main(int argc, char **argv)
{
    struct cli_common common = CLI_COMMON_INIT;
    struct log log;
    int status = CLI_FAILED;
    common.output = embed_stage_stdout;
    if (cli_start(&cli, &common, argc, argv, &status)) {
        log_init(&log, stderr, &cli, &common);
        status = run(&common, argc, argv, &log);
        cli_release(&cli, &common);
    }
    return status;
}
