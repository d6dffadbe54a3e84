// SPDX-License-Identifier: Apache-2.0
#include "model/weights.h"

#include <math.h>
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

// Leading dimensions of 1 are ignored: a class token is [W] here, [1, 1, W] elsewhere.
static bool same_shape(const struct st_tensor *s, const uint64_t *shape, int rank)
{
    int a = 0, b = 0;
    while (a < s->rank && s->shape[a] == 1)
        a++;
    while (b < rank && shape[b] == 1)
        b++;
    if (s->rank - a != rank - b)
        return false;
    for (; b < rank; a++, b++)
        if (s->shape[a] != shape[b])
            return false;
    return true;
}

// Uses a piece for table tensor i.
static int take(struct clip_weights *w, size_t i, const struct clip_file_part *f, bool *used,
                struct err *e)
{
    struct clip_part *p = &w->parts[i];
    const struct st_tensor *s = st_find(&w->files, f->name);
    char want[96], got[200];
    p->rows[p->n] = f->rows;
    if (!*f->name) {
        p->st[p->n++] = NULL;
        return 0;
    }
    if (!s)
        return err_set(e, "tensor '%s' is missing", f->name);
    if (!same_shape(s, f->shape, f->rank)) {
        shape_text(want, sizeof want, f->shape, f->rank);
        shape_text(got, sizeof got, s->shape, s->rank);
        return err_set(e, "tensor '%s' has shape %s, the config asks for %s", f->name, got, want);
    }
    if (s->dtype != ST_F32 && s->dtype != ST_F16 && s->dtype != ST_BF16 && s->dtype != ST_F64)
        return err_set(e, "tensor '%s' is %s, not F32, F16, BF16 or F64", f->name,
                       st_dtype_name(s->dtype));
    used[s - w->files.tensors] = true;
    p->st[p->n++] = s;
    return 0;
}

// `module`: the prefix of every name.
static int match_all(struct clip_weights *w, const char *module, bool *used, struct err *e)
{
    for (size_t i = 0; i < w->table.n; i++) {
        const struct clip_tensor *t = &w->table.t[i];
        struct clip_file_part part[CLIP_PARTS_MAX];
        int n = clip_file_parts(&w->table.cfg, t, w->hf, part);
        if (!n)
            return err_set(e, "files with Hugging Face's names cannot hold '%s'", t->name);
        w->parts[i].transposed = clip_file_transposed(&w->table.cfg, t, w->hf);
        for (int p = 0; p < n; p++) {
            char plain[CLIP_FILE_NAME_MAX];
            memcpy(plain, part[p].name, sizeof plain);
            if (*plain)
                snprintf(part[p].name, sizeof part[p].name, "%s%.*s", module,
                         (int)(sizeof plain - 8), plain);
            if (take(w, i, &part[p], used, e))
                return -1;
        }
    }
    return 0;
}

// Entries of older files that have no effect on the model.
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
    const char *module = "", *const decoder = "text_decoder.";
    w->hf = st_find(&w->files, "vision_model.embeddings.patch_embedding.weight");
    if (st_find(&w->files, "module.visual.class_embedding") ||
        st_find(&w->files, "module.visual.trunk.pos_embed"))
        module = "module.";
    if (!w->hf)
        w->table.cfg.custom_text = st_find(&w->files, *module ? "module.text.token_embedding.weight"
                                                              : "text.token_embedding.weight");
    if (match_all(w, module, used, e))
        return -1;
    for (size_t i = 0; i < w->files.n_tensors; i++) {
        const char *name = w->files.tensors[i].name, *bare = name;
        size_t n = strlen(module);
        if (strncmp(name, module, n) == 0)
            bare += n;
        if (w->table.cfg.unused_decoder && strncmp(bare, decoder, strlen(decoder)) == 0)
            w->left_out++;
        else if (!used[i] && !ignorable(bare))
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

// The first of the four names that exists, malloc'd.
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
    if (p->transposed) {
        read_transposed(p->st[0], first, n, dst);
        return;
    }
    for (int k = 0; k < p->n && n; k++) {
        if (first >= p->rows[k]) {
            first -= p->rows[k];
            continue;
        }
        size_t m = p->rows[k] - first < n ? p->rows[k] - first : n;
        if (p->st[k])
            read_part(p->st[k], first * width, m * width, dst);
        else
            memset(dst, 0, m * width * sizeof *dst);
        dst += m * width;
        first = 0;
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
        if (!s)
            continue;
        uintptr_t from = ((uintptr_t)s->data + page - 1) & ~(page - 1);
        uintptr_t to = ((uintptr_t)s->data + s->n_bytes) & ~(page - 1);
        if (from < to)
            madvise((void *)from, to - from, MADV_DONTNEED);
    }
}

static double scalar_of(const struct clip_weights *w, int i)
{
    float v = 0;
    if (i >= 0)
        clip_weights_get(w, (size_t)i, &v);
    return (double)v;
}

bool clip_weights_logits(const struct clip_weights *w, double *scale, double *bias)
{
    int b = clip_table_find(&w->table, CLIP_TEXT, CLIP_K_LOGIT_BIAS, -1);
    *scale = exp(scalar_of(w, clip_table_find(&w->table, CLIP_TEXT, CLIP_K_LOGIT_SCALE, -1)));
    *bias = scalar_of(w, b);
    return b >= 0;
}
