// SPDX-License-Identifier: Apache-2.0
#include "model/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "model/names.h"
#include "base/mem.h"
#include "base/path.h"

static void shape_text(char *out, size_t n, const uint64_t *shape, int rank)
{
    size_t at = (size_t)snprintf(out, n, "[");
    for (int i = 0; i < rank && at < n; i++)
        at += (size_t)snprintf(out + at, n - at, "%s%llu", i ? ", " : "",
                               (unsigned long long)shape[i]);
    if (at < n)
        snprintf(out + at, n - at, "]");
}

static bool same_shape(const struct st_tensor *s, const uint64_t *shape, int rank)
{
    if (rank == 0 && s->rank == 1 && s->shape[0] == 1) // logit_scale as [1]
        return true;
    if (s->rank != rank)
        return false;
    for (int i = 0; i < rank; i++)
        if (s->shape[i] != shape[i])
            return false;
    return true;
}

// Takes the tensor `name` as one piece of table tensor i.
static int take(struct clip_weights *w, size_t i, const char *name, const uint64_t *shape,
                bool *used, struct err *e)
{
    const struct st_tensor *s = st_find(&w->files, name);
    char want[96], got[200];
    if (!s)
        return err_set(e, "tensor '%s' is missing", name);
    if (!same_shape(s, shape, w->table.t[i].rank)) {
        shape_text(want, sizeof want, shape, w->table.t[i].rank);
        shape_text(got, sizeof got, s->shape, s->rank);
        return err_set(e, "tensor '%s' has shape %s, the config asks for %s", name, got, want);
    }
    if (s->dtype != ST_F32 && s->dtype != ST_F16 && s->dtype != ST_BF16 && s->dtype != ST_F64)
        return err_set(e, "tensor '%s' is %s, not F32, F16, BF16 or F64", name,
                       st_dtype_name(s->dtype));
    used[s - w->files.tensors] = true;
    w->parts[i].st[w->parts[i].n++] = s;
    return 0;
}

static int match_hf(struct clip_weights *w, bool *used, struct err *e)
{
    char name[CLIP_FILE_NAME_MAX];
    for (size_t i = 0; i < w->table.n; i++) {
        const struct clip_tensor *t = &w->table.t[i];
        uint64_t shape[4];
        int n = clip_hf_parts(t);
        if (!n)
            return err_set(e, "CLIPModel files cannot hold '%s'", t->name);
        clip_hf_shape(t, shape);
        w->parts[i].transposed = clip_hf_transposed(t);
        for (int p = 0; p < n; p++) {
            clip_hf_name(t, p, name);
            if (take(w, i, name, shape, used, e))
                return -1;
        }
    }
    return 0;
}

static int match_open_clip(struct clip_weights *w, const char *module, bool *used, struct err *e)
{
    char plain[CLIP_FILE_NAME_MAX], name[CLIP_FILE_NAME_MAX + 8];
    snprintf(name, sizeof name, "%stext.token_embedding.weight", module);
    w->table.cfg.custom_text = st_find(&w->files, name);
    for (size_t i = 0; i < w->table.n; i++) {
        const struct clip_tensor *t = &w->table.t[i];
        uint64_t shape[4];
        for (int k = 0; k < t->rank; k++)
            shape[k] = t->shape[k];
        clip_open_clip_name(t, w->table.cfg.custom_text, plain);
        snprintf(name, sizeof name, "%s%s", module, plain);
        if (take(w, i, name, shape, used, e))
            return -1;
    }
    return 0;
}

// Entries without effect on the model that old files carry.
static bool ignorable(const char *name)
{
    static const char *const names[] = {
        "input_resolution",
        "context_length",
        "vocab_size",
        "text_model.embeddings.position_ids",
        "vision_model.embeddings.position_ids",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static int match(struct clip_weights *w, bool *used, struct err *e)
{
    const char *module = "";
    w->hf = st_find(&w->files, "vision_model.embeddings.class_embedding");
    if (st_find(&w->files, "module.visual.class_embedding"))
        module = "module.";
    if (w->hf ? match_hf(w, used, e) : match_open_clip(w, module, used, e))
        return -1;
    for (size_t i = 0; i < w->files.n_tensors; i++) {
        const char *name = w->files.tensors[i].name;
        size_t n = strlen(module);
        if (!used[i] && !ignorable(strncmp(name, module, n) ? name : name + n))
            return err_set(e, "tensor '%.200s' is not part of this model", name);
    }
    return 0;
}

int clip_weights_open_file(struct clip_weights *w, const struct clip_config *c, const char *path,
                           struct err *e)
{
    bool *used = NULL;
    memset(w, 0, sizeof *w);
    if (clip_table_init(&w->table, c, e))
        return -1;
    int rc = st_open(&w->files, path, e);
    if (!rc) {
        w->parts = mem_alloc(w->table.n, sizeof *w->parts, e);
        used = mem_alloc(w->files.n_tensors, sizeof *used, e);
        rc = w->parts && used ? 0 : -1;
        if (!rc && match(w, used, e))
            rc = err_wrap(e, "%s", path);
    }
    free(used);
    if (rc)
        clip_weights_close(w);
    return rc;
}

// The first of the four names that is there, malloc'd.
static char *find_file(const char *folder, struct err *e)
{
    static const char *const names[] = {"open_clip_model.safetensors",
                                        "open_clip_model.safetensors.index.json",
                                        "model.safetensors", "model.safetensors.index.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = path_new(folder, names[i], e);
        if (!path || access(path, F_OK) == 0)
            return path;
        free(path);
    }
    err_set(e,
            "%s: no open_clip_model.safetensors or model.safetensors; PyTorch's .bin and .pt are "
            "not read: safetensors.torch.save_file writes the same weights as safetensors",
            folder);
    return NULL;
}

int clip_weights_open(struct clip_weights *w, const char *folder, struct err *e)
{
    struct clip_config c;
    memset(w, 0, sizeof *w);
    if (clip_config_read_folder(&c, folder, e))
        return -1;
    char *path = find_file(folder, e);
    if (!path)
        return -1;
    int rc = clip_weights_open_file(w, &c, path, e);
    free(path);
    return rc;
}

void clip_weights_close(struct clip_weights *w)
{
    free(w->parts);
    if (w->table.t)
        clip_table_release(&w->table);
    st_close(&w->files);
    memset(w, 0, sizeof *w);
}

// Number types and shapes were checked on opening, so this cannot fail.
static void read_part(const struct st_tensor *s, size_t first, size_t n, float *out)
{
    struct err e;
    if (st_read_f32(s, first, n, out, &e))
        memset(out, 0, n * sizeof *out);
}

// Columns [first, first + n) of s [e, w] as rows of dst [n, e].
static void read_transposed(const struct st_tensor *s, size_t first, size_t n, float *dst)
{
    enum { STEP = 512 };
    float buf[STEP];
    size_t rows = (size_t)s->shape[0], width = (size_t)s->shape[1];
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < n; c += STEP) {
            size_t m = n - c < STEP ? n - c : STEP;
            read_part(s, r * width + first + c, m, buf);
            for (size_t k = 0; k < m; k++)
                dst[(c + k) * rows + r] = buf[k];
        }
}

void clip_weights_rows(const struct clip_weights *w, size_t i, size_t first, size_t n, float *dst)
{
    const struct clip_part *p = &w->parts[i];
    const struct clip_tensor *t = &w->table.t[i];
    size_t rows = t->rank ? t->shape[0] : 1, width = t->numel / rows;
    size_t each = rows / (size_t)p->n; // rows of one part
    if (p->transposed) {
        read_transposed(p->st[0], first, n, dst);
        return;
    }
    while (n) {
        size_t at = first % each, m = each - at < n ? each - at : n;
        read_part(p->st[first / each], at * width, m * width, dst);
        dst += m * width;
        first += m;
        n -= m;
    }
}

void clip_weights_get(const struct clip_weights *w, size_t i, float *dst)
{
    const struct clip_tensor *t = &w->table.t[i];
    clip_weights_rows(w, i, 0, t->rank ? t->shape[0] : 1, dst);
}

const void *clip_weights_raw(const struct clip_weights *w, size_t i, enum st_dtype *dtype)
{
    const struct clip_part *p = &w->parts[i];
    if (p->n != 1 || p->transposed || p->st[0]->dtype == ST_F64)
        return NULL;
    *dtype = p->st[0]->dtype;
    return p->st[0]->data;
}

void clip_weights_drop(const struct clip_weights *w, size_t i)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (int k = 0; k < w->parts[i].n; k++) {
        const struct st_tensor *s = w->parts[i].st[k];
        uintptr_t from = ((uintptr_t)s->data + page - 1) & ~(page - 1);
        uintptr_t to = ((uintptr_t)s->data + s->n_bytes) & ~(page - 1);
        if (from < to)
            madvise((void *)from, to - from, MADV_DONTNEED);
    }
}
