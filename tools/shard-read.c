// SPDX-License-Identifier: Apache-2.0
// shard-read: WebDataset shards in, a stream of decoded samples out (samples(5)); an index and the
// bare pixels beside it if wanted. A sample that is spoilt keeps its place; what it lacks is said
// in its record, in the index and, for the first few, on stderr.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "system/cli.h"
#include "model/crop.h"
#include "system/io.h"
#include "system/lines.h"
#include "system/log.h"
#include "formats/npy-write.h"
#include "shards/index-shards.h"
#include "shards/read-account.h"
#include "shards/read-index.h"
#include "shards/read-order.h"
#include "shards/read.h"
#include "formats/samples-write.h"
#include "shards/shard-list.h"
#include "shards/shard-remote.h"
#include "system/signals.h"

enum { DESCRIBED = 10, IMAGES_YES = 0, IMAGES_NO, IMAGES_RAW, CROP_CENTER = 0, CROP_RANDOM };

static uint64_t size = 224, shuffle, seed = 1, epoch, skip, limit = UINT64_MAX;
static uint64_t max_pixels = 89478485;
static int resize_mode, crop_mode, alpha, images, captions;
static const char *scale = "0.9,1.0", *model, *part = "1/1", *keep, *index_file, *pixels_file,
                  *files_from, *index_dir;
static bool resume;
static bool flip, fast, size_given, resize_given, scale_given, max_bad_given;
static struct remote_options remote = REMOTE_DEFAULTS;
static const char *counts, *select_text;
static struct select *selected;
static struct cli_count max_bad = {100, true};

static const struct cli_option options[] = {
    {.name = "size",
     .type = CLI_UINT,
     .to = &size,
     .given = &size_given,
     .arg = "N",
     .min = 1,
     .max = 4096,
     .help = "pictures of N x N pixels"},
    {.name = "model",
     .type = CLI_TEXT,
     .to = &model,
     .arg = "PATH",
     .help = "pictures as this model folder or config wants them"},
    {.name = "resize",
     .type = CLI_CHOICE,
     .to = &resize_mode,
     .choices = "shortest|squash|pad",
     .given = &resize_given,
     .help = "what becomes N long, or all of it, or padded"},
    {.name = "crop",
     .type = CLI_CHOICE,
     .to = &crop_mode,
     .choices = "center|random",
     .help = "where the square is cut out"},
    {.name = "scale",
     .type = CLI_TEXT,
     .to = &scale,
     .arg = "MIN,MAX",
     .given = &scale_given,
     .help = "area of a random crop"},
    {.name = "flip", .type = CLI_FLAG, .to = &flip, .help = "mirror half of the pictures"},
    {.name = "shuffle",
     .type = CLI_UINT,
     .to = &shuffle,
     .arg = "N",
     .max = 1u << 30,
     .help = "shuffle the shards, and windows of N samples"},
    {.name = "seed", .type = CLI_UINT, .to = &seed, .arg = "S", .help = "of all random choices"},
    {.name = "epoch",
     .type = CLI_UINT,
     .to = &epoch,
     .arg = "E",
     .help = "other choices for each epoch"},
    {.name = "skip",
     .type = CLI_UINT,
     .to = &skip,
     .arg = "N",
     .help = "leave out the first N samples"},
    {.name = "limit",
     .type = CLI_UINT,
     .to = &limit,
     .arg = "N",
     .no_default = true,
     .help = "stop after N samples"},
    {.name = "part", .type = CLI_TEXT, .to = &part, .arg = "A/B", .help = "the A-th of B parts"},
    {.name = "counts",
     .type = CLI_TEXT,
     .to = &counts,
     .arg = "DIR",
     .help = "with --part: count by the files of DIR, not the headers"},
    {.name = "keep",
     .type = CLI_TEXT,
     .to = &keep,
     .arg = "DIR",
     .help = "leave out what the masks DIR/SHARD.npy drop"},
    {.name = "select",
     .type = CLI_TEXT,
     .to = &select_text,
     .arg = "CONDITIONS",
     .help = "leave out samples by the fields of their json"},
    {.name = "index",
     .type = CLI_TEXT,
     .to = &index_file,
     .arg = "FILE",
     .help = "write a line for each sample"},
    {.name = "index-dir",
     .type = CLI_TEXT,
     .to = &index_dir,
     .arg = "DIR",
     .help = "write an index for each shard, and no samples"},
    {.name = "resume",
     .type = CLI_FLAG,
     .to = &resume,
     .help = "with --index-dir: pass over shards that have one"},
    {.name = "images",
     .type = CLI_CHOICE,
     .to = &images,
     .choices = "yes|no|raw",
     .help = "pixels, none, or the encoded file"},
    {.name = "captions",
     .type = CLI_CHOICE,
     .to = &captions,
     .choices = "yes|no",
     .help = "with or without captions"},
    {.name = "max-pixels",
     .type = CLI_UINT,
     .to = &max_pixels,
     .arg = "N",
     .min = 1,
     .help = "refuse larger pictures"},
    {.name = "max-bad",
     .type = CLI_COUNT,
     .to = &max_bad,
     .arg = "N|P%",
     .given = &max_bad_given,
     .no_default = true,
     .help = "fail when more samples are bad"},
    {.name = "files-from",
     .type = CLI_TEXT,
     .to = &files_from,
     .arg = "FILE",
     .help = "more shards, one name a line"},
    {.name = "fast", .type = CLI_FLAG, .to = &fast, .help = "decode JPEG at a smaller size"},
    {.name = "alpha",
     .type = CLI_CHOICE,
     .to = &alpha,
     .choices = "drop|white",
     .help = "transparent pictures: the colour under it, or on white"},
    {.name = "pixels",
     .type = CLI_TEXT,
     .to = &pixels_file,
     .arg = "FILE",
     .help = "write the pixels as NPY too"},
    SHARD_REMOTE_OPTIONS(remote),
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

static atomic_ullong written; // samples, for the line at a signal

// The run's outputs and its account.
struct job {
    struct log log;
    struct progress progress;
    struct out stream, index;
    struct samples_writer *writer;
    struct npy_writer pixels;
    bool has_index, has_pixels, many_shards;
    struct index_shards many; // with --index-dir
    uint64_t described;       // bad samples
    struct read_account account;
};

static int on_begin(void *ctx, struct read_shard *s, struct err *e)
{
    struct job *job = ctx;
    return samples_begin_shard(job->writer, s->name, &s->id, e);
}

static void describe(struct job *job, const struct read_shard *s, const struct samples_record *r)
{
    if (job->described++ < DESCRIBED)
        log_warn(&job->log, "%s: record %llu (%s): %s: %s", s->path, (unsigned long long)r->ordinal,
                 r->key, sample_status_name(r->status), r->reason);
    else if (job->described == DESCRIBED + 1)
        log_warn(&job->log, "more bad samples are counted, not described%s",
                 job->has_index ? "" : " (--index lists all)");
}

static void count(struct job *job, const struct read_shard *s, const struct samples_record *r,
                  bool bad)
{
    read_account_add(&job->account, r, bad);
    if (bad)
        describe(job, s, r);
    progress_to(&job->progress, job->account.samples);
    atomic_store(&written, job->account.samples);
}

// With --index-dir the index is written already.
static int on_indexed(void *ctx, struct read_shard *s, const struct samples_record *r, bool bad,
                      struct err *e)
{
    struct job *job = ctx;
    (void)e;
    if (sample_left_out(r->status))
        job->account.dropped++;
    else
        count(job, s, r, bad);
    return 0;
}

static void on_shard_told(void *ctx, const char *path, const struct err *why, bool failed)
{
    struct job *job = ctx;
    (void)path;
    if (failed)
        log_error(&job->log, "%s", why->text);
    else
        log_warn(&job->log, "%s: what there is of it is used", why->text);
}

static int on_sample(void *ctx, struct read_shard *s, const struct samples_record *r, bool bad,
                     struct err *e)
{
    struct job *job = ctx;
    if (job->has_index && read_index_line(&job->index, r, job->many_shards ? s->name : NULL, e))
        return -1;
    if (sample_left_out(r->status)) {
        job->account.dropped++;
        return 0;
    }
    struct samples_record record = *r;
    record.shard = s->id;
    if (samples_write(job->writer, &record, e))
        return -1;
    if (job->has_pixels &&
        (r->image ? npy_write(&job->pixels, r->image, 1, e) : npy_write_zeros(&job->pixels, 1, e)))
        return -1;
    count(job, s, r, bad);
    return 0;
}

static int on_skipped(void *ctx, uint64_t n, const uint8_t chain[DIGEST_BYTES], struct err *e)
{
    struct job *job = ctx;
    return samples_skip(job->writer, n, chain, e);
}

static int on_end(void *ctx, struct read_shard *s, struct err *e)
{
    struct job *job = ctx;
    if (s->damaged) {
        job->account.damaged++;
        log_error(&job->log, "%s: %s", s->path, s->damage.text);
    }
    enum samples_end end = s->damaged ? SAMPLES_END_DAMAGED
                           : s->whole ? SAMPLES_END_WHOLE
                                      : SAMPLES_END_PART;
    return samples_end_shard(job->writer, s->id, end, s->rows, s->counted ? s->keys : NULL, e);
}

// "0.9,1.0"
static int parse_scale(double *min, double *max, struct err *e)
{
    char *p, *q;
    *min = strtod(scale, &p);
    if (p != scale && *p == ',') {
        *max = strtod(p + 1, &q);
        if (q != p + 1 && !*q && *min > 0 && *min <= *max && *max <= 1)
            return 0;
    }
    return err_set(e, "--scale needs MIN,MAX with 0 < MIN <= MAX <= 1, not '%s'", scale);
}

// Pictures as --model wants them; where --size is given too, they have to agree.
static int take_model(struct read_options *o, struct clip_config *cfg, struct err *e)
{
    struct crop_params *c = &o->picture.crop, was = *c;
    struct stat st;
    if (stat(model, &st))
        return err_errno(e, "cannot read '%s'", model);
    if (S_ISDIR(st.st_mode) ? clip_config_read_folder(cfg, model, e)
                            : clip_config_read_file(cfg, model, e))
        return -1;
    if (size_given && size != (uint64_t)cfg->image_size)
        return err_set(e, "--size is %llu, the pictures of '%s' are %d a side",
                       (unsigned long long)size, model, cfg->image_size);
    clip_crop(cfg, c);
    c->random = was.random;
    c->flip = was.flip;
    c->scale_least = was.scale_least;
    c->scale_most = was.scale_most;
    return 0;
}

static int make_options(struct read_options *o, struct err *e)
{
    static const enum samples_images modes[] = {SAMPLES_PIXELS, SAMPLES_NO_IMAGES, SAMPLES_RAW};
    *o = (struct read_options){.images = modes[images],
                               .captions = captions == 0,
                               .shuffle = shuffle,
                               .seed = seed,
                               .epoch = epoch,
                               .skip = skip,
                               .limit = limit,
                               .counts = counts,
                               .keep = keep};
    struct crop_params *c = &o->picture.crop;
    *c = crop_params_default;
    c->size = (int)size;
    c->resize = (enum crop_resize)resize_mode;
    c->random = crop_mode == CROP_RANDOM;
    c->flip = flip;
    o->picture.fast = fast;
    o->picture.alpha = (enum image_alpha)alpha;
    o->picture.max_pixels = max_pixels;
    if (select_text && !(selected = select_new(select_text, e)))
        return -1;
    o->select = selected;
    if (!read_order_parse(part, &o->part, &o->n_parts))
        return err_set(e, "--part needs A/B with 1 <= A <= B, not '%s'", part);
    if (parse_scale(&c->scale_least, &c->scale_most, e))
        return -1;
    if (model && resize_given)
        return err_set(e, "--model says how pictures are resized: --resize has no meaning");
    if (scale_given && !c->random)
        return err_set(e, "--scale needs --crop random");
    if (resize_given && c->random)
        return err_set(e, "--crop random resizes what it cuts out: --resize has no meaning");
    if (counts && (o->n_parts == 1 || select_text))
        return err_set(e, "--counts needs --part, and goes without --select");
    if (index_dir &&
        (shuffle || skip || limit != UINT64_MAX || o->n_parts > 1 || index_file || pixels_file))
        return err_set(e, "--index-dir is of whole shards in their order, and goes with no other "
                          "output");
    if (resume && !index_dir)
        return err_set(e, "--resume needs --index-dir");
    if (pixels_file && images != IMAGES_YES)
        return err_set(e, "--pixels needs --images yes");
    return 0;
}

// cfg: of --model, or NULL.
static void make_header(struct samples_header *h, const struct read_options *o,
                        const struct clip_config *cfg)
{
    samples_header_init(h, cli.tool);
    h->images = o->images;
    h->captions = o->captions;
    h->seed = o->seed;
    h->epoch = o->epoch;
    h->shuffle = o->shuffle;
    h->skip = o->skip;
    h->limit = o->limit;
    h->part = o->part;
    h->n_parts = o->n_parts;
    h->keep = o->keep || o->select;
    const struct crop_params *c = &o->picture.crop;
    bool pixels = o->images == SAMPLES_PIXELS, random = pixels && c->random;
    snprintf(h->resize, sizeof h->resize, "%s",
             !pixels  ? ""
             : random ? "squash"
                      : crop_resize_name(c->resize));
    snprintf(h->crop, sizeof h->crop, "%s", !pixels ? "" : random ? "random" : "center");
    if (!pixels)
        h->interpolation[0] = 0;
    if (pixels && cfg) {
        const struct clip_preprocess *p = &cfg->preprocess;
        snprintf(h->interpolation, sizeof h->interpolation, "%s", clip_resample_name(p->resample));
        if (!random)
            clip_crop_fit_name(cfg, h->resize);
        h->has_norm = true;
        memcpy(h->mean, p->mean, sizeof h->mean);
        memcpy(h->std, p->std, sizeof h->std);
    }
    h->size = pixels ? (uint32_t)c->size : 0;
    h->scale_min = random ? c->scale_least : 1;
    h->scale_max = random ? c->scale_most : 1;
    h->flip = pixels && c->flip;
    h->fast = pixels && o->picture.fast;
    h->white = pixels && o->picture.alpha == IMAGE_ALPHA_WHITE;
}

static int open_outputs(struct job *job, const struct read_options *o,
                        const struct clip_config *cfg, const char *output, struct err *e)
{
    struct samples_header h;
    make_header(&h, o, cfg);
    if (out_open(&job->stream, output, e))
        return -1;
    job->writer = samples_writer_new(&job->stream, &h, e);
    if (!job->writer)
        return -1;
    if (index_file) {
        if (out_open(&job->index, index_file, e))
            return -1;
        job->has_index = true;
    }
    if (pixels_file) {
        uint64_t side = (uint64_t)o->picture.crop.size;
        if (npy_create(&job->pixels, pixels_file, NPY_U1, 3, (uint64_t[]){side, side, 3},
                       NPY_UNKNOWN, e))
            return -1;
        job->has_pixels = true;
    }
    return 0;
}

// The trailer goes out last: who sees it may rely on the files beside the stream.
static int commit(struct job *job, struct err *e)
{
    if (out_flush(&job->stream, e))
        return -1;
    if (job->has_pixels && npy_commit(&job->pixels, e))
        return -1;
    if (job->has_index && out_commit(&job->index, e))
        return -1;
    return samples_finish(job->writer, e) || out_commit(&job->stream, e) ? -1 : 0;
}

static void close_outputs(struct job *job)
{
    samples_writer_free(job->writer);
    if (job->has_pixels)
        npy_abort(&job->pixels);
    if (job->has_index)
        out_abort(&job->index);
    out_abort(&job->stream);
}

// Says what was read; the exit status.
static int verdict(struct job *job)
{
    char text[512];
    const struct read_account *a = &job->account;
    uint64_t bad = a->bad;
    size_t n = read_account_text(a,
                                 selected ? "left out by --select"
                                 : keep   ? "dropped by keep masks"
                                          : NULL,
                                 text, sizeof text);
    if (index_dir)
        snprintf(text + n, sizeof text - n, "; %zu shards, %zu were there", job->many.made,
                 job->many.passed);
    log_footer(&job->log, a->samples, text);
    uint64_t all = a->samples + a->damaged;
    if (!max_bad_given)
        return a->damaged ? CLI_FAILED : CLI_OK;
    if (bad + a->damaged <= cli_count_of(&max_bad, all))
        return CLI_OK;
    log_error(&job->log, "%llu of %llu bad, more than --max-bad %g%s allows",
              (unsigned long long)(bad + a->damaged), (unsigned long long)all, max_bad.value,
              max_bad.percent ? "%" : "");
    return CLI_FAILED;
}

static int run(struct job *job, bool quiet, struct read_options *o, struct shard_list *shards,
               const struct clip_config *cfg, const char *output)
{
    struct err e;
    const struct read_sink sink = {job, on_begin, on_sample, on_end, on_skipped};
    int status = CLI_FAILED;
    o->shards = shards;
    int opened = shard_remote_open(shards, &remote, &o->remote, &e);
    job->many_shards = shards->n > 1;
    if (!opened && read_check(o, &e) == 0 && shard_list_check_names(o->shards, &e) == 0 &&
        open_outputs(job, o, cfg, output, &e) == 0) {
        if (!quiet)
            signals_tell_at_death(
                &written, io_is_stream(output)
                              ? " samples; the stream is cut off there"
                              : " samples; no output was written, the same command makes it");
        progress_start(&job->progress, &job->log, limit == UINT64_MAX ? 0 : limit, "samples");
        int rc = read_run(o, &sink, &e);
        progress_end(&job->progress);
        if (rc == 0 && commit(job, &e) == 0)
            status = CLI_OK;
    }
    close_outputs(job);
    remote_free(o->remote);
    if (status != CLI_OK) {
        log_error(&job->log, "%s", e.text);
        return status;
    }
    return verdict(job);
}

// --index-dir. What is missing or damaged is no failure of the run with --max-bad only.
static int run_index(struct job *job, bool quiet, struct read_options *o, struct shard_list *shards)
{
    struct err e;
    bool made;
    o->shards = shards;
    job->many = (struct index_shards){.read = o,
                                      .dir = index_dir,
                                      .resume = resume,
                                      .sample = on_indexed,
                                      .tell = on_shard_told,
                                      .ctx = job};
    job->has_index = true;
    int rc = shard_remote_open(shards, &remote, &o->remote, &e) ||
             shard_list_check_names(shards, &e) || io_make_folder(index_dir, &made, &e);
    if (!rc && !quiet)
        signals_tell_at_death(&written,
                              " samples; --resume goes on at the first shard without index");
    progress_start(&job->progress, &job->log, 0, "samples");
    rc = rc || index_shards_run(&job->many, &e);
    progress_end(&job->progress);
    remote_free(o->remote);
    job->account.damaged = job->many.damaged + job->many.missing;
    int status = job->many.made || !rc ? verdict(job) : CLI_FAILED;
    if (rc)
        log_error(&job->log, "%s", e.text);
    return rc ? CLI_FAILED : status;
}

// The operands, which may be patterns, then the lines of --files-from, which are names as they
// stand.
static int list_shards(struct shard_list *shards, const struct cli_common *common,
                       const struct lines *more, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < common->n_operands; i++)
        rc = shard_list_add(shards, common->operands[i], e);
    for (size_t i = 0; !rc && i < more->n; i++)
        rc = shard_list_add_name(shards, more->line[i], e);
    if (!rc && shards->n == 0 && !files_from)
        rc = err_set(e, "missing operand: %s", cli.operands);
    return rc;
}

int main(int argc, char **argv)
{
    struct cli_common common = CLI_COMMON_INIT;
    struct shard_list shards = {0};
    struct lines more = {0};
    struct read_options o;
    struct clip_config cfg;
    struct job job = {0};
    struct err e;
    int status;
    if (!cli_start(&cli, &common, argc, argv, &status))
        return status;
    log_init(&job.log, stderr, &cli, &common);
    int rc = make_options(&o, &e), failed = 0;
    if (!rc && model)
        rc = failed = take_model(&o, &cfg, &e);
    if (!rc && files_from)
        rc = failed = lines_read(&more, files_from, &e);
    if (!rc)
        rc = list_shards(&shards, &common, &more, &e);
    const char *outputs[] = {common.output, index_file, pixels_file};
    if (!rc)
        rc = io_check_apart(outputs, 3, shards.names, shards.n, &e);
    if (!rc)
        rc = failed = io_check_outputs(outputs, 3, &e);
    if (!rc && index_dir && strcmp(common.output, "-") != 0)
        rc = err_set(&e, "--index-dir writes no samples: leave out -o");
    if (!rc && !index_dir && strcmp(common.output, "-") == 0 && isatty(STDOUT_FILENO))
        rc = err_set(&e, "samples are not written to a terminal; use -o FILE or a pipe");
    if (failed || (rc && e.machine)) { // what was named cannot be read
        log_error(&job.log, "%s", e.text);
        status = CLI_FAILED;
    } else if (rc) {
        log_error(&job.log, "%s; try --help", e.text);
        status = CLI_WRONG_USAGE;
    } else {
        o.threads = (int)common.threads;
        status = index_dir
                     ? run_index(&job, common.quiet, &o, &shards)
                     : run(&job, common.quiet, &o, &shards, model ? &cfg : NULL, common.output);
    }
    select_free(selected);
    lines_release(&more);
    shard_list_release(&shards);
    cli_release(&cli);
    return status;
}
