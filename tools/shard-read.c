// SPDX-License-Identifier: Apache-2.0
// shard-read: WebDataset shards in, a stream of decoded samples out (samples(5)); an index and the
// bare pixels beside it if wanted. A sample that is spoilt keeps its place; its record, the index
// and, for the first few, standard error say what it lacks.
#include "stream/stream.h"
#include "system/cli.h"
#include "system/log.h"

static struct stream_options o = {.size = 224,
                                  .seed = 1,
                                  .limit = UINT64_MAX,
                                  .max_pixels = 89478485,
                                  .scale = "0.9,1.0",
                                  .part = "1/1",
                                  .remote = REMOTE_DEFAULTS,
                                  .max_bad = {100, true}};

static const struct cli_option options[] = {
    {.name = "size",
     .type = CLI_UINT,
     .to = &o.size,
     .given = &o.size_given,
     .arg = "N",
     .min = 1,
     .max = 4096,
     .help = "pictures of N x N pixels"},
    {.name = "model",
     .type = CLI_TEXT,
     .to = &o.model,
     .arg = "PATH",
     .help = "pictures as this model folder or config wants them"},
    {.name = "resize",
     .type = CLI_CHOICE,
     .to = &o.resize,
     .choices = "shortest|squash|pad",
     .given = &o.resize_given,
     .help = "what becomes N long, or all of it, or padded"},
    {.name = "crop",
     .type = CLI_CHOICE,
     .to = &o.crop,
     .choices = "center|random",
     .help = "where the square is cut out"},
    {.name = "scale",
     .type = CLI_TEXT,
     .to = &o.scale,
     .arg = "MIN,MAX",
     .given = &o.scale_given,
     .help = "area of a random crop"},
    {.name = "flip", .type = CLI_FLAG, .to = &o.flip, .help = "mirror half of the pictures"},
    {.name = "shuffle",
     .type = CLI_UINT,
     .to = &o.shuffle,
     .arg = "N",
     .max = 1u << 30,
     .help = "shuffle the shards, and windows of N samples"},
    {.name = "seed", .type = CLI_UINT, .to = &o.seed, .arg = "S", .help = "of all random choices"},
    {.name = "epoch",
     .type = CLI_UINT,
     .to = &o.epoch,
     .arg = "E",
     .help = "other choices for each epoch"},
    {.name = "skip",
     .type = CLI_UINT,
     .to = &o.skip,
     .arg = "N",
     .help = "leave out the first N samples"},
    {.name = "limit",
     .type = CLI_UINT,
     .to = &o.limit,
     .arg = "N",
     .no_default = true,
     .help = "stop after N samples"},
    {.name = "part", .type = CLI_TEXT, .to = &o.part, .arg = "A/B", .help = "the A-th of B parts"},
    {.name = "counts",
     .type = CLI_TEXT,
     .to = &o.counts,
     .arg = "DIR",
     .help = "with --part: count by the files of DIR, not the headers"},
    {.name = "keep",
     .type = CLI_TEXT,
     .to = &o.keep,
     .arg = "DIR",
     .help = "leave out what the masks DIR/SHARD.npy drop"},
    {.name = "select",
     .type = CLI_TEXT,
     .to = &o.select,
     .arg = "CONDITIONS",
     .help = "leave out samples by the fields of their json"},
    {.name = "index",
     .type = CLI_TEXT,
     .to = &o.index,
     .arg = "FILE",
     .help = "write a line for each sample"},
    {.name = "index-dir",
     .type = CLI_TEXT,
     .to = &o.index_dir,
     .arg = "DIR",
     .help = "write an index for each shard, and no samples"},
    {.name = "resume",
     .type = CLI_FLAG,
     .to = &o.resume,
     .help = "with --index-dir: pass over shards that have one"},
    {.name = "images",
     .type = CLI_CHOICE,
     .to = &o.images,
     .choices = "yes|no|raw",
     .help = "pixels, none, or the encoded file"},
    {.name = "captions",
     .type = CLI_CHOICE,
     .to = &o.captions,
     .choices = "yes|no",
     .help = "with or without captions"},
    {.name = "max-pixels",
     .type = CLI_UINT,
     .to = &o.max_pixels,
     .arg = "N",
     .min = 1,
     .help = "refuse larger pictures"},
    {.name = "max-bad",
     .type = CLI_COUNT,
     .to = &o.max_bad,
     .arg = "N|P%",
     .given = &o.max_bad_given,
     .no_default = true,
     .help = "fail when more samples are bad"},
    {.name = "files-from",
     .type = CLI_TEXT,
     .to = &o.files_from,
     .arg = "FILE",
     .help = "more shards, one name a line"},
    {.name = "fast", .type = CLI_FLAG, .to = &o.fast, .help = "decode JPEG at a smaller size"},
    {.name = "alpha",
     .type = CLI_CHOICE,
     .to = &o.alpha,
     .choices = "drop|white",
     .help = "transparent pictures: the colour under it, or on white"},
    {.name = "pixels",
     .type = CLI_TEXT,
     .to = &o.pixels,
     .arg = "FILE",
     .help = "write the pixels as NPY too"},
    SHARD_REMOTE_OPTIONS(o.remote),
};

static const struct cli cli = {
    .tool = "shard-read",
    .summary = "reads WebDataset shards and writes their samples as a stream",
    .operands = "SHARD...",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .min_operands = 0,
    .max_operands = SIZE_MAX,
};

int main(int argc, char **argv)
{
    static struct stream stream;
    struct cli_common common = CLI_COMMON_INIT;
    struct log log;
    struct err e;
    bool usage;
    int status;
    if (!cli_start(&cli, &common, argc, argv, &status))
        return status;
    log_init(&log, stderr, &cli, &common);
    status = CLI_OK;
    if (stream_prepare(&stream, &o, &common, &usage, &e)) {
        log_error(&log, "%s%s", e.text, usage ? "; try --help" : "");
        status = usage ? CLI_WRONG_USAGE : CLI_FAILED;
    } else if (stream_run(&stream, &log, &e)) {
        if (e.text[0])
            log_error(&log, "%s", e.text);
        status = CLI_FAILED;
    }
    stream_release(&stream);
    cli_release(&cli, &common);
    return status;
}
