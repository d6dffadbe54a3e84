// SPDX-License-Identifier: Apache-2.0
#include "runs/folder.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "base/mem.h"
#include "formats/npy.h"
#include "formats/sidecar.h"

// kmeans-cluster names the centroids first, then the embeddings; a file that was labelled with
// centroids of unknown origin has the embeddings only.
static void take_inputs(struct train_folder_file *to, const struct sidecar *s)
{
    if (s->n_inputs == 2)
        memcpy(to->with, s->inputs[0].hex, sizeof to->with);
    if (s->n_inputs == 1 || s->n_inputs == 2)
        memcpy(to->over, s->inputs[s->n_inputs - 1].hex, sizeof to->over);
}

static int read_file(struct train_folder_file *to, const char *dir, const char *name, bool labels,
                     struct err *e)
{
    char path[PATH_MAX];
    struct npy a;
    struct sidecar s = {0};
    if (path_join(path, dir, name, e) || npy_open(&a, path, e))
        return -1;
    to->rows = a.h.rows;
    npy_close(&a);
    if (sidecar_open(path, to->rows, &s, e) < 0)
        return -1;
    snprintf(to->of, sizeof to->of, "%s", s.of ? s.of : "");
    memcpy(to->keys, s.keys, sizeof to->keys);
    memcpy(to->data, s.data, sizeof to->data);
    memcpy(to->model, s.model, sizeof to->model);
    to->scale = labels ? 0 : s.scale;
    if (labels)
        take_inputs(to, &s);
    sidecar_release(&s);
    to->name = mem_strdup(name, e);
    return to->name ? 0 : -1;
}

static int by_name(const void *a, const void *b)
{
    const struct train_folder_file *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int read_all(struct train_folder *f, DIR *d, bool labels, struct err *e)
{
    for (struct dirent *entry; (entry = readdir(d));) {
        void *p = f->files;
        size_t n = strlen(entry->d_name);
        if (entry->d_name[0] == '.' || n < 5 || strcmp(entry->d_name + n - 4, ".npy"))
            continue;
        if (mem_grow(&p, &f->cap, f->n + 1, sizeof *f->files, e))
            return -1;
        f->files = p;
        f->files[f->n] = (struct train_folder_file){0};
        if (read_file(&f->files[f->n], f->dir, entry->d_name, labels, e))
            return -1;
        f->n++;
    }
    return f->n ? 0 : err_set(e, "%s: no .npy file in it", f->dir);
}

int train_folder_read(struct train_folder *f, const char *dir, bool labels, struct err *e)
{
    *f = (struct train_folder){.dir = dir};
    DIR *d = opendir(dir);
    if (!d)
        return err_errno(e, "cannot open '%s'", dir);
    int rc = read_all(f, d, labels, e);
    closedir(d);
    if (rc)
        train_folder_release(f);
    else
        qsort(f->files, f->n, sizeof *f->files, by_name);
    return rc;
}

void train_folder_release(struct train_folder *f)
{
    for (size_t i = 0; i < f->n; i++)
        free(f->files[i].name);
    free(f->files);
    *f = (struct train_folder){0};
}

void train_folder_keep_common(struct train_folder *f)
{
    size_t kept = 0;
    for (size_t i = 0; i < f->n; i++)
        if (f->files[i].common)
            f->files[kept++] = f->files[i];
        else
            free(f->files[i].name);
    f->n = kept;
}

const struct train_folder_file *train_folder_find(const struct train_folder *f, const char *name)
{
    struct train_folder_file key = {.name = (char *)(uintptr_t)name};
    return f->n ? bsearch(&key, f->files, f->n, sizeof key, by_name) : NULL;
}

int train_folder_digest(const struct train_folder *f, char hex[DIGEST_HEX], struct err *e)
{
    struct digest *d = digest_new(e);
    if (!d)
        return -1;
    for (size_t i = 0; i < f->n; i++) {
        char rows[32];
        snprintf(rows, sizeof rows, "%llu", (unsigned long long)f->files[i].rows);
        digest_key(d, f->files[i].name);
        digest_key(d, rows);
        digest_key(d, f->files[i].data);
        digest_key(d, f->files[i].keys);
    }
    digest_hex(d, hex);
    digest_free(d);
    return 0;
}
