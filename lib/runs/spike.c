// SPDX-License-Identifier: Apache-2.0
#include "runs/spike.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/path.h"
#include "formats/json.h"
#include "runs/run.h"
#include "system/io.h"

enum { REWINDS_MOST = 3 }; // to one checkpoint

int train_spike_check(const struct train_options *o, struct err *e)
{
    if (o->spike > 0 && o->spike <= 1)
        return err_set(e, "--spike %g: a loss is above its mean half of the time; give more than 1",
                       o->spike);
    if (o->on_spike == SPIKE_REWIND && !strcmp(o->every, "0") && !o->keep_every && !o->keep_best)
        return err_set(
            e, "--on-spike rewind goes back to a checkpoint, and --checkpoint-every 0 saves none");
    if (o->skip_bad && o->on_spike_given && o->on_spike != SPIKE_SKIP)
        return err_set(e, "--skip-bad-steps skips, --on-spike says otherwise: give one of them");
    return 0;
}

int train_spike_before(struct train_run *r, const struct train_batch *b, struct err *e)
{
    struct train_spike *s = &r->spike;
    const struct train_state *t = &r->state;
    void *p = s->keys;
    if (mem_grow(&p, &s->cap, b->n_keys + 1, 1, e))
        return -1;
    s->keys = p;
    s->n = b->n_keys;
    if (s->n)
        memcpy(s->keys, b->keys, s->n);
    bool judged = r->plan->o->spike > 0 && t->good_steps >= SPIKE_FROM;
    r->core.limit = judged ? r->plan->o->spike * t->mean_loss : 0;
    return 0;
}

static bool above(const struct train_run *r, double loss)
{
    return r->core.limit > 0 && loss > r->core.limit;
}

bool train_spike_seen(const struct train_run *r, double loss, double norm)
{
    return !isfinite(loss) || !isfinite(norm) || above(r, loss);
}

void train_spike_take(struct train_run *r, double loss)
{
    struct train_state *t = &r->state;
    if (!(r->plan->o->spike > 0))
        return;
    t->good_steps++;
    uint64_t n = t->good_steps < SPIKE_WINDOW ? t->good_steps : SPIKE_WINDOW;
    t->mean_loss += (loss - t->mean_loss) / (double)n;
}

void train_spike_release(struct train_spike *s)
{
    free(s->keys);
    *s = (struct train_spike){0};
}

// -- the file

// The lines of all ranks, with one stream of samples those of rank 0: *keys, heap, of *n bytes.
// 0 or -1.
static int all_keys(struct train_run *r, char **keys, size_t *n, struct err *e)
{
    size_t mine = r->dealt || train_run_first(r) ? r->spike.n : 0, sum = 0;
    size_t ranks = (size_t)r->comm->size, *bytes = mem_alloc(ranks, sizeof *bytes, e);
    int rc = comm_agree(r->comm, bytes ? 0 : -1, e) ||
                     comm_gather(r->comm, "sizes of keys", &mine, sizeof mine, bytes, e)
                 ? -1
                 : 0;
    for (size_t i = 0; i < ranks && !rc; i++)
        sum += bytes[i];
    *n = sum;
    *keys = rc ? NULL : mem_alloc(sum + 1, 1, e);
    rc = rc || comm_agree(r->comm, *keys ? 0 : -1, e) ||
                 comm_gather_each(r->comm, "keys", r->spike.keys, bytes, *keys, e)
             ? -1
             : 0;
    free(bytes);
    return rc;
}

static int write_file(struct train_run *r, const char *head, const char *keys, size_t n,
                      char path[PATH_MAX], struct err *e)
{
    static const char columns[] = "shard\tordinal\tkey\n";
    const char *out = r->plan->o->output;
    char dir[PATH_MAX], name[64];
    struct out o;
    snprintf(name, sizeof name, "step-%08" PRIu64 ".tsv", r->state.step + 1);
    if (path_join(dir, out, "spikes", e) || path_join(path, dir, name, e))
        return -1;
    if (mkdir(dir, 0777) && errno != EEXIST)
        return err_errno(e, "cannot make '%s'", dir);
    if (out_open(&o, path, e))
        return -1;
    int rc = out_write(&o, head, strlen(head), e) ||
                     out_write(&o, columns, sizeof columns - 1, e) || out_write(&o, keys, n, e) ||
                     out_commit(&o, e)
                 ? -1
                 : 0;
    out_abort(&o);
    return rc;
}

// The file is a help, and not worth a run: where it cannot be written that is told.
static int keep_keys(struct train_run *r, double loss, double norm, char path[PATH_MAX],
                     struct err *e)
{
    char head[128], *keys;
    struct err why;
    size_t n;
    path[0] = '\0';
    if (all_keys(r, &keys, &n, e)) {
        free(keys);
        return -1;
    }
    snprintf(head, sizeof head,
             "# step %" PRIu64 ", loss %.17g, gradient norm %g, mean loss %.17g\n",
             r->state.step + 1, loss, norm, r->state.mean_loss);
    if (train_run_first(r) && write_file(r, head, keys, n, path, &why)) {
        log_error(r->log, "%s", why.text);
        path[0] = '\0';
    }
    free(keys);
    return 0;
}

// -- what then

static void describe(const struct train_run *r, double loss, double norm, char *text, size_t room)
{
    const char *term = "the gradient";
    for (size_t i = 0; i < loss_count(); i++)
        if (!isfinite(r->core.set.losses.value[i]))
            term = loss_kinds[i].name;
    if (above(r, loss))
        snprintf(text, room, "step %" PRIu64 ": the loss %g is %.3g times its mean %g",
                 r->state.step + 1, loss, loss / r->state.mean_loss, r->state.mean_loss);
    else
        snprintf(text, room, "step %" PRIu64 ": %s is not finite (loss %g, gradient norm %g)",
                 r->state.step + 1, term, loss, norm);
}

// A line that stands before the steps that are made again.
static int write_rewind(struct train_run *r, uint64_t from, double loss, struct err *e)
{
    cJSON *j = cJSON_CreateObject();
    int rc = !j ? err_set(e, "out of memory")
             : json_add_u64(j, "step", r->state.step, e) ||
                     json_add_u64(j, "rewound_from", from, e) ||
                     (isfinite(loss) && json_add_double(j, "spike", loss, e)) ||
                     train_log_line(&r->lines, j, e)
                 ? -1
                 : 0;
    cJSON_Delete(j);
    return rc;
}

// The checkpoint's weights and progress, but for the place in the data.
static int go_back(struct train_run *r, struct err *e)
{
    struct train_state was, *s = &r->state;
    int rc = train_state_read(r->checkpoint, &was, e);
    if (rc)
        return err_wrap(e, "checkpoint '%s'", r->checkpoint);
    rc = train_checkpoint_load(r->checkpoint, &r->core, &was, e);
    s->step = was.step;
    s->taken = was.taken;
    s->samples = was.samples;
    s->good_steps = was.good_steps;
    s->mean_loss = was.mean_loss;
    train_state_release(&was);
    train_state_take(s, r->places);
    return rc;
}

static int rewind_run(struct train_run *r, double loss, const char *what, struct err *e)
{
    uint64_t from = r->state.step + 1;
    struct train_spike *s = &r->spike;
    if (!r->checkpoint[0])
        return err_set(e, "%s; there is no checkpoint to rewind to", what);
    s->rewound = s->rewound && s->at == r->saved ? s->rewound + 1 : 1;
    s->at = r->saved;
    if (s->rewound > REWINDS_MOST)
        return err_set(e, "%s, after %d rewinds to '%s'", what, REWINDS_MOST, r->checkpoint);
    if (comm_agree(r->comm, go_back(r, e), e))
        return -1;
    progress_to(&r->progress, r->state.step);
    log_warn(r->log, "%s; back to step %" PRIu64 ", and on with other samples", what,
             r->state.step);
    if (!train_run_first(r))
        return comm_agree(r->comm, 0, e) ? -1 : 1;
    train_log_close(&r->lines);
    int rc = train_log_open(&r->lines, r->log_path, true, r->state.step, true, e) ||
                     write_rewind(r, from, loss, e)
                 ? -1
                 : 0;
    return comm_agree(r->comm, rc, e) ? -1 : 1;
}

int train_spike_act(struct train_run *r, double loss, double norm, struct err *e)
{
    const struct train_options *o = r->plan->o;
    char what[256], path[PATH_MAX];
    bool skips = o->on_spike == SPIKE_SKIP || (o->skip_bad && !above(r, loss));
    describe(r, loss, norm, what, sizeof what);
    if (keep_keys(r, loss, norm, path, e))
        return -1;
    if (path[0])
        log_warn(r->log, "%s: its samples are in '%s'", what, path);
    if (skips) {
        r->bad_steps++;
        return 0;
    }
    if (o->on_spike == SPIKE_REWIND)
        return rewind_run(r, loss, what, e);
    return err_set(e, "%s; last good checkpoint: %s", what,
                   r->checkpoint[0] ? r->checkpoint : "none");
}
