// SPDX-License-Identifier: Apache-2.0
#include "runs/output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "system/io.h"
#include "formats/json.h"
#include "base/path.h"
#include "runs/checkpoint-dir.h"

#define FINISHED "checkpoints/finished.json"
#define SHARDS "checkpoints/shards.txt"

// Files of an exported model. The configs come first: without them a folder is no model, so a model
// that is half removed is not mistaken for one.
static const char *const exported[] = {"open_clip_config.json",
                                       "config.json",
                                       "preprocessor_config.json",
                                       "open_clip_model.safetensors",
                                       "model.safetensors",
                                       "tokenizer.json",
                                       "tokenizer_config.json",
                                       "vocab.json",
                                       "merges.txt",
                                       "special_tokens_map.json",
                                       "added_tokens.json",
                                       "bpe_simple_vocab_16e6.txt",
                                       "bpe_simple_vocab_16e6.txt.gz",
                                       "vocab.txt",
                                       "spiece.model",
                                       "tokenizer.model",
                                       "sentencepiece.bpe.model"};
// The model's files, then those of its average in a folder of their own.
enum { N_NAMES = sizeof exported / sizeof *exported, N_EXPORTED = 2 * N_NAMES, NAME_ROOM = 64 };

static const char *exported_name(int i, char room[NAME_ROOM])
{
    snprintf(room, NAME_ROOM, "%s%s", i < N_NAMES ? "" : "ema/", exported[i % N_NAMES]);
    return room;
}

// -- the owner

int train_output_take(struct train_output *o, const char *dir, struct err *e)
{
    *o = (struct train_output){.dir = dir};
    o->made = !mkdir(dir, 0777);
    if (!o->made && errno != EEXIST)
        return err_errno(e, "cannot make '%s'", dir);
    if (!folder_lock_take(&o->lock, dir, "distill-train", e))
        return checkpoint_dir_clean(dir, e);
    return -1;
}

void train_output_release(struct train_output *o)
{
    folder_lock_release(&o->lock);
    if (o->made)
        rmdir(o->dir);
}

static int remove_file(const char *path, struct err *e)
{
    return unlink(path) && errno != ENOENT ? err_errno(e, "cannot remove '%s'", path) : 0;
}

// -- what is there

static bool there(const char *dir, const char *name)
{
    struct err unused;
    char path[PATH_MAX];
    struct stat st;
    return !path_join(path, dir, name, &unused) && !lstat(path, &st);
}

// The next file of a model in the folder, or of its average; *at counts from 0. NULL: no more.
static const char *next_model_file(const char *dir, size_t *at)
{
    static const char *const names[] = {
        "open_clip_config.json",     "open_clip_model.safetensors",     "model.safetensors",
        "ema/open_clip_config.json", "ema/open_clip_model.safetensors", "ema/model.safetensors"};
    while (*at < sizeof names / sizeof *names) {
        const char *name = names[(*at)++];
        if (there(dir, name))
            return name;
    }
    return NULL;
}

static const char *model_file(const char *dir)
{
    size_t at = 0;
    return next_model_file(dir, &at);
}

// finished.json: NULL without e set (its text empty) when there is none.
static cJSON *read_finished(const char *dir, struct err *e)
{
    char path[PATH_MAX];
    e->text[0] = '\0';
    if (!there(dir, FINISHED) || path_join(path, dir, FINISHED, e))
        return NULL;
    return json_read_file(path, NULL, e);
}

static int get_finished(const cJSON *j, struct train_state *s, struct err *e)
{
    const cJSON *options;
    *s = (struct train_state){0};
    if (json_u64(j, "step", JSON_REQUIRED, &s->step, e) < 0 ||
        json_u64(j, "samples", JSON_REQUIRED, &s->samples, e) < 0 ||
        json_u64(j, "parts", JSON_REQUIRED, &s->starts, e) < 0 ||
        json_double(j, "seconds", JSON_REQUIRED, &s->seconds, e) < 0 ||
        json_object(j, "options", JSON_REQUIRED, &options, e) < 0)
        return err_wrap(e, FINISHED);
    s->options = cJSON_Duplicate(options, true);
    return s->options ? 0 : err_set(e, "out of memory");
}

// Whether the run that j describes made the file, and it has not changed since.
static int made_here(const cJSON *j, const char *dir, const char *name, bool *made, struct err *e)
{
    char path[PATH_MAX], is[DIGEST_HEX];
    const cJSON *files = NULL;
    const char *was = NULL;
    *made = false;
    if (!j || json_object(j, "files", JSON_REQUIRED, &files, e) < 0 ||
        json_string(files, name, JSON_OPTIONAL, &was, e) <= 0)
        return 0;
    if (path_join(path, dir, name, e) || digest_file(path, is, e))
        return -1;
    *made = !strcmp(is, was);
    return 0;
}

// A model that no run made, or that was changed since, must not be removed.
static int check_removable(const char *dir, struct err *e)
{
    struct err why;
    const char *model;
    size_t at = 0;
    int rc = 0;
    if (!model_file(dir))
        return 0;
    cJSON *j = read_finished(dir, &why);
    while (!rc && (model = next_model_file(dir, &at))) {
        bool made;
        rc = made_here(j, dir, model, &made, e);
        if (!rc && !made)
            rc = err_set(e,
                         "--overwrite: '%s/%s' was not made by distill-train, or was changed "
                         "since: remove it yourself, or give another -o",
                         dir, model);
    }
    cJSON_Delete(j);
    return rc;
}

static int refuse(const char *dir, const struct checkpoint_list *l, struct err *e)
{
    struct err why;
    char what[96];
    if (l->n)
        snprintf(what, sizeof what, "checkpoints up to step %" PRIu64 "%s", l->at[0].step,
                 model_file(dir) ? " and a model" : "");
    else
        snprintf(what, sizeof what, "a model");
    if (check_removable(dir, &why))
        return err_set(e,
                       "'%s' holds %s that this tool did not make, or that was changed since: "
                       "%sgive another -o, or remove it yourself",
                       dir, what, l->n ? "--resume goes on from there, or " : "");
    return err_set(e,
                   "'%s' holds %s: %s--overwrite removes %s and starts again, or give another -o",
                   dir, what, l->n ? "--resume goes on from there, " : "", l->n ? "them" : "it");
}

int train_output_check(const struct train_output *o, enum train_start how, struct train_state *done,
                       struct err *e)
{
    struct checkpoint_list l;
    if (how == TRAIN_OVERWRITE)
        return check_removable(o->dir, e);
    if (checkpoint_list_read(&l, o->dir, e))
        return -1;
    int rc = 0;
    if (how == TRAIN_RESUME && !l.n && model_file(o->dir)) {
        cJSON *j = read_finished(o->dir, e);
        rc = j ? get_finished(j, done, e) ? -1 : 1 : e->text[0] ? -1 : refuse(o->dir, &l, e);
        cJSON_Delete(j);
    } else if (how == TRAIN_NEW && (l.n || model_file(o->dir))) {
        rc = refuse(o->dir, &l, e);
    }
    checkpoint_list_release(&l);
    return rc;
}

// -- removing

int train_output_clear(const struct train_output *o, struct err *e)
{
    char path[PATH_MAX];
    cJSON *j = read_finished(o->dir, e);
    int rc = 0;
    for (int i = 0; i < N_EXPORTED && !rc; i++) {
        char room[NAME_ROOM];
        const char *name = exported_name(i, room);
        bool made;
        rc = made_here(j, o->dir, name, &made, e);
        if (!rc && made)
            rc = path_join(path, o->dir, name, e) || remove_file(path, e);
    }
    cJSON_Delete(j);
    if (rc || path_join(path, o->dir, "ema", e))
        return -1;
    rmdir(path); // stays where something else is in it
    if (checkpoint_dir_remove_all(o->dir, e) || path_join(path, o->dir, SHARDS, e) ||
        remove_file(path, e) || path_join(path, o->dir, FINISHED, e) || remove_file(path, e) ||
        path_join(path, o->dir, "checkpoints", e))
        return -1;
    rmdir(path);
    return 0;
}

// -- the shards that the run began with

static int make_checkpoints(const char *dir, struct err *e)
{
    char path[PATH_MAX];
    if (path_join(path, dir, "checkpoints", e))
        return -1;
    return mkdir(path, 0777) && errno != EEXIST ? err_errno(e, "cannot make '%s'", path) : 0;
}

int train_output_shards(const struct train_output *o, struct lines *shards, struct err *e)
{
    char path[PATH_MAX];
    *shards = (struct lines){0};
    return there(o->dir, SHARDS) ? path_join(path, o->dir, SHARDS, e) || lines_read(shards, path, e)
                                 : 0;
}

int train_output_keep_shards(const struct train_output *o, const char *names, struct err *e)
{
    char path[PATH_MAX];
    struct out to;
    if (path_join(path, o->dir, SHARDS, e))
        return -1;
    if (!*names)
        return remove_file(path, e);
    if (make_checkpoints(o->dir, e) || out_open(&to, path, e))
        return -1;
    int rc = out_write(&to, names, strlen(names), e) || out_commit(&to, e) ? -1 : 0;
    out_abort(&to);
    return rc;
}

// -- finishing

// What tells one version of a file from another.
struct output_version {
    ino_t ino;
    struct timespec changed;
};

static void look(const char *dir, struct output_version v[N_EXPORTED])
{
    char path[PATH_MAX];
    struct err unused;
    struct stat st;
    for (int i = 0; i < N_EXPORTED; i++) {
        char room[NAME_ROOM];
        bool is = !path_join(path, dir, exported_name(i, room), &unused) && !stat(path, &st);
        v[i] = is ? (struct output_version){st.st_ino, st.st_ctim} : (struct output_version){0};
    }
}

static bool same(const struct output_version *a, const struct output_version *b)
{
    return a->ino == b->ino && a->changed.tv_sec == b->changed.tv_sec &&
           a->changed.tv_nsec == b->changed.tv_nsec;
}

static int add_files(cJSON *j, const char *dir, const struct output_version before[N_EXPORTED],
                     struct err *e)
{
    char path[PATH_MAX], hex[DIGEST_HEX];
    struct output_version after[N_EXPORTED];
    cJSON *files = json_add_object(j, "files", e);
    look(dir, after);
    for (int i = 0; files && i < N_EXPORTED; i++) {
        char room[NAME_ROOM];
        const char *name = exported_name(i, room);
        if (after[i].ino && !same(&before[i], &after[i]) &&
            (path_join(path, dir, name, e) || digest_file(path, hex, e) ||
             json_add_string(files, name, hex, e)))
            return -1;
    }
    return files ? 0 : -1;
}

static int write_finished(const char *dir, const struct train_state *s,
                          const struct output_version before[N_EXPORTED], struct err *e)
{
    char path[PATH_MAX];
    cJSON *j = cJSON_CreateObject(), *options = cJSON_Duplicate(s->options, true);
    int rc = j && options && cJSON_AddItemToObject(j, "options", options)
                 ? 0
                 : err_set(e, "out of memory");
    rc = rc || make_checkpoints(dir, e) || json_add_string(j, "version", CLIPCID_VERSION, e) ||
         json_add_u64(j, "step", s->step, e) || json_add_u64(j, "samples", s->samples, e) ||
         json_add_double(j, "seconds", s->seconds, e) || json_add_u64(j, "parts", s->starts, e) ||
         add_files(j, dir, before, e) || path_join(path, dir, FINISHED, e) ||
         json_write_file(path, j, e);
    cJSON_Delete(j);
    return rc ? -1 : 0;
}

int train_output_finish(const struct train_output *o, struct train_core *c,
                        const struct train_state *s, const char *tokenizer, bool hf, struct err *e)
{
    struct output_version before[N_EXPORTED];
    look(o->dir, before);
    return train_export(o->dir, c, tokenizer, hf, e) || write_finished(o->dir, s, before, e) ? -1
                                                                                             : 0;
}

int train_output_touch(const struct train_output *o, struct err *e)
{
    static const char *const configs[] = {"open_clip_config.json", "config.json"};
    char path[PATH_MAX];
    for (int i = 0; i < 2; i++)
        if (there(o->dir, configs[i]) &&
            (path_join(path, o->dir, configs[i], e) ||
             (utimensat(AT_FDCWD, path, NULL, 0) && err_errno(e, "cannot touch '%s'", path))))
            return -1;
    return 0;
}
