// SPDX-License-Identifier: Apache-2.0
#include "embed/output.h"

#include <math.h>

static int open_one(struct npy_writer *w, const char *path, enum npy_type type, size_t cols,
                    struct err *e)
{
    const uint64_t shape[] = {cols};
    return path ? npy_create(w, path, type, 1, shape, NPY_UNKNOWN, e) : 0;
}

int embed_output_open(struct embed_output *o, enum npy_type type, size_t dim, size_t context,
                      struct err *e)
{
    o->type = type;
    o->dim = dim;
    o->context = context;
    if (open_one(&o->image, o->image_path, type, dim, e) ||
        open_one(&o->text, o->text_path, type, dim, e) ||
        open_one(&o->tokens, o->tokens_path, NPY_I4, context, e)) {
        embed_output_abort(o);
        return -1;
    }
    return 0;
}

// The least value that rounds to infinity as float16.
static const float f16_end = 65520;

static int check_values(const struct embed_output *o, const float *x, const char *what,
                        uint64_t row, struct err *e)
{
    for (size_t i = 0; i < o->dim; i++) {
        if (!isfinite(x[i]))
            return err_set(e, "row %llu: the %s embedding is not finite", (unsigned long long)row,
                           what);
        if (o->type == NPY_F2 && fabsf(x[i]) >= f16_end)
            return err_set(e,
                           "row %llu: the %s embedding holds %g, over what float16 can: "
                           "--out-dtype f32, or leave out --no-normalize",
                           (unsigned long long)row, what, (double)x[i]);
    }
    return 0;
}

static int put_floats(struct embed_output *o, struct npy_writer *w, const char *what,
                      const bool *has, const float *x, size_t n, struct sidecar_rows *failed,
                      struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (!has[i]) {
            if (npy_write_zeros(w, 1, e) || sidecar_rows_add(failed, o->rows + i, e))
                return -1;
            continue;
        }
        if (check_values(o, x, what, o->rows + i, e) || npy_write_f32(w, x, 1, e))
            return -1;
        x += o->dim;
    }
    return 0;
}

static int put_tokens(struct embed_output *o, const struct embed_batch *b, struct err *e)
{
    const int32_t *t = b->tokens;
    for (size_t i = 0; i < b->n; i++) {
        if (b->has_text[i] ? npy_write(&o->tokens, t, 1, e) : npy_write_zeros(&o->tokens, 1, e))
            return -1;
        t += b->has_text[i] ? o->context : 0;
    }
    return 0;
}

int embed_output_put(struct embed_output *o, const struct embed_batch *b, struct err *e)
{
    if ((o->image_path &&
         put_floats(o, &o->image, "image", b->has_image, b->image, b->n, &o->no_image, e)) ||
        (o->text_path &&
         put_floats(o, &o->text, "text", b->has_text, b->text, b->n, &o->no_text, e)) ||
        (o->tokens_path && put_tokens(o, b, e)))
        return -1;
    o->rows += b->n;
    return 0;
}

static int commit_one(struct npy_writer *w, const char *path, const char *of,
                      const struct sidecar_rows *failed, struct sidecar *s, struct err *e)
{
    if (!path)
        return 0;
    s->of = of;
    s->has_failed = failed != NULL;
    s->failed = failed ? *failed : (struct sidecar_rows){0}; // lent
    int rc = sidecar_set_data(s, w, e) || sidecar_write(path, s, e) || npy_commit(w, e) ? -1 : 0;
    s->failed = (struct sidecar_rows){0};
    return rc;
}

static void release_rows(struct embed_output *o)
{
    sidecar_rows_release(&o->no_image);
    sidecar_rows_release(&o->no_text);
}

int embed_output_commit(struct embed_output *o, struct sidecar *s, struct err *e)
{
    s->rows = o->rows;
    int rc = commit_one(&o->tokens, o->tokens_path, NULL, NULL, s, e) ||
             commit_one(&o->text, o->text_path, "text", &o->no_text, s, e) ||
             commit_one(&o->image, o->image_path, "image", &o->no_image, s, e);
    release_rows(o);
    return rc ? -1 : 0;
}

void embed_output_abort(struct embed_output *o)
{
    if (o->image_path)
        npy_abort(&o->image);
    if (o->text_path)
        npy_abort(&o->text);
    if (o->tokens_path)
        npy_abort(&o->tokens);
    release_rows(o);
}
