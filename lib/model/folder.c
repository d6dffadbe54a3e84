// SPDX-License-Identifier: Apache-2.0
#include "model/folder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/names.h"
#include "model/weights.h"
#include "base/half.h"
#include "system/io.h"
#include "formats/json.h"
#include "base/mem.h"
#include "base/path.h"
#include "text/tokenizer-write.h"
#include "text/tokenizer.h"

int model_get_weights(void *user, size_t i, float *dst, struct err *e)
{
    const struct clip_weights *w = user;
    (void)e;
    clip_weights_get(w, i, dst);
    clip_weights_drop(w, i);
    return 0;
}

int model_get_flat(void *user, size_t i, float *dst, struct err *e)
{
    const struct model_flat *f = user;
    const struct clip_tensor *t = &f->table->t[i];
    (void)e;
    memcpy(dst, f->flat + t->offset, t->numel * sizeof *dst);
    return 0;
}

// One tensor of the file that is written.
struct folder_piece {
    size_t tensor; // of the table
    size_t row;    // of it, the first
    struct clip_file_part part;
};

struct folder_job {
    const struct model_source *src;
    enum model_layout layout;
    struct folder_piece *pieces;
    struct st_spec *specs;
    size_t n;
    float *values;    // one tensor
    uint16_t *halves; // a stretch of it
};

enum { STRETCH = 1 << 16 };

static void add_piece(struct folder_job *j, size_t i, size_t row, const struct clip_file_part *part)
{
    struct folder_piece *p = &j->pieces[j->n];
    struct st_spec *s = &j->specs[j->n++];
    *p = (struct folder_piece){.tensor = i, .row = row, .part = *part};
    *s = (struct st_spec){
        .name = p->part.name, .dtype = j->src->dtype, .rank = part->rank, .user = p};
    memcpy(s->shape, part->shape, sizeof part->shape);
}

static int plan(struct folder_job *j, struct err *e)
{
    const struct clip_table *t = j->src->table;
    size_t largest = 1;
    for (size_t i = 0; i < t->n; i++)
        largest = t->t[i].numel > largest ? t->t[i].numel : largest;
    j->pieces = mem_alloc(3 * t->n, sizeof *j->pieces, e);
    j->specs = mem_alloc(3 * t->n, sizeof *j->specs, e);
    j->values = mem_alloc(largest, sizeof *j->values, e);
    j->halves = mem_alloc(STRETCH, sizeof *j->halves, e);
    if (!j->pieces || !j->specs || !j->values || !j->halves)
        return -1;
    for (size_t i = 0; i < t->n; i++) {
        struct clip_file_part part[CLIP_PARTS_MAX];
        int n = clip_file_parts(&t->cfg, &t->t[i], j->layout == MODEL_HF, part);
        size_t row = 0;
        for (int p = 0; p < n; row += part[p++].rows)
            if (*part[p].name)
                add_piece(j, i, row, &part[p]);
    }
    return 0;
}

static int put(struct folder_job *j, struct st_writer *w, const float *v, size_t n, struct err *e)
{
    if (j->src->dtype == ST_F32)
        return st_writer_put(w, v, n * sizeof *v, e);
    for (size_t i = 0; i < n; i += STRETCH) {
        size_t m = n - i < STRETCH ? n - i : STRETCH;
        uint16_t top = j->src->dtype == ST_F16 ? 0x7c00 : 0x7f80; // the exponent of infinity
        if (j->src->dtype == ST_F16)
            half_from_f32(v + i, j->halves, m);
        else
            bf16_from_f32(v + i, j->halves, m);
        for (size_t k = 0; k < m; k++)
            if ((j->halves[k] & top) == top)
                return err_set(e, "the value %g does not fit %s", (double)v[i + k],
                               st_dtype_name(j->src->dtype));
        if (st_writer_put(w, j->halves, m * sizeof *j->halves, e))
            return -1;
    }
    return 0;
}

static int put_transposed(struct folder_job *j, struct st_writer *w, const struct clip_tensor *t,
                          struct err *e)
{
    size_t rows = t->shape[0], cols = t->shape[1];
    float *turned = mem_alloc(t->numel, sizeof *turned, e);
    if (!turned)
        return -1;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            turned[c * rows + r] = j->values[r * cols + c];
    int rc = put(j, w, turned, t->numel, e);
    free(turned);
    return rc;
}

static int put_piece(struct folder_job *j, struct st_writer *w, const struct folder_piece *p,
                     struct err *e)
{
    const struct clip_table *table = j->src->table;
    const struct clip_tensor *t = &table->t[p->tensor];
    size_t width = t->numel / (t->rank ? t->shape[0] : 1);
    if (j->src->get(j->src->user, p->tensor, j->values, e))
        return err_wrap(e, "tensor '%s'", t->name);
    int rc = clip_file_transposed(&table->cfg, t, j->layout == MODEL_HF)
                 ? put_transposed(j, w, t, e)
                 : put(j, w, j->values + p->row * width, p->part.rows * width, e);
    return rc ? err_wrap(e, "tensor '%s'", t->name) : 0;
}

static int write_tensors(struct folder_job *j, const char *path, struct err *e)
{
    static const struct st_meta meta = {"format", "pt"}; // transformers asks for it
    struct out o;
    struct st_writer w;
    if (out_open(&o, path, e))
        return -1;
    int rc = st_writer_begin(&w, &o, j->specs, j->n, &meta, 1, e);
    for (size_t i = 0; i < j->n && !rc; i++)
        rc = put_piece(j, &w, j->specs[i].user, e);
    rc = rc || st_writer_end(&w, e) || out_commit(&o, e);
    out_abort(&o);
    return rc ? -1 : 0;
}

static int write_weights(const char *folder, enum model_layout layout, const struct model_source *s,
                         struct err *e)
{
    struct folder_job j = {.src = s, .layout = layout};
    char *path = path_new(
        folder, layout == MODEL_HF ? "model.safetensors" : "open_clip_model.safetensors", e);
    int rc = path && !plan(&j, e) ? write_tensors(&j, path, e) : -1;
    free(path);
    free(j.pieces);
    free(j.specs);
    free(j.values);
    free(j.halves);
    return rc;
}

static int write_json(const char *folder, const char *name, const cJSON *j, struct err *e)
{
    char *path = path_new(folder, name, e);
    int rc = path ? json_write_file(path, j, e) : -1;
    free(path);
    return rc;
}

static int make_folder(const char *folder, struct err *e)
{
    struct stat st;
    if (mkdir(folder, 0777) == 0)
        return 0;
    if (errno != EEXIST)
        return err_errno(e, "%s", folder);
    if (stat(folder, &st))
        return err_errno(e, "%s", folder);
    return S_ISDIR(st.st_mode) ? 0 : err_set(e, "%s is not a folder", folder);
}

// The files that both layouts have, in an order in which a folder with a config is complete.
static int write_all(const char *folder, enum model_layout layout, const struct model_source *s,
                     struct err *e)
{
    if (make_folder(folder, e) || write_weights(folder, layout, s, e))
        return -1;
    return s->tokenizer && layout == MODEL_OPEN_CLIP
               ? model_folder_copy_tokenizer(folder, s->tokenizer, e)
               : 0;
}

static int write_open_clip(const char *folder, const struct model_source *s, struct err *e)
{
    cJSON *j = clip_config_to_open_clip(&s->table->cfg, e);
    if (!j)
        return -1;
    int rc = write_all(folder, MODEL_OPEN_CLIP, s, e) ||
             write_json(folder, "open_clip_config.json", j, e);
    cJSON_Delete(j);
    return rc ? -1 : 0;
}

// CLIPModel reads a text at the first token with the id of its end, so the config must name the
// tokenizer's own id. That is not the table's last row if the table has more rows than the
// tokenizer has ids.
static int set_ends(struct clip_config *c, int *start, const struct vocab *v, struct err *e)
{
    int32_t end = vocab_special(v, VOCAB_EOT);
    *start = vocab_special(v, VOCAB_SOT);
    if (*start < 0 || end < 0)
        return err_set(e, "the tokenizer has no tokens for start and end of a text");
    if (end >= c->vocab)
        return err_set(e, "the tokenizer's end-of-text id is %d, the model has %d tokens", (int)end,
                       c->vocab);
    if (c->eos_id < 0)
        c->eos_id = end;
    return 0;
}

static int write_hf_files(const char *folder, const struct model_source *s, const struct vocab *v,
                          struct err *e)
{
    struct clip_config c = s->table->cfg;
    int start = -1;
    if (v && set_ends(&c, &start, v, e))
        return -1;
    cJSON *config = clip_config_to_hf(&c, start, e);
    cJSON *pre = config ? clip_config_to_hf_preprocessor(&c, e) : NULL;
    int rc = pre && !write_all(folder, MODEL_HF, s, e) &&
                     !(v && vocab_write_hf(v, folder, c.context, e)) &&
                     !write_json(folder, "preprocessor_config.json", pre, e) &&
                     !write_json(folder, "config.json", config, e)
                 ? 0
                 : -1;
    cJSON_Delete(config);
    cJSON_Delete(pre);
    return rc;
}

static int write_hf(const char *folder, const struct model_source *s, struct err *e)
{
    struct vocab v;
    if (!s->tokenizer)
        return write_hf_files(folder, s, NULL, e);
    int other = tokenizer_is_other(s->tokenizer, e);
    if (other < 0)
        return -1;
    if (other)
        return model_folder_copy_tokenizer(folder, s->tokenizer, e) ||
                       write_hf_files(folder, s, NULL, e)
                   ? -1
                   : 0;
    if (vocab_read(&v, s->tokenizer, e))
        return -1;
    int rc = write_hf_files(folder, s, &v, e);
    vocab_release(&v);
    return rc;
}

int model_folder_write(const char *folder, enum model_layout layout, const struct model_source *s,
                       struct err *e)
{
    if (s->dtype != ST_F32 && s->dtype != ST_F16 && s->dtype != ST_BF16)
        return err_set(e, "models are written as F32, F16 or BF16, not %s",
                       st_dtype_name(s->dtype));
    return layout == MODEL_HF ? write_hf(folder, s, e) : write_open_clip(folder, s, e);
}

int model_layouts_of(const struct clip_config *c, bool hf, struct model_layouts *l, struct err *e)
{
    struct err why;
    bool fits = !clip_config_fits_hf(c, e);
    l->open_clip = !clip_config_fits_open_clip(c, &why);
    l->hf = hf || !l->open_clip || (fits && c->hf != CLIP_HF_NONE);
    return l->hf && !fits ? -1 : 0;
}

static int copy_file(const char *to, const char *from, struct err *e)
{
    struct map m;
    struct out o = {.fd = -1};
    if (map_open(&m, from, e))
        return -1;
    int rc = out_open(&o, to, e);
    if (!rc) {
        rc = (m.n && out_write(&o, m.data, m.n, e)) || out_commit(&o, e) ? -1 : 0;
        out_abort(&o);
    }
    map_close(&m);
    return rc;
}

const char *const model_tokenizer_files[] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "bpe_simple_vocab_16e6.txt",
    "bpe_simple_vocab_16e6.txt.gz",
    NULL,
};

static int copy_as(const char *folder, const char *name, const char *from, struct err *e)
{
    char *to = path_new(folder, name, e);
    int rc = to ? copy_file(to, from, e) : -1;
    free(to);
    return rc;
}

// A single vocabulary file gets the name under which a folder's vocabulary is searched for:
// vocab_read chooses by the ending, and by the first bytes whether it is gzipped.
static int copy_vocabulary(const char *folder, const char *from, struct err *e)
{
    size_t n = strlen(from);
    struct map m;
    if (n >= 5 && strcmp(from + n - 5, ".json") == 0)
        return copy_as(folder, "tokenizer.json", from, e);
    if (map_open(&m, from, e))
        return -1;
    bool packed = m.n >= 2 && memcmp(m.data, "\x1f\x8b", 2) == 0;
    map_close(&m);
    return copy_as(folder, packed ? "bpe_simple_vocab_16e6.txt.gz" : "bpe_simple_vocab_16e6.txt",
                   from, e);
}

int model_folder_copy_tokenizer(const char *folder, const char *from, struct err *e)
{
    const char *const *names = model_tokenizer_files;
    struct stat st;
    int rc = 0;
    if (stat(from, &st))
        return err_errno(e, "%s", from);
    if (!S_ISDIR(st.st_mode))
        return copy_vocabulary(folder, from, e);
    for (size_t i = 0; names[i] && !rc; i++) {
        char *src = path_new(from, names[i], e);
        if (!src)
            rc = -1;
        else if (access(src, F_OK) == 0)
            rc = copy_as(folder, names[i], src, e);
        free(src);
    }
    return rc;
}
