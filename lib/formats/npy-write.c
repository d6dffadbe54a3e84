// SPDX-License-Identifier: Apache-2.0
#include "formats/npy-write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/half.h"
#include "base/mem.h"

enum { HEADER_MAX = 512, CHUNK = 8192 };

// A file without a name in $TMPDIR, which the system removes however the run ends.
static FILE *open_spool(struct err *e)
{
    const char *dir = getenv("TMPDIR");
    char path[4096];
    if (snprintf(path, sizeof path, "%s/clip-cid.XXXXXX", dir && *dir ? dir : "/tmp") >=
        (int)sizeof path) {
        err_set(e, "TMPDIR: the name is too long");
        return NULL;
    }
    int fd = mkostemp(path, O_CLOEXEC);
    FILE *f = fd >= 0 ? fdopen(fd, "w+b") : NULL;
    if (!f)
        err_errno(e, "cannot create a temporary file '%s'", path);
    if (fd >= 0)
        unlink(path);
    if (!f && fd >= 0)
        close(fd);
    return f;
}

static int put_header(struct npy_writer *w, uint64_t rows, struct err *e)
{
    char header[HEADER_MAX];
    w->shape[0] = rows;
    size_t n = npy_format_header(header, sizeof header, w->type, w->n_dims, w->shape);
    if (!n)
        return err_set(e, "NPY header too long");
    w->header = n;
    // After the first time it is a patch: its length does not depend on the number of rows.
    return w->out.written ? out_pwrite(&w->out, header, n, 0, e) : out_write(&w->out, header, n, e);
}

static int set_shape(struct npy_writer *w, int n_row_dims, const uint64_t *row_shape, struct err *e)
{
    if (n_row_dims < 0 || n_row_dims > NPY_MAX_DIMS - 1)
        return err_set(e, "%d dimensions are too many", n_row_dims + 1);
    w->n_dims = n_row_dims + 1;
    w->dim = 1;
    for (int i = 0; i < n_row_dims; i++) {
        w->shape[i + 1] = row_shape[i];
        if (!mem_mul(w->dim, (size_t)row_shape[i], &w->dim))
            return err_set(e, "shape overflows");
    }
    if (!w->dim || !mem_mul(w->dim, npy_type_size(w->type), &w->row_bytes))
        return err_set(e, "rows of %zu items", w->dim);
    return 0;
}

int npy_create(struct npy_writer *w, const char *path, enum npy_type type, int n_row_dims,
               const uint64_t *row_shape, uint64_t rows, struct err *e)
{
    *w = (struct npy_writer){.type = type, .promised = rows, .out = {.fd = -1}};
    if (set_shape(w, n_row_dims, row_shape, e))
        return -1;
    w->digest = digest_new(e);
    if (!w->digest)
        return -1;
    int rc = out_open(&w->out, path, e);
    if (rc == 0 && rows == NPY_UNKNOWN && !w->out.can_seek) {
        w->spool = open_spool(e);
        rc = w->spool ? 0 : -1;
    } else if (rc == 0) {
        rc = put_header(w, rows == NPY_UNKNOWN ? 0 : rows, e);
    }
    if (rc)
        npy_abort(w);
    return rc;
}

static int put_bytes(struct npy_writer *w, const void *data, size_t n, struct err *e)
{
    digest_add(w->digest, data, n);
    if (!w->spool)
        return out_write(&w->out, data, n, e);
    if (fwrite(data, 1, n, w->spool) != n)
        return err_errno(e, "cannot write a temporary file");
    return 0;
}

int npy_write(struct npy_writer *w, const void *rows, uint64_t n, struct err *e)
{
    size_t bytes;
    if (!mem_mul((size_t)n, w->row_bytes, &bytes) || n > UINT64_MAX / 2 - w->rows)
        return err_set(e, "too many rows");
    w->rows += n;
    return bytes ? put_bytes(w, rows, bytes, e) : 0;
}

int npy_write_f32(struct npy_writer *w, const float *rows, uint64_t n, struct err *e)
{
    if (w->type == NPY_F4)
        return npy_write(w, rows, n, e);
    if (w->type != NPY_F2)
        return err_set(e, "floats do not go into a file of type %s", npy_type_name(w->type));
    size_t items;
    if (!mem_mul((size_t)n, w->row_bytes, &items) || n > UINT64_MAX / 2 - w->rows)
        return err_set(e, "too many rows");
    items /= sizeof(uint16_t);
    w->rows += n;
    uint16_t half[CHUNK];
    for (size_t i = 0; i < items; i += CHUNK) {
        size_t k = items - i < CHUNK ? items - i : CHUNK;
        half_from_f32(rows + i, half, k);
        if (put_bytes(w, half, k * sizeof *half, e))
            return -1;
    }
    return 0;
}

int npy_write_zeros(struct npy_writer *w, uint64_t n, struct err *e)
{
    static const uint8_t zeros[CHUNK];
    size_t bytes;
    if (!mem_mul((size_t)n, w->row_bytes, &bytes) || n > UINT64_MAX / 2 - w->rows)
        return err_set(e, "too many rows");
    w->rows += n;
    while (bytes) {
        size_t k = bytes < sizeof zeros ? bytes : sizeof zeros;
        if (put_bytes(w, zeros, k, e))
            return -1;
        bytes -= k;
    }
    return 0;
}

void npy_writer_digest(const struct npy_writer *w, char hex[DIGEST_HEX])
{
    digest_hex(w->digest, hex);
}

static int part_of(const void *ctx, uint64_t at, size_t n, void *to, struct err *e)
{
    const struct npy_writer *w = ctx;
    uint8_t *p = to;
    off_t from = (off_t)(w->header + at);
    while (n) {
        ssize_t k = pread(w->out.fd, p, n, from);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return err_errno(e, "cannot read '%s' again", w->out.path);
        p += k;
        from += k;
        n -= (size_t)k;
    }
    return 0;
}

int npy_writer_sample(struct npy_writer *w, char hex[DIGEST_HEX], struct err *e)
{
    *hex = '\0';
    if (w->out.direct)
        return 0;
    return out_flush(&w->out, e) ? -1
                                 : npy_sample_digest(w->rows * w->row_bytes, hex, part_of, w, e);
}

static int empty_spool(struct npy_writer *w, struct err *e)
{
    uint8_t buf[CHUNK * 2];
    size_t n;
    if (put_header(w, w->rows, e))
        return -1;
    if (fflush(w->spool) || fseeko(w->spool, 0, SEEK_SET))
        return err_errno(e, "cannot write a temporary file");
    while ((n = fread(buf, 1, sizeof buf, w->spool)) > 0)
        if (out_write(&w->out, buf, n, e))
            return -1;
    return ferror(w->spool) ? err_errno(e, "cannot read a temporary file") : 0;
}

static int finish_header(struct npy_writer *w, struct err *e)
{
    if (w->promised != NPY_UNKNOWN) {
        if (w->rows == w->promised)
            return 0;
        return err_set(e, "%llu rows were to be written, but there are %llu",
                       (unsigned long long)w->promised, (unsigned long long)w->rows);
    }
    return w->spool ? empty_spool(w, e) : put_header(w, w->rows, e);
}

int npy_commit(struct npy_writer *w, struct err *e)
{
    int rc = finish_header(w, e) || out_commit(&w->out, e) ? -1 : 0;
    npy_abort(w); // no-op on what is committed
    return rc;
}

void npy_abort(struct npy_writer *w)
{
    out_abort(&w->out);
    if (w->spool)
        fclose(w->spool);
    digest_free(w->digest);
    w->spool = NULL;
    w->digest = NULL;
}
