// SPDX-License-Identifier: Apache-2.0
#include "runs/state.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/json.h"
#include "base/mem.h"
#include "base/path.h"

// The files that a checkpoint must have to be resumed: in open_clip's layout, and in Hugging
// Face's.
enum { N_FILES = 3 };
static const char *const layouts[][N_FILES] = {
    {"open_clip_config.json", "open_clip_model.safetensors", "optimizer.safetensors"},
    {"config.json", "model.safetensors", "optimizer.safetensors"},
};

// Those of the checkpoint in `dir`.
static const char *const *files_of(const char *dir)
{
    char path[PATH_MAX];
    struct err unused;
    bool hf = !path_join(path, dir, layouts[1][0], &unused) && !access(path, F_OK) &&
              !path_join(path, dir, layouts[0][0], &unused) && access(path, F_OK);
    return layouts[hf];
}

void train_state_release(struct train_state *s)
{
    cJSON_Delete(s->options);
    free(s->places);
    s->options = NULL;
    s->places = NULL;
    s->n_places = 0;
}

int train_state_places(struct train_state *s, size_t n, struct err *e)
{
    s->places = mem_alloc(n, sizeof *s->places, e);
    s->n_places = s->places ? n : 0;
    return s->places ? 0 : -1;
}

// -- the numbers of a place

#define PLACE_NUMBERS(pos, counts)                                                                 \
    {"epoch", &(pos)->epoch}, {"records", &(pos)->records}, {"read", &(counts)->read},             \
        {"used", &(counts)->used}, {"incomplete", &(counts)->incomplete},                          \
        {"no_teacher", &(counts)->no_teacher},                                                     \
    {                                                                                              \
        "no_label", &(counts)->no_label                                                            \
    }

struct number {
    const char *name;
    uint64_t *at;
};

static void add_counts(struct train_counts *sum, const struct train_counts *c)
{
    sum->read += c->read;
    sum->used += c->used;
    sum->incomplete += c->incomplete;
    sum->no_teacher += c->no_teacher;
    sum->no_label += c->no_label;
}

void train_state_take(struct train_state *s, const struct train_place *places)
{
    s->pos = places[0].pos;
    s->counts = places[0].counts;
    if (!s->n_places)
        return;
    memcpy(s->places, places, s->n_places * sizeof *places);
    s->pos = (struct train_pos){.epoch = places[0].pos.epoch};
    for (size_t i = 1; i < s->n_places; i++) {
        uint64_t epoch = places[i].pos.epoch;
        s->pos.epoch = epoch < s->pos.epoch ? epoch : s->pos.epoch;
        add_counts(&s->counts, &places[i].counts);
    }
}

uint64_t train_state_used(const struct train_state *s, size_t n, size_t i)
{
    uint64_t used = 0;
    for (; i < s->n_places; i += n)
        used += s->places[i].counts.used;
    return used;
}

// -- writing

static int put_place(cJSON *j, const struct train_pos *p, const struct train_counts *c,
                     struct err *e)
{
    struct train_place copy = {*p, *c};
    const struct number numbers[] = {PLACE_NUMBERS(&copy.pos, &copy.counts)};
    int rc = 0;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && !rc; i++)
        rc = json_add_u64(j, numbers[i].name, *numbers[i].at, e);
    return rc ? rc : json_add_string(j, "keys", p->keys, e);
}

static int put_places(cJSON *j, const struct train_state *s, struct err *e)
{
    cJSON *list = s->n_places ? json_add_array(j, "parts", e) : NULL;
    int rc = s->n_places && !list ? -1 : 0;
    for (size_t i = 0; i < s->n_places && !rc; i++) {
        cJSON *o = json_add_object(list, NULL, e);
        rc = o ? put_place(o, &s->places[i].pos, &s->places[i].counts, e) : -1;
    }
    return rc;
}

static int add_numbers(cJSON *j, const struct train_state *s, struct err *e)
{
    return json_add_string(j, "version", CLIPCID_VERSION, e) ||
                   json_add_u64(j, "step", s->step, e) ||
                   json_add_u64(j, "optimizer_step", s->taken, e) ||
                   json_add_u64(j, "samples", s->samples, e) ||
                   put_place(j, &s->pos, &s->counts, e) || put_places(j, s, e) ||
                   (s->best_step && (json_add_u64(j, "best_step", s->best_step, e) ||
                                     json_add_double(j, "best_value", s->best_value, e))) ||
                   (s->good_steps && (json_add_u64(j, "good_steps", s->good_steps, e) ||
                                      json_add_double(j, "mean_loss", s->mean_loss, e)))
               ? -1
               : 0;
}

static int add_files(cJSON *j, const char *dir, struct err *e)
{
    char path[PATH_MAX], hex[DIGEST_HEX];
    const char *const *files = files_of(dir);
    cJSON *o = json_add_object(j, "files", e);
    for (int i = 0; o && i < N_FILES; i++)
        if (path_join(path, dir, files[i], e) || digest_file(path, hex, e) ||
            json_add_string(o, files[i], hex, e))
            return -1;
    return o ? 0 : -1;
}

static int own_digest(const cJSON *j, char hex[DIGEST_HEX], struct err *e)
{
    char *text = json_text(j, false, e);
    if (!text)
        return -1;
    digest_bytes(text, strlen(text), hex);
    free(text);
    return 0;
}

static int fill_state(cJSON *j, const char *dir, const struct train_state *s, struct err *e)
{
    char hex[DIGEST_HEX];
    if (add_numbers(j, s, e) || add_files(j, dir, e))
        return -1;
    cJSON *options = cJSON_Duplicate(s->options, true);
    if (!options || !cJSON_AddItemToObject(j, "options", options)) {
        cJSON_Delete(options);
        return err_set(e, "out of memory");
    }
    return own_digest(j, hex, e) || json_add_string(j, "digest", hex, e) ? -1 : 0;
}

static int fill_time(cJSON *j, const char *dir, const struct train_state *s, struct err *e)
{
    (void)dir;
    const struct train_looks *l = &s->looks;
    if (json_add_double(j, "seconds", s->seconds, e) || json_add_u64(j, "parts", s->starts, e))
        return -1;
    if (!l->n && !l->passed_over)
        return 0;
    return json_add_u64(j, "eval_step", l->step, e) || json_add_u64(j, "eval_epoch", l->epoch, e) ||
                   json_add_u64(j, "evals", l->n, e) ||
                   json_add_u64(j, "evals_passed_over", l->passed_over, e) ||
                   json_add_double(j, "eval_seconds", l->seconds, e)
               ? -1
               : 0;
}

static int write_one(const char *dir, const char *name, const struct train_state *s,
                     int (*fill)(cJSON *j, const char *dir, const struct train_state *s,
                                 struct err *e),
                     struct err *e)
{
    char path[PATH_MAX];
    cJSON *j = cJSON_CreateObject();
    int rc = j ? path_join(path, dir, name, e) : err_set(e, "out of memory");
    rc = rc || fill(j, dir, s, e) || json_write_file(path, j, e) ? -1 : 0;
    cJSON_Delete(j);
    return rc;
}

int train_state_write(const char *dir, const struct train_state *s, struct err *e)
{
    return write_one(dir, "time.json", s, fill_time, e) ||
                   write_one(dir, "state.json", s, fill_state, e)
               ? -1
               : 0;
}

// -- reading

static int get_place(const cJSON *j, struct train_pos *p, struct train_counts *c, struct err *e)
{
    const struct number numbers[] = {PLACE_NUMBERS(p, c)};
    const char *keys;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (json_u64(j, numbers[i].name, JSON_REQUIRED, numbers[i].at, e) < 0)
            return -1;
    if (json_string(j, "keys", JSON_REQUIRED, &keys, e) < 0)
        return -1;
    if (keys[0] && !digest_is_hex(keys))
        return err_set(e, "'keys' is no digest");
    snprintf(p->keys, sizeof p->keys, "%s", keys);
    return 0;
}

static int get_places(const cJSON *j, struct train_state *s, struct err *e)
{
    const cJSON *list, *o;
    size_t i = 0;
    int rc = json_array(j, "parts", JSON_OPTIONAL, &list, e);
    if (rc <= 0)
        return rc;
    int n = cJSON_GetArraySize(list);
    if (n < 1)
        return err_set(e, "'parts' is empty");
    if (train_state_places(s, (size_t)n, e))
        return -1;
    cJSON_ArrayForEach(o, list)
    {
        if (get_place(o, &s->places[i].pos, &s->places[i].counts, e))
            return err_wrap(e, "part %zu", i + 1);
        i++;
    }
    return 0;
}

static int get_numbers(const cJSON *j, struct train_state *s, struct err *e)
{
    return json_u64(j, "step", JSON_REQUIRED, &s->step, e) < 0 ||
                   json_u64(j, "optimizer_step", JSON_REQUIRED, &s->taken, e) < 0 ||
                   json_u64(j, "samples", JSON_REQUIRED, &s->samples, e) < 0 ||
                   get_place(j, &s->pos, &s->counts, e) || get_places(j, s, e) ||
                   json_u64(j, "best_step", JSON_OPTIONAL, &s->best_step, e) < 0 ||
                   json_double(j, "best_value", JSON_OPTIONAL, &s->best_value, e) < 0 ||
                   json_u64(j, "good_steps", JSON_OPTIONAL, &s->good_steps, e) < 0 ||
                   json_double(j, "mean_loss", JSON_OPTIONAL, &s->mean_loss, e) < 0
               ? -1
               : 0;
}

// The digest covers the object without the digest itself.
static int check_own(cJSON *j, struct err *e)
{
    char is[DIGEST_HEX];
    cJSON *was = cJSON_DetachItemFromObjectCaseSensitive(j, "digest");
    int rc = own_digest(j, is, e);
    if (!rc && (!cJSON_IsString(was) || strcmp(was->valuestring, is)))
        rc = err_set(e, "its digest is another");
    cJSON_Delete(was);
    return rc;
}

static int check_files(const cJSON *j, const char *dir, struct err *e)
{
    const char *const *files = files_of(dir);
    char path[PATH_MAX], is[DIGEST_HEX];
    const cJSON *o;
    const char *was;
    if (json_object(j, "files", JSON_REQUIRED, &o, e) < 0)
        return -1;
    for (int i = 0; i < N_FILES; i++) {
        if (json_string(o, files[i], JSON_REQUIRED, &was, e) < 0 ||
            path_join(path, dir, files[i], e) || digest_file(path, is, e))
            return -1;
        if (strcmp(was, is))
            return err_set(e, "%s has another digest than was written", files[i]);
    }
    return 0;
}

// A missing time is not damage: no result depends on it.
static void read_time(const char *dir, struct train_state *s)
{
    char path[PATH_MAX];
    struct err unused;
    double seconds = 0;
    uint64_t starts = 1;
    cJSON *j =
        path_join(path, dir, "time.json", &unused) ? NULL : json_read_file(path, NULL, &unused);
    if (j) {
        json_double(j, "seconds", JSON_OPTIONAL, &seconds, &unused);
        json_u64(j, "parts", JSON_OPTIONAL, &starts, &unused);
        json_u64(j, "eval_step", JSON_OPTIONAL, &s->looks.step, &unused);
        json_u64(j, "eval_epoch", JSON_OPTIONAL, &s->looks.epoch, &unused);
        json_u64(j, "evals", JSON_OPTIONAL, &s->looks.n, &unused);
        json_u64(j, "evals_passed_over", JSON_OPTIONAL, &s->looks.passed_over, &unused);
        json_double(j, "eval_seconds", JSON_OPTIONAL, &s->looks.seconds, &unused);
    }
    s->seconds = seconds > 0 ? seconds : 0;
    s->starts = starts;
    cJSON_Delete(j);
}

static int take_state(cJSON *j, const char *dir, struct train_state *s, struct err *e)
{
    const cJSON *options;
    if (check_own(j, e) || get_numbers(j, s, e) || check_files(j, dir, e) ||
        json_object(j, "options", JSON_REQUIRED, &options, e) < 0)
        return -1;
    s->options = cJSON_Duplicate(options, true);
    return s->options ? 0 : err_set(e, "out of memory");
}

// 0 all files are there, 1 one is missing, -1 one cannot be read.
static int look_for(const char *dir, struct err *e)
{
    const char *const *files = files_of(dir);
    char path[PATH_MAX];
    for (int i = 0; i <= N_FILES; i++) {
        if (path_join(path, dir, i < N_FILES ? files[i] : "state.json", e))
            return -1;
        if (access(path, R_OK)) {
            int missing = errno == ENOENT;
            err_errno(e, "cannot read '%s'", path);
            return missing ? 1 : -1;
        }
    }
    return 0;
}

// A fault of the machine is not damage.
static int failure(const struct err *e)
{
    return e->machine ? -1 : 1;
}

int train_state_read(const char *dir, struct train_state *s, struct err *e)
{
    char path[PATH_MAX];
    memset(s, 0, sizeof *s);
    int rc = look_for(dir, e);
    if (rc || path_join(path, dir, "state.json", e))
        return rc ? rc : -1;
    cJSON *j = json_read_file(path, NULL, e);
    if (!j)
        return failure(e);
    if (cJSON_IsObject(j) && !cJSON_HasObjectItem(j, "version") &&
        !cJSON_HasObjectItem(j, "digest")) {
        cJSON_Delete(j);
        return err_set(e, "%s: made by version 0.1.0, whose runs this one cannot resume", dir);
    }
    rc = take_state(j, dir, s, e);
    cJSON_Delete(j);
    read_time(dir, s);
    if (rc)
        err_wrap(e, "%s", path);
    if (rc)
        train_state_release(s);
    return rc ? failure(e) : 0;
}

// -- options

// What --extend may change.
static bool is_length(const char *name)
{
    static const char *const names[] = {
        "steps",          "warmup", "epochs",        "epoch-samples",       "schedule", "cooldown",
        "cooldown-power", "lr-end", "patch-dropout", "patch-dropout-until", "spike",    "on-spike"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i]))
            return true;
    return false;
}

// Returns the first option of `a` that `b` lacks or has with another value; NULL if there is none.
static const cJSON *first_change(const cJSON *a, const cJSON *b, bool longer)
{
    const cJSON *x;
    cJSON_ArrayForEach(x, a)
    {
        if (longer && is_length(x->string))
            continue;
        if (!cJSON_Compare(x, cJSON_GetObjectItemCaseSensitive(b, x->string), true))
            return x;
    }
    return NULL;
}

// An option's value as the user gave it. Heap, or NULL.
static char *option_text(const cJSON *x)
{
    struct err ignored;
    return cJSON_IsString(x) ? mem_strdup(x->valuestring, &ignored)
           : x               ? cJSON_PrintUnformatted(x)
                             : mem_strdup("left out", &ignored);
}

static bool is_digest(const cJSON *x)
{
    return x && cJSON_IsString(x) && digest_is_hex(x->valuestring);
}

int train_options_same(const cJSON *was, const cJSON *is, bool longer, struct err *e)
{
    const cJSON *change = first_change(is, was, longer);
    if (!change)
        change = first_change(was, is, longer);
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
        err_set(
            e, "the checkpoint was made with --%s %s, now it is %s%s", change->string, then, now,
            is_length(change->string) ? "; --extend goes on with another length of the run" : "");
    else
        err_set(e, "out of memory");
    free(then);
    free(now);
    return -1;
}
