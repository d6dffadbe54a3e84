// SPDX-License-Identifier: Apache-2.0
#include "feed/data-run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model/tokenizer-check.h"
#include "base/mem.h"
#include "system/signals.h"

enum { TERM_WAITS = 30, KILL_WAITS = 30 }; // waits are tenths of a second

// The next stream of this rank.
static int open_stream(struct train_data *d, struct data_stream *p, const struct train_place *place,
                       struct err *e)
{
    const struct train_data_set *set = &d->set;
    size_t i = d->n_streams++, rows = set->dealt ? set->batch / set->dealt : set->batch;
    size_t sets = data_mixed(d) ? data_mixed(d) : 1, piece = (d->first_stream + i) / sets;
    bool goes_on = set->dealt || data_mixed(d);
    struct train_source_set s = {.path = set->path,
                                 .command =
                                     data_mixed(d) ? set->streams[i % sets].command : set->command,
                                 .seed = set->seed,
                                 .epochs = goes_on ? UINT64_MAX : set->epochs,
                                 .part = set->dealt ? piece + 1 : 0,
                                 .parts = set->dealt,
                                 .views = set->views};
    p->row = piece * rows;
    p->end = p->row + rows;
    p->counts = place->counts;
    p->usable.earlier = place->pos.records > 0;
    p->epoch = place->pos.epoch;
    for (int k = 0; k < ROWS_FOLDERS; k++) {
        p->has[k] = d->has[k];
        train_rows_open(&p->rows[k], data_folder(d, i, k, p->epoch), k == ROWS_LABELS, d->dim[k]);
    }
    if (train_source_open(&p->source, &s, &place->pos, e))
        return -1;
    p->source.ended = data_sweep;
    p->source.ctx = p;
    return 0;
}

struct train_data *train_data_open(const struct train_data_set *set,
                                   const struct train_place *places, struct err *e)
{
    struct train_data *d = mem_alloc(1, sizeof *d, e);
    if (!d)
        return NULL;
    d->set = *set;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->moved, NULL);
    d->own = set->batch / set->ranks;
    d->first = d->own * set->rank;
    size_t n = (set->dealt ? set->dealt / set->ranks : 1) * (data_mixed(d) ? data_mixed(d) : 1);
    d->first_stream = set->dealt ? n * set->rank : 0;
    for (int k = 0; k < ROWS_FOLDERS; k++) {
        d->has[k] = data_folder(d, 0, k, 0) != NULL;
        d->dim[k] = !d->has[k] ? 0 : k == ROWS_LABELS ? set->n_label : set->dim_of[k / 2];
    }
    int rc = (d->streams = mem_alloc(n, sizeof *d->streams, e)) ? 0 : -1;
    while (d->n_streams < n && !rc) {
        const struct train_place *place = &places[d->first_stream + d->n_streams];
        rc = open_stream(d, &d->streams[d->n_streams], place, e);
    }
    if (!rc)
        return d;
    train_data_close(d);
    return NULL;
}

const struct samples_header *train_data_header(const struct train_data *d)
{
    return samples_header(d->streams[0].source.reader);
}

bool train_data_skip_unknown(const struct train_data *d)
{
    bool unknown = false;
    for (size_t i = 0; i < d->n_streams; i++)
        unknown |= atomic_load(&d->streams[i].source.ever_unknown);
    return unknown;
}

uint64_t train_data_no_sidecar(const struct train_data *d)
{
    uint64_t n = 0;
    for (size_t i = 0; i < d->n_streams; i++)
        for (int k = 0; k < ROWS_FOLDERS; k++)
            n += d->streams[i].rows[k].no_sidecar;
    return n;
}

uint64_t train_data_partial(const struct train_data *d)
{
    uint64_t n = 0;
    for (size_t i = 0; i < d->n_streams; i++)
        for (int k = 0; k < ROWS_FOLDERS; k++)
            n += d->streams[i].rows[k].partial;
    return n;
}

size_t train_data_left(const struct train_data *d)
{
    return d->left;
}

size_t train_data_bytes(const struct clip_config *c, size_t batch, size_t ranks, size_t dim_t,
                        size_t n_label, enum loss_towers towers)
{
    size_t picture = towers == LOSS_TEXT_TOWER ? 0 : clip_config_picture_bytes(c);
    size_t own = batch / ranks;
    return SLOTS * (own * (picture + (size_t)c->context * 4) + batch * (2 * dim_t + n_label) * 4);
}

static int alloc_slots(struct train_data *d, struct err *e)
{
    size_t b = d->set.batch, context = (size_t)d->cfg.context;
    for (int i = 0; i < SLOTS; i++) {
        struct batch_slot *s = &d->slots[i];
        if ((data_takes(d, CLIP_VISION) && !(s->pixels = mem_alloc(d->own, d->picture, e))) ||
            !(s->tokens = mem_alloc(d->own + 1, context * sizeof *s->tokens, e)) ||
            !(s->labels = mem_alloc(b, d->dim[ROWS_LABELS] * sizeof *s->labels, e)) ||
            !(s->draw = mem_alloc(d->own, sizeof *s->draw, e)) ||
            !(s->places = mem_alloc(d->n_streams, sizeof *s->places, e)))
            return -1;
        for (int k = 0; k < ROWS_LABELS; k++)
            if (d->has[k] && !(s->teacher[k] = mem_alloc(b, d->dim[k] * sizeof(float), e)))
                return -1;
        s->b = (struct train_batch){
            .n = b, .pixels = s->pixels, .tokens = s->tokens, .draw = s->draw, .first = d->first};
        s->b.tv = s->teacher[0];
        s->b.tt = s->teacher[1];
        for (int k = 2; k < ROWS_LABELS; k++)
            s->b.others[k / 2 - 1][k % 2] = s->teacher[k];
        s->b.labels = d->has[ROWS_LABELS] ? s->labels : NULL;
    }
    return 0;
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
        int rc = stop ? 0 : data_fill(d, &d->slots[d->in % SLOTS], &e);
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
    bool pictures = data_takes(d, CLIP_VISION), captions = data_takes(d, CLIP_TEXT);
    if ((pictures && h->images != SAMPLES_PIXELS) || (captions && !h->captions))
        return err_set(e, "training needs a stream of %s%s%s", pictures ? "pixels" : "",
                       pictures && captions ? " and " : "", captions ? "captions" : "");
    if (pictures && h->size != (uint32_t)c->image_size)
        return err_set(e, "the samples are %u pixels a side, the student's image_size is %d",
                       (unsigned)h->size, c->image_size);
    if (!(d->tok = clip_tokenizer_open(d->set.tokenizer, c, e)))
        return -1;
    d->cfg = *c;
    d->picture = clip_config_picture_bytes(c);
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

int train_data_next(struct train_data *d, struct train_batch *b, struct err *e)
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
        *b = d->slots[d->out % SLOTS].b;
    } else if (rc < 0) {
        *e = d->failure;
    }
    pthread_mutex_unlock(&d->lock);
    return rc;
}

// Rows of `width` 4-byte values: this rank's to the others, theirs to this one.
static int share_rows(struct train_data *d, struct comm *comm, const char *what, void *rows,
                      size_t width, struct err *e)
{
    size_t bytes = d->own * width * 4;
    return bytes ? comm_gather(comm, what, (char *)rows + d->first * width * 4, bytes, rows, e) : 0;
}

int train_data_share(struct train_data *d, struct comm *comm, struct train_place *places,
                     struct err *e)
{
    static const char *const what[2] = {"teacher's picture rows", "teacher's text rows"};
    struct batch_slot *s = &d->slots[d->out % SLOTS];
    size_t bytes = d->n_streams * sizeof *places;
    if (!d->set.dealt) {
        memcpy(places, s->places, bytes);
        return 0;
    }
    for (int k = 0; k < ROWS_LABELS; k++)
        if (d->has[k] && share_rows(d, comm, what[k % 2], s->teacher[k], d->dim[k], e))
            return -1;
    return share_rows(d, comm, "labels", s->labels, d->dim[ROWS_LABELS], e) ||
                   comm_gather(comm, "places in the data", s->places, bytes, places, e)
               ? -1
               : 0;
}

static void stop_sources(struct train_data *d, int sig)
{
    for (size_t i = 0; i < d->n_streams; i++)
        train_source_stop(&d->streams[i].source, sig);
}

// True when the thread has ended.
static bool end_thread(struct train_data *d)
{
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    pthread_cond_broadcast(&d->moved);
    if (!d->done)
        stop_sources(d, SIGTERM); // ends a read that waits for it
    for (int i = 0; i < TERM_WAITS && !d->done; i++)
        wait_a_little(d);
    if (!d->done && d->set.command)
        stop_sources(d, SIGKILL);
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
    for (size_t i = 0; i < d->n_streams; i++) {
        struct data_stream *p = &d->streams[i];
        train_source_close(&p->source);
        for (int k = 0; k < ROWS_FOLDERS; k++)
            if (p->has[k])
                train_rows_close(&p->rows[k]);
        train_names_release(&p->names);
    }
    free(d->streams);
    if (d->tok)
        tokenizer_free(d->tok);
    for (int i = 0; i < SLOTS; i++) {
        free(d->slots[i].places);
        free(d->slots[i].pixels);
        free(d->slots[i].tokens);
        free(d->slots[i].labels);
        free(d->slots[i].draw);
        free(d->slots[i].keys);
        for (int k = 0; k < ROWS_LABELS; k++)
            free(d->slots[i].teacher[k]);
    }
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->moved);
    free(d);
}
