// SPDX-License-Identifier: Apache-2.0
// --dry-run (runs/settle.h).
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "model/folder.h"
#include "model/tokenizer-check.h"
#include "model/weights.h"
#include "runs/checkpoint.h"
#include "runs/settle.h"
#include "runs/setup.h"

enum { FILES_LEAST = 64 }; // of the shards that a window of samples is from, and the rest
static const double GIB = 1024.0 * 1024 * 1024;

static int check_student(const struct train_plan *p, struct clip_config *c, struct log *log,
                         struct err *e)
{
    const struct train_options *o = p->o;
    struct clip_table table;
    if (train_setup_config(c, o, NULL, p->needs & LOSS_BIAS, e))
        return -1;
    if (clip_table_init(&table, c, e))
        return -1;
    int rc = train_init_take(&table, o, NULL, log, e);
    clip_table_release(&table);
    if (rc)
        return -1;
    log_note(log, "student: %s, %d columns, pictures of %d", o->student ? o->student : o->init,
             c->embed_dim, c->image_size);
    struct tokenizer *t = clip_tokenizer_open(p->tokenizer, c, e);
    tokenizer_free(t);
    return t ? 0 : -1;
}

// The centroids' size, or what --clusters says about them.
static int check_clusters(const struct train_plan *p, struct train_set *s, struct err *e)
{
    const struct train_options *o = p->o;
    const char *path = train_plan_centroids(p);
    if (!(p->needs & LOSS_BY_LABEL))
        return 0;
    s->n_label = s->n_label ? s->n_label : 1;
    if (!(p->needs & LOSS_CLUSTERS))
        return 0;
    if (!o->clusters || (path && !access(path, F_OK)))
        return train_setup_centroid_size(path, s, e);
    s->k = o->clusters;
    return 0;
}

// Digests tell what does not belong together; this compares them if all files exist.
static int check_inputs(const struct train_plan *p, struct err *e)
{
    const struct lines none = {0};
    struct train_inputs in;
    struct train_identity id;
    int rc = 0;
    if (p->o->teacher) // some of it may be missing
        return 0;
    for (size_t i = 0; i < (p->mix.n ? p->mix.n : 1) && !rc; i++) {
        const struct train_plan *one = train_plan_of(p, i);
        char *names = NULL;
        train_plan_inputs(one, &in);
        rc = train_match(&in, &none, &id, &names, e) ||
             teacher_dirs_match(one->dirs, &in, &none, names, &id, e);
        free(names);
    }
    return rc;
}

// Returns the folder, or the nearest existing folder above it.
static void existing(const char *path, char at[PATH_MAX])
{
    snprintf(at, PATH_MAX, "%s", path);
    while (access(at, F_OK)) {
        char *slash = strrchr(at, '/');
        if (!slash || slash == at) {
            snprintf(at, PATH_MAX, "%s", slash ? "/" : ".");
            return;
        }
        *slash = '\0';
    }
}

// Bytes of a model, two moments and the average of all that is trained, and the tensors outside the
// model.
static double checkpoint_bytes(const struct clip_table *t, const struct train_set *s)
{
    size_t clusters = s->cluster.frozen ? 0 : s->k * s->dim_t;
    size_t maps = s->project ? 2 * (size_t)t->cfg.embed_dim * s->dim_t : 0;
    size_t moments = (s->ema > 0 ? 3 : 2) * clip_locks_n_trained(&s->locks, t);
    return (double)(t->n_flat + moments + 3 * (clusters + maps)) * sizeof(float);
}

// The maximum number that exists at a time, the one that is being written included. For a run that
// keeps all checkpoints that it makes by the clock the number is unknown: two.
static double checkpoints(const struct train_plan *p, uint64_t steps)
{
    const struct checkpoint_keep *k = &p->keep_checkpoints;
    double by_steps = p->every_steps ? (double)(steps / p->every_steps) : 2;
    double newest = k->newest == SIZE_MAX ? by_steps : (double)k->newest;
    return newest + (k->every ? (double)(steps / k->every) : 0) + (p->watch.set[0] ? 1 : 0) + 1;
}

// Bytes of all checkpoints that are kept, the one that is being written, and the model.
static int check_disk(const struct train_plan *p, const struct clip_config *cfg,
                      const struct train_set *s, struct log *log, struct err *e)
{
    const char *out = p->o->output;
    struct clip_table t;
    struct statvfs fs;
    char at[PATH_MAX];
    if (!out)
        return 0;
    if (clip_table_init(&t, cfg, e))
        return -1;
    double one = checkpoint_bytes(&t, s), model = (double)t.n_flat * sizeof(float);
    struct model_layouts l;
    if (model_layouts_of(cfg, p->o->export_hf, &l, e)) {
        clip_table_release(&t);
        return -1;
    }
    double n = checkpoints(p, s->optim.steps);
    double all = n * one + model * (l.open_clip + l.hf) * (s->ema > 0 ? 2 : 1);
    clip_table_release(&t);
    existing(out, at);
    if (access(at, W_OK | X_OK) || statvfs(at, &fs))
        return err_errno(e, "cannot write into '%s'", at);
    double left = (double)fs.f_bavail * (double)fs.f_frsize;
    log_note(log, "disk: %.2f GiB (%.0f checkpoints of %.2f, the model %.2f); %.2f GiB are free",
             all / GIB, n, one / GIB, model / GIB, left / GIB);
    return all <= left ? 0
                       : err_set(e, "'%s': %.2f GiB are needed for checkpoints, %.2f are free", at,
                                 all / GIB, left / GIB);
}

static int check_open_files(struct err *e)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur >= FILES_LEAST)
        return 0;
    return err_set(e, "only %llu files may be open, %d are needed: ulimit -n %d",
                   (unsigned long long)r.rlim_cur, FILES_LEAST, FILES_LEAST);
}

int train_dry_run(const struct train_plan *p, struct log *log, struct err *e)
{
    const struct train_options *o = p->o;
    struct train_set s = {0};
    struct clip_config cfg;
    struct dev d;
    train_plan_set(p, &s);
    if (check_student(p, &cfg, log, e) || check_inputs(p, e) ||
        train_settle_data(p, NULL, &s, log, e) || check_clusters(p, &s, e) ||
        dev_open(&d, o->device, (enum dev_type)o->dtype, o->threads, false, e))
        return -1;
    if (o->dtype == DEV_AUTO)
        log_note(log, "--dtype auto: %s", dev_dtype(&d));
    size_t dealt;
    int rc = train_settle_dealt(p, NULL, &s, &dealt, e) ||
             train_settle_core(p, &cfg, NULL, &s, &d, log, e) || check_disk(p, &cfg, &s, log, e) ||
             check_open_files(e);
    dev_close(&d);
    return rc ? -1 : 0;
}
