// SPDX-License-Identifier: Apache-2.0
// A run of shard-read: writes the samples that the reading pipeline delivers, and counts bad ones.
#include <stdio.h>

#include "read/index.h"
#include "stream/outputs.h"
#include "system/signals.h"

enum { DESCRIBED = 10 }; // bad samples that the log describes one by one

static int on_begin(void *ctx, struct read_shard *s, struct err *e)
{
    struct stream *t = ctx;
    return samples_begin_shard(t->writer, s->name, &s->id, e);
}

static void describe(struct stream *t, const struct read_shard *s, const struct samples_record *r)
{
    if (t->described++ < DESCRIBED)
        log_warn(t->log, "%s: record %llu (%s): %s: %s", s->path, (unsigned long long)r->ordinal,
                 r->key, sample_status_name(r->status), r->reason);
    else if (t->described == DESCRIBED + 1)
        log_warn(t->log, "more bad samples are counted, not described%s",
                 t->has_index ? "" : " (--index lists all)");
}

// Samples of a --limit; else bytes of the shards, whose samples nobody has counted yet.
static void begin_progress(struct stream *t)
{
    uint64_t limit = t->o->limit, bytes = 0;
    bool wanted = t->log->progress || t->log->progress_file[0];
    if (limit == UINT64_MAX && t->read.n_parts < 2 && wanted)
        bytes = shard_link_bytes(&t->shards);
    t->read.bytes = bytes ? &t->bytes : NULL;
    t->byte_unit = !bytes ? 0 : bytes < 100000000 ? 1000 : 1000000;
    if (bytes)
        progress_start(&t->progress, t->log, bytes / t->byte_unit + 1,
                       t->byte_unit == 1000 ? "KB" : "MB");
    else
        progress_start(&t->progress, t->log, limit == UINT64_MAX ? 0 : limit, "samples");
}

static void show_progress(struct stream *t)
{
    struct progress *p = &t->progress;
    if (!t->byte_unit) {
        progress_to(p, t->account.samples);
        return;
    }
    p->before = t->many.passed_bytes / t->byte_unit;
    snprintf(p->extra, sizeof p->extra, "%llu samples", (unsigned long long)t->account.samples);
    progress_to(p, p->before + atomic_load(&t->bytes) / t->byte_unit);
}

static void count(struct stream *t, const struct read_shard *s, const struct samples_record *r,
                  bool bad)
{
    read_account_add(&t->account, r, bad);
    if (bad)
        describe(t, s, r);
    show_progress(t);
    atomic_store(&t->written, t->account.samples);
}

// With --index-dir the index is written already.
static int on_indexed(void *ctx, struct read_shard *s, const struct samples_record *r, bool bad,
                      struct err *e)
{
    struct stream *t = ctx;
    (void)e;
    if (sample_left_out(r->status))
        t->account.dropped++;
    else
        count(t, s, r, bad);
    return 0;
}

static void on_shard_told(void *ctx, enum index_told what, const struct err *why)
{
    struct stream *t = ctx;
    if (what == INDEX_FAILED)
        log_error(t->log, "%s", why->text);
    else
        log_warn(t->log, "%s: %s", why->text,
                 what == INDEX_MISSING ? "its index is empty" : "its index has what could be read");
}

static int on_sample(void *ctx, struct read_shard *s, const struct samples_record *r, bool bad,
                     struct err *e)
{
    struct stream *t = ctx;
    if (t->has_index && read_index_line(&t->index, r, t->shards.n > 1 ? s->name : NULL, e))
        return -1;
    if (sample_left_out(r->status)) {
        t->account.dropped++;
        return 0;
    }
    struct samples_record record = *r;
    record.shard = s->id;
    if (samples_write(t->writer, &record, e))
        return -1;
    if (t->has_pixels &&
        (r->image ? npy_write(&t->pixels, r->image, 1, e) : npy_write_zeros(&t->pixels, 1, e)))
        return -1;
    count(t, s, r, bad);
    return 0;
}

static int on_skipped(void *ctx, uint64_t n, const uint8_t chain[DIGEST_BYTES], struct err *e)
{
    struct stream *t = ctx;
    return samples_skip(t->writer, n, chain, e);
}

static int on_end(void *ctx, struct read_shard *s, struct err *e)
{
    struct stream *t = ctx;
    if (s->damaged) {
        t->account.damaged++;
        log_error(t->log, "%s: %s", s->path, s->damage.text);
    }
    enum samples_end end = s->damaged ? SAMPLES_END_DAMAGED
                           : s->whole ? SAMPLES_END_WHOLE
                                      : SAMPLES_END_PART;
    return samples_end_shard(t->writer, s->id, end, s->rows, s->counted ? s->keys : NULL, e);
}

// Tells what was read. 0, or -1 where it is too little.
static int verdict(struct stream *t, struct err *e)
{
    char text[512];
    const struct read_account *a = &t->account;
    uint64_t bad = a->bad;
    const char *dropped = t->select    ? "left out by --select"
                          : t->o->keep ? "dropped by keep masks"
                                       : NULL;
    size_t n = read_account_text(a, dropped, text, sizeof text);
    if (t->o->index_dir)
        snprintf(text + n, sizeof text - n, "; %zu shards, %zu were there", t->many.made,
                 t->many.passed);
    log_footer(t->log, a->samples, text);
    uint64_t all = a->samples + a->damaged;
    const struct cli_count *max_bad = &t->o->max_bad;
    e->text[0] = 0; // what is damaged has been reported
    if (!t->o->max_bad_given)
        return a->damaged ? -1 : 0;
    if (bad + a->damaged <= cli_count_of(max_bad, all))
        return 0;
    return err_set(e, "%llu of %llu bad, more than --max-bad %g%s allows",
                   (unsigned long long)(bad + a->damaged), (unsigned long long)all, max_bad->value,
                   max_bad->percent ? "%" : "");
}

static void tell_at_death(struct stream *t)
{
    const char *what = t->o->index_dir
                           ? " samples; --resume goes on at the first shard without index"
                       : io_is_stream(t->common->output)
                           ? " samples; the stream is cut off there"
                           : " samples; no output was written, the same command makes it";
    if (!t->common->quiet)
        signals_tell_at_death(&t->written, what);
}

static int read_all(struct stream *t, struct err *e)
{
    const struct read_sink sink = {t, on_begin, on_sample, on_end, on_skipped};
    tell_at_death(t);
    begin_progress(t);
    int rc = read_run(&t->read, &sink, e);
    progress_end(&t->progress);
    return rc;
}

static int run_stream(struct stream *t, struct err *e)
{
    int rc = read_check(&t->read, e) || shard_list_check_names(&t->shards, e) ||
                     stream_outputs_open(t, e) || read_all(t, e) || stream_outputs_commit(t, e)
                 ? -1
                 : 0;
    stream_outputs_close(t);
    return rc ? rc : verdict(t, e);
}

// --index-dir. With --max-bad, shards that are missing or damaged do not fail the run by
// themselves.
static int run_index(struct stream *t, struct err *e)
{
    struct err late;
    bool made;
    t->many = (struct index_shards){.read = &t->read,
                                    .dir = t->o->index_dir,
                                    .resume = t->o->resume,
                                    .sample = on_indexed,
                                    .tell = on_shard_told,
                                    .ctx = t};
    t->has_index = true;
    if (shard_list_check_names(&t->shards, e) || io_make_folder(t->o->index_dir, &made, e))
        return -1;
    tell_at_death(t);
    begin_progress(t);
    int rc = index_shards_run(&t->many, e);
    progress_end(&t->progress);
    t->account.damaged = t->many.damaged + t->many.missing;
    if (!rc)
        return verdict(t, e);
    if (t->many.made && verdict(t, &late) && late.text[0])
        log_error(t->log, "%s", late.text);
    return -1;
}

int stream_run(struct stream *t, struct log *l, struct err *e)
{
    t->log = l;
    int rc = shard_remote_open(&t->shards, &t->o->remote, &t->read.remote, e);
    if (!rc)
        rc = t->o->index_dir ? run_index(t, e) : run_stream(t, e);
    remote_free(t->read.remote);
    return rc;
}
