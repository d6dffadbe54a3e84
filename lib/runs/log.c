// SPDX-License-Identifier: Apache-2.0
#include "runs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "system/io.h"
#include "formats/json.h"
#include "train/choose.h"

// Whether it is a line of a step up to `step`, and no evaluation or rewind after it that
// will be made again.
static bool wanted(const char *line, size_t n, uint64_t step, bool looked)
{
    struct err e;
    uint64_t is;
    cJSON *j = json_parse(line, n, NULL, &e);
    bool keep = j && json_u64(j, "step", JSON_REQUIRED, &is, &e) == 1 && is <= step;
    if (keep && is == step)
        keep =
            (looked || !cJSON_HasObjectItem(j, "eval")) && !cJSON_HasObjectItem(j, "rewound_from");
    cJSON_Delete(j);
    return keep;
}

static int cut(const char *path, uint64_t step, bool looked, struct err *e)
{
    struct map m;
    struct out o;
    if (map_open(&m, path, e))
        return -1;
    int rc = out_open(&o, path, e);
    for (size_t at = 0; at < m.n && !rc;) {
        const uint8_t *end = memchr(m.data + at, '\n', m.n - at);
        if (!end)
            break;
        size_t n = (size_t)(end - (m.data + at)) + 1;
        if (wanted((const char *)m.data + at, n, step, looked))
            rc = out_write(&o, m.data + at, n, e);
        at += n;
    }
    map_close(&m);
    if (!rc)
        rc = out_commit(&o, e);
    out_abort(&o);
    return rc;
}

int train_log_open(struct train_log *l, const char *path, bool resume, uint64_t step, bool looked,
                   struct err *e)
{
    struct stat st;
    l->path = path;
    l->fd = -1;
    bool there = !stat(path, &st) && S_ISREG(st.st_mode);
    if (resume && there && cut(path, step, looked, e))
        return -1;
    int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (resume || !there ? 0 : O_TRUNC);
    l->fd = open(path, flags, 0666);
    return l->fd < 0 ? err_errno(e, "cannot open '%s'", path) : 0;
}

int train_log_line(struct train_log *l, const cJSON *o, struct err *e)
{
    char *text = json_text(o, false, e);
    if (!text)
        return -1;
    size_t n = strlen(text);
    text[n] = '\n'; // in place of the NUL: one write, one line
    int rc = io_write_all(l->fd, text, n + 1) ? err_errno(e, "cannot write '%s'", l->path) : 0;
    free(text);
    return rc;
}

// Samples of each set of a mixture so far.
static int add_mix(cJSON *j, const struct train_line *s, struct err *e)
{
    cJSON *o = s->mix->n ? json_add_object(j, "sets", e) : NULL;
    int rc = s->mix->n && !o ? -1 : 0;
    for (size_t i = 0; i < s->mix->n && !rc; i++)
        rc = json_add_u64(o, s->mix->set[i].name, train_state_used(s->state, s->mix->n, i), e);
    return rc;
}

// Of --select: samples that were read for the step, the mean score of all and of the chosen ones.
static int add_chosen(cJSON *j, const struct train_core *c, struct err *e)
{
    if (!c->choose)
        return 0;
    const struct learnable *l = &c->choose->l;
    return json_add_u64(j, "chosen_from", l->set.n, e) ||
                   json_add_double(j, "score_all", l->mean, e) ||
                   json_add_double(j, "score_chosen", l->mean_chosen, e)
               ? -1
               : 0;
}

static int add_numbers(cJSON *j, const struct train_line *s, struct err *e)
{
    const struct losses *l = &s->core->set.losses;
    int rc = json_add_u64(j, "step", s->state->step, e) ||
             json_add_u64(j, "epoch", s->state->pos.epoch, e) ||
             json_add_u64(j, "samples", s->state->samples, e) ||
             json_add_double(j, "loss", s->loss, e);
    for (size_t i = 0; i < loss_count() && !rc; i++)
        if (l->weight[i] > 0)
            rc = json_add_double(j, loss_kinds[i].name, l->value[i], e);
    if (!rc && (losses_needs(l) & LOSS_BIAS))
        rc = json_add_float(j, "logit_bias", s->core->logit_bias, e);
    return rc || json_add_double(j, "lr", s->lr, e) ||
           json_add_float(j, "logit_scale", s->core->logit_scale, e) ||
           json_add_double(j, "grad_norm", s->norm, e) ||
           json_add_double(j, "samples_per_second", (double)s->core->set.batch / s->seconds, e) ||
           json_add_double(j, "data_wait", s->wait, e) || json_add_u64(j, "memory", s->memory, e) ||
           json_add_u64(j, "part", s->state->starts, e) ||
           json_add_double(j, "seconds", s->state->seconds, e) || add_mix(j, s, e) ||
           add_chosen(j, s->core, e) || (s->skipped && json_add_bool(j, "skipped", true, e));
}

int train_log_step(struct train_log *l, const struct train_line *s, struct err *e)
{
    cJSON *j = cJSON_CreateObject();
    if (!j)
        return err_set(e, "out of memory");
    int rc = add_numbers(j, s, e) || train_log_line(l, j, e) ? -1 : 0;
    cJSON_Delete(j);
    return rc;
}

void train_log_close(struct train_log *l)
{
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
}
