// SPDX-License-Identifier: Apache-2.0
// --val-data: each term of the loss on samples that are not trained on, in batches of the run's
// size, as the terms depend on it; the mean over the batches.
#include <string.h>

#include "base/clock.h"
#include "formats/json.h"
#include "runs/begin.h"
#include "runs/watch-run.h"

struct held_out {
    double loss, term[LOSS_MAX];
    size_t batches;
};

static void add(struct held_out *h, const struct losses *l, double loss)
{
    h->batches++;
    h->loss += loss;
    for (size_t i = 0; i < loss_count(); i++)
        h->term[i] += l->value[i];
}

// The next batch on every rank: 1, 0 at the end, 2 a signal, -1 on any of them; -2: the ranks do
// not hear each other.
static int next(struct train_run *r, struct train_data *d, struct train_batch *b, struct err *why,
                struct err *e)
{
    bool bad, stop, end;
    int rc = train_data_next(d, b, why);
    if (comm_any(r->comm, "held-out data", rc < 0, &bad, e) ||
        comm_any(r->comm, "wish to stop", rc == 2, &stop, e) ||
        comm_any(r->comm, "end of held-out data", rc == 0, &end, e))
        return -2;
    if (bad && rc >= 0)
        err_set(why, "another rank cannot read them");
    return bad ? -1 : stop ? 2 : end ? 0 : 1;
}

// All batches of the stream through the weights at hand. 1, 2 a signal, -1, -2 as above.
static int all_batches(struct train_run *r, struct train_data *d, struct held_out *h,
                       struct err *why, struct err *e)
{
    struct train_batch b;
    double loss;
    int rc;
    while ((rc = next(r, d, &b, why, e)) == 1) {
        if (train_core_losses(&r->core, &b, &loss, e))
            return -2;
        add(h, &r->core.set.losses, loss);
    }
    if (!rc && !h->batches)
        return err_set(why, "%zu samples do not fill a batch of %zu", train_data_left(d),
                       r->set.batch);
    return rc ? rc : 1;
}

static int read_all(struct train_run *r, struct held_out *h, struct err *why, struct err *e)
{
    const struct train_place start = {0};
    struct train_data_set s;
    *h = (struct held_out){0};
    train_begin_data_set(r, &s);
    s.path = NULL;
    s.batch = r->set.batch;
    s.command = r->plan->o->val_data;
    s.epochs = 1;
    s.dealt = 0;
    s.mix = NULL;
    if (r->plan->mix.n) {
        const struct train_stream *own = &r->plan->streams[r->plan->mix.n];
        s.dirs[0] = own->dirs[0];
        s.dirs[1] = own->dirs[1];
        s.labels = own->labels;
    }
    struct train_data *d = train_data_open(&s, &start, why);
    int rc = d ? train_data_start(d, &r->cfg, why) : -1;
    if (comm_agree(r->comm, rc, why))
        rc = -1;
    if (!rc)
        rc = all_batches(r, d, h, why, e);
    train_data_close(d);
    return rc;
}

static int write_line(struct look *k, bool ema, const struct held_out *h, double took,
                      struct err *e)
{
    struct train_run *r = k->r;
    const struct losses *l = &r->core.set.losses;
    double n = (double)h->batches;
    cJSON *j = cJSON_CreateObject();
    int rc = j ? look_begin_line(j, r, WATCH_HELD_OUT, ema, "held_out_loss", e)
               : err_set(e, "out of memory");
    cJSON *metrics = rc ? NULL : json_add_object(j, "metrics", e);
    rc = metrics ? json_add_double(metrics, "loss", h->loss / n, e) : -1;
    look_compare(k, WATCH_HELD_OUT, ema, "loss", h->loss / n, true);
    for (size_t i = 0; i < loss_count() && !rc; i++) {
        if (!(l->weight[i] > 0))
            continue;
        rc = json_add_double(metrics, loss_kinds[i].name, h->term[i] / n, e);
        look_compare(k, WATCH_HELD_OUT, ema, loss_kinds[i].name, h->term[i] / n, true);
    }
    rc = rc || json_add_u64(j, "n", h->batches * r->set.batch, e) || look_end_line(j, r, took, e)
             ? -1
             : 0;
    cJSON_Delete(j);
    if (!rc)
        look_say(r, WATCH_HELD_OUT, ema, "loss", h->loss / n);
    return rc;
}

static int one(struct look *k, bool ema, bool *failed, struct err *why, struct err *e)
{
    struct train_run *r = k->r;
    struct held_out h;
    double start = clock_seconds();
    int rc = read_all(r, &h, why, e);
    double took = clock_seconds() - start;
    r->state.looks.seconds += took;
    k->stopped |= rc == 2;
    if ((*failed = rc == -1))
        err_wrap(why, "--val-data");
    if (rc == 1 && train_run_first(r) && write_line(k, ema, &h, took, why))
        *failed = true;
    return rc == -2 ? -1 : 0;
}

int look_held_out(struct look *k, bool *failed, struct err *why, struct err *e)
{
    struct train_run *r = k->r;
    struct err late;
    bool unused;
    if (one(k, false, failed, why, e))
        return -1;
    if (comm_any(r->comm, "held-out loss", *failed, failed, e))
        return -1;
    if (*failed || k->stopped || !r->core.average.d)
        return 0;
    if (train_core_swap(&r->core, e))
        return -1;
    int rc = one(k, true, failed, why, e);
    if (train_core_swap(&r->core, rc ? &late : e))
        return -1;
    return rc || comm_any(r->comm, "held-out loss", *failed, &unused, e) ? -1 : 0;
}
