// SPDX-License-Identifier: Apache-2.0
#include "runs/data.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model/tokenizer-check.h"
#include "base/mem.h"
#include "system/signals.h"
#include "train/names.h"
#include "train/usable.h"

enum { SLOTS = 2, TERM_WAITS = 30, KILL_WAITS = 30 }; // waits are tenths of a second

struct batch_slot {
    struct train_made made;
    uint8_t *pixels;
    int32_t *tokens, *labels;
    float *teacher[2];
    bool full;
};

struct train_data {
    struct train_data_set set;
    struct train_source source;
    struct train_rows rows[3]; // teacher image, teacher text, labels
    bool has[3];
    struct train_names names;
    struct tokenizer *tok;
    struct clip_config cfg;
    size_t dim_t, n_label, picture;
    struct train_counts counts;
    struct train_usable usable; // of the epoch
    uint64_t epoch;             // which it is
    char epoch_name[64];        // for messages

    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool started, stop, done; // done: the thread has ended
    int rc;                   // 0 at the end of the data, -1 with `failure`
    struct err failure;
    size_t left;
    struct batch_slot slots[SLOTS];
    size_t in, out; // batches made, taken
};

static int sweep_all(void *ctx, const struct samples_reader *stream, struct err *e)
{
    struct train_data *d = ctx;
    if (train_names_check(&d->names, stream, e))
        return -1;
    for (int i = 0; i < 3; i++)
        if (d->has[i] && train_rows_sweep(&d->rows[i], stream, e))
            return -1;
    return 0;
}

static void open_rows(struct train_data *d)
{
    const char *dirs[3] = {d->set.teacher_image, d->set.teacher_text, d->set.labels};
    for (int i = 0; i < 3; i++) {
        d->has[i] = dirs[i] != NULL;
        train_rows_open(&d->rows[i], dirs[i], i == 2, i == 2 ? d->set.n_label : d->set.dim_t);
    }
    d->dim_t = d->has[0] || d->has[1] ? d->set.dim_t : 0;
    d->n_label = d->has[2] ? d->set.n_label : 0;
}

struct train_data *train_data_open(const struct train_data_set *set, const struct train_pos *pos,
                                   const struct train_counts *counts, struct err *e)
{
    struct train_data *d = mem_alloc(1, sizeof *d, e);
    if (!d)
        return NULL;
    d->set = *set;
    d->counts = *counts;
    d->usable.earlier = pos->records > 0;
    d->epoch = pos->epoch;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->moved, NULL);
    open_rows(d);
    if (train_source_open(&d->source, set->path, set->command, set->seed, set->epochs, pos, e)) {
        train_data_close(d);
        return NULL;
    }
    d->source.ended = sweep_all;
    d->source.ctx = d;
    return d;
}

const struct samples_header *train_data_header(const struct train_data *d)
{
    return samples_header(d->source.reader);
}

bool train_data_skip_unknown(const struct train_data *d)
{
    return atomic_load(&d->source.ever_unknown);
}

uint64_t train_data_no_sidecar(const struct train_data *d)
{
    return d->rows[0].no_sidecar + d->rows[1].no_sidecar + d->rows[2].no_sidecar;
}

uint64_t train_data_partial(const struct train_data *d)
{
    return d->rows[0].partial + d->rows[1].partial + d->rows[2].partial;
}

size_t train_data_left(const struct train_data *d)
{
    return d->left;
}

size_t train_data_bytes(const struct clip_config *c, size_t batch, size_t dim_t, size_t n_label)
{
    size_t picture = (size_t)c->image_size * (size_t)c->image_size * 3;
    return SLOTS * batch * (picture + ((size_t)c->context + 2 * dim_t + n_label) * 4);
}

static int alloc_slots(struct train_data *d, struct err *e)
{
    size_t b = d->set.batch, context = (size_t)d->cfg.context;
    for (int i = 0; i < SLOTS; i++) {
        struct batch_slot *s = &d->slots[i];
        if (!(s->pixels = mem_alloc(b, d->picture, e)) ||
            !(s->tokens = mem_alloc(b, context * sizeof *s->tokens, e)) ||
            !(s->labels = mem_alloc(b, d->n_label * sizeof *s->labels, e)) ||
            !(s->teacher[0] = mem_alloc(b, d->dim_t * sizeof(float), e)) ||
            !(s->teacher[1] = mem_alloc(b, d->dim_t * sizeof(float), e)))
            return -1;
        s->made.b = (struct train_batch){b, s->pixels, s->tokens, NULL, NULL, NULL};
        s->made.b.tv = d->has[0] ? s->teacher[0] : NULL;
        s->made.b.tt = d->has[1] ? s->teacher[1] : NULL;
        s->made.b.labels = d->has[2] ? s->labels : NULL;
    }
    return 0;
}

static int lacks(struct train_data *d, enum train_lack what)
{
    d->usable.lack[what]++;
    *(what == LACK_LABEL          ? &d->counts.no_label
      : what <= LACK_TEACHER_TEXT ? &d->counts.no_teacher
                                  : &d->counts.incomplete) += 1;
    return 0;
}

// Sample into place i: 1, or 0 when it lacks something.
static int take(struct train_data *d, struct batch_slot *s, size_t i,
                const struct samples_record *r, struct err *e)
{
    size_t context = (size_t)d->cfg.context, n;
    void *place[3] = {s->teacher[0] + i * d->dim_t, s->teacher[1] + i * d->dim_t,
                      s->labels + i * d->n_label};
    if (!r->image || !r->caption)
        return lacks(d, r->image ? LACK_CAPTION : LACK_PICTURE);
    for (int k = 0; k < 3; k++) {
        int rc = d->has[k] ? train_rows_get(&d->rows[k], r, place[k], e) : 1;
        if (rc < 0)
            return -1;
        if (!rc)
            return lacks(d, (enum train_lack)k);
    }
    if (r->image_bytes != d->picture)
        return err_set(e, "a picture of %zu bytes where the model takes %zu", r->image_bytes,
                       d->picture);
    enum text_status t = tokenizer_encode(d->tok, r->caption, r->caption_bytes, context,
                                          s->tokens + i * context, &n, e);
    if (t == TEXT_ERROR)
        return -1;
    if (t != TEXT_OK)
        return lacks(d, LACK_UTF8);
    memcpy(s->pixels + i * d->picture, r->image, d->picture);
    return 1;
}

// The next sample, as train_source_next gives it; an epoch that is over must have had a usable one.
static int next_sample(struct train_data *d, struct samples_record *r, bool *fresh, struct err *e)
{
    int rc = train_source_next(&d->source, r, fresh, e);
    if (rc >= 0 && d->source.pos.epoch != d->epoch &&
        train_usable_end(&d->usable, d->epoch_name, e))
        return -1;
    d->epoch = d->source.pos.epoch;
    if (rc > 0 && *fresh)
        snprintf(d->epoch_name, sizeof d->epoch_name, "%s", d->source.name);
    return rc;
}

// Fills a slot: 1, 0 at the end of the data, -1.
static int fill(struct train_data *d, struct batch_slot *s, struct err *e)
{
    uint32_t shards = 0;
    for (size_t i = 0; i < d->set.batch;) {
        struct samples_record r;
        bool fresh;
        int rc = next_sample(d, &r, &fresh, e);
        if (rc <= 0) {
            d->left = i;
            return rc;
        }
        if (fresh)
            train_names_restart(&d->names);
        for (int k = 0; k < 3 && fresh; k++)
            if (d->has[k])
                train_rows_restart(&d->rows[k]);
        if ((fresh || r.shard >= shards) && sweep_all(d, d->source.reader, e))
            return -1;
        shards = r.shard + 1;
        d->counts.read++;
        if ((rc = take(d, s, i, &r, e)) < 0)
            return err_wrap(e, "%s: record %llu (%s)", r.shard_name, (unsigned long long)r.ordinal,
                            r.key);
        d->counts.used += rc > 0;
        d->usable.used += rc > 0;
        i += rc > 0;
    }
    train_source_pos(&d->source, &s->made.pos);
    s->made.counts = d->counts;
    return 1;
}

static void *work(void *arg)
{
    struct train_data *d = arg;
    for (;;) {
        pthread_mutex_lock(&d->lock);
        while (!d->stop && d->in - d->out >= SLOTS)
            pthread_cond_wait(&d->moved, &d->lock);
        bool stop = d->stop;
        pthread_mutex_unlock(&d->lock);
        struct err e = {.text = ""};
        int rc = stop ? 0 : fill(d, &d->slots[d->in % SLOTS], &e);
        pthread_mutex_lock(&d->lock);
        if (rc > 0)
            d->in++;
        if (rc <= 0) {
            d->rc = rc;
            d->failure = e;
            d->done = true;
        }
        pthread_cond_broadcast(&d->moved);
        pthread_mutex_unlock(&d->lock);
        if (rc <= 0)
            return NULL;
    }
}

int train_data_start(struct train_data *d, const struct clip_config *c, struct err *e)
{
    const struct samples_header *h = train_data_header(d);
    if (h->images != SAMPLES_PIXELS || !h->captions)
        return err_set(e, "training needs a stream of pixels and captions");
    if (h->size != (uint32_t)c->image_size)
        return err_set(e, "the samples are %u pixels a side, the student's image_size is %d",
                       (unsigned)h->size, c->image_size);
    if (!(d->tok = clip_tokenizer_open(d->set.tokenizer, c, e)))
        return -1;
    d->cfg = *c;
    d->picture = (size_t)c->image_size * (size_t)c->image_size * 3;
    if (alloc_slots(d, e))
        return -1;
    if (pthread_create(&d->thread, NULL, work, d))
        return err_set(e, "cannot start a thread");
    d->started = true;
    return 0;
}

static void wait_a_little(struct train_data *d)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += 100000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&d->moved, &d->lock, &t);
}

int train_data_next(struct train_data *d, const struct train_made **m, struct err *e)
{
    pthread_mutex_lock(&d->lock);
    if (d->slots[d->out % SLOTS].full) { // the batch given before is done with
        d->slots[d->out % SLOTS].full = false;
        d->out++;
        pthread_cond_broadcast(&d->moved);
    }
    while (d->in == d->out && !d->done && !signals_stop_wanted())
        wait_a_little(d);
    // A signal to the whole group ends the data command too: that is no failure.
    int rc = d->in > d->out ? 1 : d->done && !(d->rc && signals_stop_wanted()) ? d->rc : 2;
    if (rc == 1) {
        d->slots[d->out % SLOTS].full = true;
        *m = &d->slots[d->out % SLOTS].made;
    } else if (rc < 0) {
        *e = d->failure;
    }
    pthread_mutex_unlock(&d->lock);
    return rc;
}

// True when the thread has ended.
static bool end_thread(struct train_data *d)
{
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    pthread_cond_broadcast(&d->moved);
    if (!d->done)
        train_source_stop(&d->source, SIGTERM); // ends a read that waits for it
    for (int i = 0; i < TERM_WAITS && !d->done; i++)
        wait_a_little(d);
    if (!d->done && d->set.command)
        train_source_stop(&d->source, SIGKILL);
    for (int i = 0; i < KILL_WAITS && d->set.command && !d->done; i++)
        wait_a_little(d);
    bool done = d->done;
    pthread_mutex_unlock(&d->lock);
    if (done)
        pthread_join(d->thread, NULL);
    else
        pthread_detach(d->thread);
    return done;
}

void train_data_close(struct train_data *d)
{
    if (!d || (d->started && !end_thread(d)))
        return;
    train_source_close(&d->source);
    for (int i = 0; i < 3; i++)
        if (d->has[i])
            train_rows_close(&d->rows[i]);
    train_names_release(&d->names);
    if (d->tok)
        tokenizer_free(d->tok);
    for (int i = 0; i < SLOTS; i++) {
        free(d->slots[i].pixels);
        free(d->slots[i].tokens);
        free(d->slots[i].labels);
        free(d->slots[i].teacher[0]);
        free(d->slots[i].teacher[1]);
    }
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->moved);
    free(d);
}
