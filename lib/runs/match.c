// SPDX-License-Identifier: Apache-2.0
#include "runs/match.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/npy.h"
#include "base/path.h"
#include "formats/sidecar.h"
#include "text/tokenizer-digest.h"
#include "runs/folder.h"
#include "runs/run.h"

enum { IMAGE, TEXT, LABELS, N_FOLDERS };
static const char *const option[N_FOLDERS] = {"--teacher-image", "--teacher-text", "--labels"};

struct match {
    struct train_folder f[N_FOLDERS]; // n 0: not used
    const struct train_inputs *in;
    char model[DIGEST_HEX]; // of the teacher, by the first file that tells
    const char *model_dir;  // where that file is
    const char *model_file;
};

static int file_error(struct err *e, const struct match *m, int k, const char *name,
                      const char *what)
{
    return err_set(e, "%s: %s/%s %s", option[k], m->f[k].dir, name, what);
}

static int same_model(struct match *m, const char *what, const char *dir, const char *name,
                      const char *model, struct err *e)
{
    if (!*model)
        return 0;
    if (!*m->model) {
        memcpy(m->model, model, sizeof m->model);
        m->model_dir = dir;
        m->model_file = name;
        return 0;
    }
    if (!strcmp(m->model, model))
        return 0;
    return err_set(e, "%s: %s%s%s comes from another model than %s/%s (model digests %.8s, %.8s)",
                   what, dir, *dir ? "/" : "", name, m->model_dir, m->model_file, model, m->model);
}

static int check_kind(struct match *m, int k, const struct train_folder_file *f, struct err *e)
{
    static const char *const wanted[] = {"image", "text"};
    if (k == LABELS || !*f->of || !strcmp(f->of, wanted[k]))
        return 0;
    return file_error(e, m, k, f->name,
                      k == IMAGE ? "holds text embeddings; are --teacher-image and --teacher-text "
                                   "exchanged?"
                                 : "holds image embeddings; are --teacher-image and "
                                   "--teacher-text exchanged?");
}

static int check_pair(const struct match *m, int a, int b, struct err *e)
{
    for (size_t i = 0; i < m->f[a].n; i++) {
        const struct train_folder_file *x = &m->f[a].files[i];
        const struct train_folder_file *y = train_folder_find(&m->f[b], x->name);
        if (!y)
            continue;
        if (x->rows != y->rows)
            return err_set(e, "%s/%s has %llu rows, %s/%s has %llu: one of them is not whole",
                           m->f[a].dir, x->name, (unsigned long long)x->rows, m->f[b].dir, y->name,
                           (unsigned long long)y->rows);
        if (*x->keys && *y->keys && strcmp(x->keys, y->keys))
            return err_set(e, "%s/%s and %s/%s are not of the same samples (key digests differ)",
                           m->f[a].dir, x->name, m->f[b].dir, y->name);
    }
    return 0;
}

// Refuses images and texts of one shard with the same rows: one folder was given twice.
static int check_apart(const struct match *m, struct err *e)
{
    for (size_t i = 0; i < m->f[IMAGE].n; i++) {
        const struct train_folder_file *x = &m->f[IMAGE].files[i];
        const struct train_folder_file *y = train_folder_find(&m->f[TEXT], x->name);
        if (y && x->rows && *x->data && !strcmp(x->data, y->data))
            return err_set(e,
                           "%s/%s and %s/%s have the same rows: --teacher-image and "
                           "--teacher-text need the two outputs of teacher-embed",
                           m->f[IMAGE].dir, x->name, m->f[TEXT].dir, y->name);
    }
    return 0;
}

static int check_labels(const struct match *m, const char *centroids, struct err *e)
{
    char why[400];
    for (size_t i = 0; i < m->f[LABELS].n; i++) {
        const struct train_folder_file *l = &m->f[LABELS].files[i];
        const struct train_folder_file *x = train_folder_find(&m->f[IMAGE], l->name);
        snprintf(why, sizeof why,
                 "was not made with the centroids of --centroids (digests %.8s, %.8s); "
                 "kmeans-cluster --assign makes labels for them",
                 l->with, centroids);
        if (*l->with && *centroids && strcmp(l->with, centroids))
            return file_error(e, m, LABELS, l->name, why);
        snprintf(why, sizeof why,
                 "was not made over the embeddings of --teacher-image (digests %.8s, %.8s); "
                 "kmeans-cluster --assign makes labels for them",
                 l->over, x ? x->data : "");
        if (x && !m->in->views && *l->over && *x->data && strcmp(l->over, x->data))
            return file_error(e, m, LABELS, l->name, why);
    }
    return 0;
}

// Reads the digest of the centroids' rows, and their model.
static int read_centroids(struct match *m, char hex[DIGEST_HEX], struct err *e)
{
    struct npy a;
    struct sidecar s = {0};
    const char *path = m->in->centroids;
    if (npy_open(&a, path, e))
        return -1;
    digest_bytes(a.data, a.h.rows * a.h.row_bytes, hex);
    uint64_t rows = a.h.rows;
    npy_close(&a);
    if (sidecar_open(path, rows, &s, e) < 0)
        return -1;
    int rc = same_model(m, "--centroids", "", path, s.model, e);
    if (!rc && *s.data && strcmp(s.data, hex))
        rc = err_set(
            e, "%s: its rows are not those that its sidecar tells of: one of them is stale", path);
    sidecar_release(&s);
    return rc;
}

static int check_all(struct match *m, char centroids[DIGEST_HEX], struct err *e)
{
    for (int k = 0; k < N_FOLDERS; k++)
        for (size_t i = 0; i < m->f[k].n; i++) {
            const struct train_folder_file *f = &m->f[k].files[i];
            if (check_kind(m, k, f, e) ||
                same_model(m, option[k], m->f[k].dir, f->name, f->model, e))
                return -1;
        }
    if ((m->in->centroids && read_centroids(m, centroids, e)) || check_pair(m, IMAGE, TEXT, e) ||
        check_pair(m, IMAGE, LABELS, e) || check_pair(m, TEXT, LABELS, e) || check_apart(m, e))
        return -1;
    return check_labels(m, centroids, e);
}

static size_t stem(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && !strcmp(name + n - 4, ".npy") ? n - 4 : path_stem(name);
}

// Compares shards and files by the part of the name before .tar and the like, and before .npy.
static int by_stem(const void *a, const void *b)
{
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    size_t n = stem(x), m = stem(y);
    int order = memcmp(x, y, n < m ? n : m);
    return order ? order : (n > m) - (n < m);
}

// Names of the files of listed shards, sorted.
static int list_names(const char *path, struct lines *l, struct err *e)
{
    if (lines_read(l, path, e))
        return -1;
    for (size_t i = 0; i < l->n; i++)
        l->line[i] = path_base(l->line[i]);
    qsort(l->line, l->n, sizeof *l->line, by_stem);
    return 0;
}

static bool is_listed(const struct lines *l, const char *file)
{
    return l->n && bsearch(&file, l->line, l->n, sizeof *l->line, by_stem);
}

static int by_line(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_known(const struct lines *known, const char *name)
{
    return !known->n || bsearch(&name, known->line, known->n, sizeof *known->line, by_line);
}

// Only files of the run's shards that every folder has can be trained on, and a resumed run has
// begun with those that it knows; other files in the folders are ignored.
static void drop_others(struct match *m, const struct lines *list, const struct lines *known)
{
    for (int k = 0; k < N_FOLDERS; k++)
        for (size_t i = 0; i < m->f[k].n; i++) {
            struct train_folder_file *f = &m->f[k].files[i];
            f->common = is_known(known, f->name) && (!m->in->shards || is_listed(list, f->name));
            for (int other = 0; other < N_FOLDERS; other++)
                f->common &= !m->f[other].n || train_folder_find(&m->f[other], f->name);
        }
    for (int k = 0; k < N_FOLDERS; k++)
        train_folder_keep_common(&m->f[k]);
}

static int check_gone(const struct match *m, const struct lines *known, struct err *e)
{
    for (int k = 0; k < N_FOLDERS; k++)
        for (size_t i = 0; m->f[k].dir && i < known->n; i++)
            if (!train_folder_find(&m->f[k], known->line[i]))
                return err_set(e, "%s: '%s/%s' is gone, which the run began with", option[k],
                               m->f[k].dir, known->line[i]);
    return 0;
}

// The names of the remaining files, which are the same in every folder.
static char *name_files(const struct match *m, struct err *e)
{
    const struct train_folder *f = &m->f[IMAGE];
    size_t n = 1, at = 0;
    for (int k = 0; k < N_FOLDERS; k++)
        if (m->f[k].n)
            f = &m->f[k];
    for (size_t i = 0; i < f->n; i++)
        n += strlen(f->files[i].name) + 1;
    char *text = mem_alloc(n, 1, e);
    for (size_t i = 0; text && i < f->n; i++)
        at += (size_t)snprintf(text + at, n - at, "%s\n", f->files[i].name);
    return text;
}

// The first file that tells.
static double scale_of(const struct match *m)
{
    for (int k = IMAGE; k <= TEXT; k++)
        for (size_t i = 0; i < m->f[k].n; i++)
            if (m->f[k].files[i].scale > 0)
                return m->f[k].files[i].scale;
    return 0;
}

int train_match(const struct train_inputs *in, const struct lines *known, struct train_identity *id,
                char **names, struct err *e)
{
    const char *const dirs[N_FOLDERS] = {in->image, in->text, in->labels};
    char *const hex[N_FOLDERS] = {id->image, id->text, id->labels};
    struct match m = {.in = in};
    int rc = 0;
    struct lines list = {0};
    *id = (struct train_identity){0};
    if (in->shards)
        rc = list_names(in->shards, &list, e);
    for (int k = 0; k < N_FOLDERS && !rc; k++)
        if (dirs[k])
            rc = train_folder_read(&m.f[k], dirs[k], k == LABELS, e);
    rc = rc || check_gone(&m, known, e);
    if (!rc)
        drop_others(&m, &list, known);
    lines_release(&list);
    for (int k = 0; k < N_FOLDERS && !rc; k++) {
        if (!dirs[k])
            continue;
        id->n = m.f[k].n;
        rc = train_folder_digest(&m.f[k], hex[k], e);
    }
    rc = rc || check_all(&m, id->centroids, e) ||
         (in->tokenizer && tokenizer_digest(in->tokenizer, id->tokenizer, e));
    *names = rc ? NULL : name_files(&m, e);
    id->scale[0] = scale_of(&m);
    memcpy(id->model, m.model, sizeof id->model);
    for (int k = 0; k < N_FOLDERS; k++)
        train_folder_release(&m.f[k]);
    return *names ? 0 : -1;
}

// One more folder pair; what it is goes into the digest of all others.
static int match_one(const struct train_inputs *in, const struct lines *known, const char *names,
                     struct digest *sum, double *scale, struct err *e)
{
    struct train_identity id;
    char *found;
    if (train_match(in, known, &id, &found, e))
        return -1;
    int rc = strcmp(found, names)
                 ? err_set(e, "'%s' does not have files of the same shards as the first folder",
                           in->image ? in->image : in->text)
                 : 0;
    free(found);
    digest_key(sum, id.image);
    digest_key(sum, id.text);
    *scale = id.scale[0];
    return rc;
}

// A text folder without {view} was matched with view 0.
static void others_of(const struct teacher_dirs dirs[2], size_t m, size_t v,
                      const struct train_inputs *first, struct train_inputs *in)
{
    *in = (struct train_inputs){.image = first->image ? teacher_dir(&dirs[0], m, v) : NULL,
                                .text = first->text ? teacher_dir(&dirs[1], m, v) : NULL,
                                .shards = first->shards};
}

int teacher_dirs_match(const struct teacher_dirs dirs[2], const struct train_inputs *in,
                       const struct lines *known, const char *names, struct train_identity *id,
                       struct err *e)
{
    const struct teacher_dirs *any = dirs[0].teachers ? &dirs[0] : &dirs[1];
    struct train_inputs other;
    struct digest *sum;
    double scale = 0;
    int rc = 0;
    if (any->teachers * any->views <= 1 || !(in->image || in->text))
        return 0;
    if (!(sum = digest_new(e)))
        return -1;
    for (size_t i = 1; i < any->teachers * any->views && !rc; i++) {
        others_of(dirs, i / any->views, i % any->views, in, &other);
        rc = match_one(&other, known, names, sum, &scale, e);
        if (!(i % any->views))
            id->scale[i / any->views] = scale;
    }
    digest_hex(sum, id->others);
    digest_free(sum);
    return rc;
}

// -- the sets of a mixture

int train_match_set(const struct train_plan *p, const struct lines *known,
                    struct train_identity *id, char **names, struct err *e)
{
    struct train_inputs in;
    train_plan_inputs(p, &in);
    return train_match(&in, known, id, names, e) ||
                   teacher_dirs_match(p->dirs, &in, known, *names, id, e)
               ? -1
               : 0;
}

// Two sets of a mixture are of one teacher, as far as their sidecars tell.
static int same_teacher(const struct train_identity *a, const struct train_identity *b,
                        const char *name, const char *first, struct err *e)
{
    if (*a->model && *b->model && strcmp(a->model, b->model) != 0)
        return err_set(e,
                       "--data '%s': its rows are of another teacher than those of '%s' "
                       "(model digests %.8s, %.8s)",
                       name, first, b->model, a->model);
    return memcmp(a->scale, b->scale, sizeof a->scale)
               ? err_set(e,
                         "--data '%s': its teacher's logits have another scale than those of '%s'",
                         name, first)
               : 0;
}

// All sets of a mixture: what they are together, and one kind of teacher.
int train_match_sets(struct train_run *r, struct train_identity *id, struct err *e)
{
    const struct train_plan *p = r->plan;
    const struct lines none = {0};
    struct train_identity one;
    struct digest *sum[4] = {digest_new(e), digest_new(e), digest_new(e), digest_new(e)};
    char *const to[4] = {id->image, id->text, id->labels, id->others};
    int rc = sum[0] && sum[1] && sum[2] && sum[3] ? 0 : -1;
    for (size_t i = 0; i < p->mix.n && !rc; i++) {
        if ((rc = train_match_set(train_plan_of(p, i), &none, &one, &r->shards_of[i], e)))
            err_wrap(e, "--data '%s'", p->mix.set[i].name);
        rc = rc || !i ? rc : same_teacher(id, &one, p->mix.set[i].name, p->mix.set[0].name, e);
        const char *const from[4] = {one.image, one.text, one.labels, one.others};
        for (int k = 0; k < 4 && !rc; k++)
            digest_key(sum[k], from[k]);
        uint64_t n = rc || !i ? 0 : id->n;
        if (!rc && !i)
            *id = one;
        if (!rc)
            id->n = n + one.n;
    }
    for (int k = 0; k < 4; k++) {
        if (sum[k] && !rc)
            digest_hex(sum[k], to[k]);
        if (sum[k])
            digest_free(sum[k]);
    }
    return rc;
}
