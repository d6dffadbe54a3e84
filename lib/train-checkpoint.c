// SPDX-License-Identifier: Apache-2.0
#include "train-checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clip-weights.h"
#include "io.h"
#include "json.h"
#include "mem.h"
#include "model-folder.h"

enum { CHUNK = 1 << 20 }; // floats written at once

void train_state_release(struct train_state *s)
{
    cJSON_Delete(s->options);
    s->options = NULL;
}

static int join(char path[PATH_MAX], const char *dir, const char *name, struct err *e)
{
    if (snprintf(path, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
        return err_set(e, "'%s': the name is too long", dir);
    return 0;
}

// -- folders

static int make_dir(const char *path, struct err *e)
{
    if (mkdir(path, 0777) && errno != EEXIST)
        return err_errno(e, "cannot make '%s'", path);
    return 0;
}

static int sync_dir(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "cannot open '%s'", path);
    int rc = fsync(fd) && errno != EINVAL ? err_errno(e, "cannot sync '%s'", path) : 0;
    close(fd);
    return rc;
}

// Removes a folder of files.
static void remove_dir(const char *path)
{
    struct err unused;
    char file[PATH_MAX];
    DIR *d = opendir(path);
    if (!d)
        return;
    for (struct dirent *f; (f = readdir(d));)
        if (strcmp(f->d_name, ".") && strcmp(f->d_name, "..") &&
            !join(file, path, f->d_name, &unused))
            unlink(file);
    closedir(d);
    rmdir(path);
}

// N of "step-N"; false when it is no such name.
static bool step_of(const char *name, uint64_t *step)
{
    char *end;
    if (strncmp(name, "step-", 5) || name[5] < '0' || name[5] > '9')
        return false;
    *step = strtoull(name + 5, &end, 10);
    return !*end;
}

// Looks through `dir`: the newest step and how many there are; with `below`, removes those under
// that number; always removes what is half written, unless it is this process's.
static int scan(const char *dir, uint64_t below, uint64_t *newest, struct err *e)
{
    char path[PATH_MAX];
    int n = 0;
    DIR *d = opendir(dir);
    if (!d)
        return errno == ENOENT ? 0 : err_errno(e, "cannot open '%s'", dir);
    *newest = 0;
    for (struct dirent *f; (f = readdir(d));) {
        uint64_t step;
        size_t len = strlen(f->d_name);
        bool tmp =
            !strncmp(f->d_name, ".step-", 6) && len > 4 && !strcmp(f->d_name + len - 4, ".tmp");
        bool old = step_of(f->d_name, &step);
        if (old && step >= below) {
            n++;
            *newest = step > *newest ? step : *newest;
        } else if ((tmp || old) && !join(path, dir, f->d_name, e)) {
            remove_dir(path);
        }
    }
    closedir(d);
    return n;
}

// Removes all but the newest `keep`.
static int prune(const char *dir, size_t keep, struct err *e)
{
    uint64_t newest, lowest = 0;
    for (;;) {
        int n = scan(dir, lowest, &newest, e);
        if (n < 0 || (size_t)n <= keep)
            return n < 0 ? -1 : 0;
        // The lowest that is left goes.
        uint64_t least = UINT64_MAX, step;
        DIR *d = opendir(dir);
        if (!d)
            return err_errno(e, "cannot open '%s'", dir);
        for (struct dirent *f; (f = readdir(d));)
            if (step_of(f->d_name, &step) && step < least)
                least = step;
        closedir(d);
        lowest = least + 1;
    }
}

int train_checkpoint_latest(const char *out, char path[PATH_MAX], struct err *e)
{
    char dir[PATH_MAX], name[64];
    uint64_t newest;
    if (join(dir, out, "checkpoints", e))
        return -1;
    int n = scan(dir, 0, &newest, e);
    if (n <= 0)
        return n;
    snprintf(name, sizeof name, "step-%08" PRIu64, newest);
    return join(path, dir, name, e) ? -1 : 1;
}

// -- weights

static int get_trained(void *user, size_t i, float *dst, struct err *e)
{
    struct train_core *c = user;
    const struct clip_tensor *t = &c->table.t[i];
    return c->d->op->download(c->d, dst, c->model.flat + t->offset, t->numel * sizeof *dst, e);
}

int train_export(const char *out, struct train_core *c, const char *tokenizer, bool hf,
                 struct err *e)
{
    struct model_source s = {&c->table, get_trained, c, tokenizer, ST_F32};
    if (model_folder_write(out, MODEL_OPEN_CLIP, &s, e))
        return -1;
    return hf ? model_folder_write(out, MODEL_HF, &s, e) : 0;
}

// -- optimizer.safetensors

enum { PART_M, PART_V, PART_VALUE, N_PARTS };
static const char *const prefix[N_PARTS] = {"m.", "v.", ""};

static float *part_of(const struct optim_slot *s, int part)
{
    return part == PART_M ? s->m : part == PART_V ? s->v : s->param;
}

// Is it a value that the model's own file does not hold?
static bool apart(const struct train_core *c, const struct optim_slot *s)
{
    return clip_table_find_name(&c->table, s->name) < 0;
}

struct piece {
    char name[OPTIM_NAME_MAX + 4];
    float *at;
    size_t n;
};

static size_t list_pieces(const struct train_core *c, struct piece *p)
{
    size_t n = 0;
    for (size_t i = 0; i < c->optim.n; i++)
        for (int part = 0; part < N_PARTS; part++) {
            const struct optim_slot *s = &c->optim.slots[i];
            if (part == PART_VALUE && !apart(c, s))
                continue;
            snprintf(p[n].name, sizeof p[n].name, "%s%s", prefix[part], s->name);
            p[n].at = part_of(s, part);
            p[n++].n = s->n;
        }
    return n;
}

static int put_piece(struct st_writer *w, struct train_core *c, const struct piece *p, float *buf,
                     struct err *e)
{
    for (size_t at = 0; at < p->n; at += CHUNK) {
        size_t n = p->n - at < CHUNK ? p->n - at : CHUNK;
        if (c->d->op->download(c->d, buf, p->at + at, n * sizeof *buf, e) ||
            st_writer_put(w, buf, n * sizeof *buf, e))
            return -1;
    }
    return 0;
}

static int write_pieces(const char *path, struct train_core *c, struct piece *p, size_t n,
                        struct st_spec *specs, float *buf, struct err *e)
{
    struct out o;
    struct st_writer w;
    for (size_t i = 0; i < n; i++)
        specs[i] = (struct st_spec){p[i].name, ST_F32, 1, {p[i].n}, &p[i]};
    if (out_open(&o, path, e))
        return -1;
    int rc = st_writer_begin(&w, &o, specs, n, NULL, 0, e);
    for (size_t i = 0; i < n && !rc; i++)
        rc = put_piece(&w, c, specs[i].user, buf, e);
    if (!rc)
        rc = st_writer_end(&w, e);
    if (!rc)
        rc = out_commit(&o, e);
    out_abort(&o);
    return rc;
}

static int write_optimizer(const char *path, struct train_core *c, struct err *e)
{
    size_t most = N_PARTS * c->optim.n;
    struct piece *p = mem_alloc(most, sizeof *p, e);
    struct st_spec *specs = p ? mem_alloc(most, sizeof *specs, e) : NULL;
    float *buf = specs ? mem_alloc(CHUNK, sizeof *buf, e) : NULL;
    int rc = buf ? write_pieces(path, c, p, list_pieces(c, p), specs, buf, e) : -1;
    free(buf);
    free(specs);
    free(p);
    return rc;
}

static int read_piece(const struct safetensors *s, struct train_core *c, const struct piece *p,
                      float *buf, struct err *e)
{
    const struct st_tensor *t = st_find(s, p->name);
    if (!t || t->numel != p->n)
        return err_set(e, "optimizer.safetensors: '%s' %s", p->name,
                       t ? "has another size" : "is missing");
    for (size_t at = 0; at < p->n; at += CHUNK) {
        size_t n = p->n - at < CHUNK ? p->n - at : CHUNK;
        if (st_read_f32(t, at, n, buf, e))
            return -1;
        c->d->op->upload(c->d, p->at + at, buf, n * sizeof *buf);
        if (c->d->op->sync(c->d, e))
            return -1;
    }
    return 0;
}

static int read_optimizer(const char *path, struct train_core *c, struct err *e)
{
    struct safetensors s;
    struct piece *p = mem_alloc(N_PARTS * c->optim.n, sizeof *p, e);
    float *buf = p ? mem_alloc(CHUNK, sizeof *buf, e) : NULL;
    int rc = buf ? st_open(&s, path, e) : -1;
    if (!rc) {
        size_t n = list_pieces(c, p);
        if (s.n_tensors != n)
            rc = err_set(e, "%s: has %zu tensors, not %zu", path, s.n_tensors, n);
        for (size_t i = 0; i < n && !rc; i++)
            rc = read_piece(&s, c, &p[i], buf, e);
        st_close(&s);
    }
    free(buf);
    free(p);
    return rc;
}

// -- state.json

static cJSON *state_json(const struct train_state *s, struct err *e)
{
    cJSON *j = cJSON_CreateObject();
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {{"step", s->step},
                   {"optimizer_step", s->taken},
                   {"samples", s->samples},
                   {"epoch", s->pos.epoch},
                   {"records", s->pos.records},
                   {"read", s->counts.read},
                   {"used", s->counts.used},
                   {"incomplete", s->counts.incomplete},
                   {"no_teacher", s->counts.no_teacher},
                   {"no_label", s->counts.no_label}};
    int rc = j ? 0 : err_set(e, "out of memory");
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && !rc; i++)
        rc = json_add_u64(j, numbers[i].name, numbers[i].value, e);
    if (!rc)
        rc = json_add_string(j, "keys", s->pos.keys, e);
    cJSON *options = rc ? NULL : cJSON_Duplicate(s->options, true);
    if (options && cJSON_AddItemToObject(j, "options", options))
        return j;
    if (!rc)
        err_set(e, "out of memory");
    cJSON_Delete(j);
    return NULL;
}

int train_checkpoint_state(const char *path, struct train_state *s, struct err *e)
{
    char file[PATH_MAX];
    const char *keys;
    const cJSON *options;
    memset(s, 0, sizeof *s);
    if (join(file, path, "state.json", e))
        return -1;
    cJSON *j = json_read_file(file, NULL, e);
    if (!j)
        return -1;
    int rc = json_u64(j, "step", JSON_REQUIRED, &s->step, e) < 0 ||
             json_u64(j, "optimizer_step", JSON_REQUIRED, &s->taken, e) < 0 ||
             json_u64(j, "samples", JSON_REQUIRED, &s->samples, e) < 0 ||
             json_u64(j, "epoch", JSON_REQUIRED, &s->pos.epoch, e) < 0 ||
             json_u64(j, "records", JSON_REQUIRED, &s->pos.records, e) < 0 ||
             json_u64(j, "read", JSON_REQUIRED, &s->counts.read, e) < 0 ||
             json_u64(j, "used", JSON_REQUIRED, &s->counts.used, e) < 0 ||
             json_u64(j, "incomplete", JSON_REQUIRED, &s->counts.incomplete, e) < 0 ||
             json_u64(j, "no_teacher", JSON_REQUIRED, &s->counts.no_teacher, e) < 0 ||
             json_u64(j, "no_label", JSON_REQUIRED, &s->counts.no_label, e) < 0 ||
             json_string(j, "keys", JSON_REQUIRED, &keys, e) < 0 ||
             json_object(j, "options", JSON_REQUIRED, &options, e) < 0;
    if (!rc && keys[0] && !digest_is_hex(keys))
        rc = err_set(e, "'keys' is no digest") != 0;
    if (!rc) {
        snprintf(s->pos.keys, sizeof s->pos.keys, "%s", keys);
        s->options = cJSON_Duplicate(options, true);
        rc = s->options ? 0 : err_set(e, "out of memory") != 0;
    }
    cJSON_Delete(j);
    return rc ? err_wrap(e, "%s", file) : 0;
}

// The first option of `a` that `b` has not, or otherwise; NULL when there is none.
static const cJSON *first_change(const cJSON *a, const cJSON *b)
{
    const cJSON *x;
    cJSON_ArrayForEach(x, a)
    {
        if (!cJSON_Compare(x, cJSON_GetObjectItemCaseSensitive(b, x->string), true))
            return x;
    }
    return NULL;
}

static bool is_digest(const cJSON *x)
{
    return x && cJSON_IsString(x) && digest_is_hex(x->valuestring);
}

// An option's value as the user gave it. Heap, or NULL.
static char *option_text(const cJSON *x)
{
    struct err ignored;
    return cJSON_IsString(x) ? mem_strdup(x->valuestring, &ignored)
           : x               ? cJSON_PrintUnformatted(x)
                             : mem_strdup("left out", &ignored);
}

int train_options_same(const cJSON *was, const cJSON *is, struct err *e)
{
    const cJSON *change = first_change(is, was);
    if (!change)
        change = first_change(was, is);
    if (!change)
        return 0;
    const cJSON *x = cJSON_GetObjectItemCaseSensitive(was, change->string);
    const cJSON *y = cJSON_GetObjectItemCaseSensitive(is, change->string);
    if (is_digest(x) && is_digest(y))
        return err_set(e,
                       "--%s is not what the checkpoint was made with (digests %.8s, %.8s); give "
                       "the same files, or another -o",
                       change->string, x->valuestring, y->valuestring);
    char *then = option_text(x), *now = option_text(y);
    if (then && now)
        err_set(e, "the checkpoint was made with --%s %s, now it is %s", change->string, then, now);
    else
        err_set(e, "out of memory");
    free(then);
    free(now);
    return -1;
}

// -- whole checkpoints

static int fill_dir(const char *dir, struct train_core *c, const struct train_state *s,
                    const char *tokenizer, struct err *e)
{
    char path[PATH_MAX];
    if (train_export(dir, c, tokenizer, false, e) || join(path, dir, "optimizer.safetensors", e) ||
        write_optimizer(path, c, e) || join(path, dir, "state.json", e))
        return -1;
    cJSON *j = state_json(s, e);
    int rc = j ? json_write_file(path, j, e) : -1;
    cJSON_Delete(j);
    return rc ? rc : sync_dir(dir, e);
}

int train_checkpoint_write(const char *out, struct train_core *c, const struct train_state *s,
                           const char *tokenizer, size_t keep, char path[PATH_MAX], struct err *e)
{
    char dir[PATH_MAX], tmp[PATH_MAX], name[64];
    struct stat st;
    if (make_dir(out, e) || join(dir, out, "checkpoints", e) || make_dir(dir, e))
        return -1;
    snprintf(name, sizeof name, "step-%08" PRIu64, s->step);
    if (join(path, dir, name, e))
        return -1;
    if (!stat(path, &st))
        return 0;
    snprintf(name, sizeof name, ".step-%08" PRIu64 ".%d.tmp", s->step, (int)getpid());
    if (join(tmp, dir, name, e) || make_dir(tmp, e))
        return -1;
    int rc = fill_dir(tmp, c, s, tokenizer, e);
    if (!rc && rename(tmp, path))
        rc = err_errno(e, "cannot name '%s'", path);
    if (rc) {
        remove_dir(tmp);
        return -1;
    }
    return sync_dir(dir, e) || prune(dir, keep, e) ? -1 : 0;
}

int train_checkpoint_load(const char *path, struct train_core *c, const struct train_state *s,
                          struct err *e)
{
    char file[PATH_MAX];
    float *flat = mem_alloc(c->table.n_flat, sizeof *flat, e);
    if (!flat)
        return -1;
    int rc = clip_weights_load_into(path, &c->table, flat, e) ||
             join(file, path, "optimizer.safetensors", e) || train_core_load(c, flat, e) ||
             read_optimizer(file, c, e);
    free(flat);
    c->optim.step = s->taken;
    return rc ? -1 : 0;
}
