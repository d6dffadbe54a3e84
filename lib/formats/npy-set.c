// SPDX-License-Identifier: Apache-2.0
#include "formats/npy-set.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/half.h"
#include "base/mem.h"

enum { CHUNK = 16384 }; // float16 values converted at a time: 32 KiB, within the first cache

// Through interruptions and short reads; a file that ends too soon is an error (errno 0).
static int pread_full(int fd, void *data, size_t n, off_t at)
{
    char *p = data;
    while (n) {
        ssize_t k = pread(fd, p, n, at);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0) {
            errno = k < 0 ? errno : 0;
            return -1;
        }
        p += k;
        at += k;
        n -= (size_t)k;
    }
    return 0;
}

static int read_header(struct npy_part *p, int fd, struct npy_header *h, uint8_t *buf, size_t room,
                       struct err *e)
{
    struct stat st;
    if (fstat(fd, &st))
        return err_errno(e, "cannot read");
    if (!S_ISREG(st.st_mode))
        return err_set(e, "not a regular file");
    size_t n = (uint64_t)st.st_size < room ? (size_t)st.st_size : room;
    if (pread_full(fd, buf, n, 0))
        return err_errno(e, "cannot read");
    if (npy_parse(h, buf, n, (uint64_t)st.st_size, e))
        return -1;
    if (h->type != NPY_F2 && h->type != NPY_F4)
        return err_set(e, "has type %s; embeddings are <f2 or <f4", npy_type_name(h->type));
    if (h->n_dims != 2)
        return err_set(e, "has %d dimensions; embeddings have 2", h->n_dims);
    p->rows = h->rows;
    p->type = h->type;
    p->data_at = h->data_at;
    p->file_bytes = st.st_size;
    p->changed = st.st_mtim;
    return 0;
}

static int add_part(struct npy_set *s, const char *path, uint8_t *buf, size_t room, struct err *e)
{
    struct npy_part *p = &s->parts[s->n_parts];
    struct npy_header h;
    p->path = mem_strdup(path, e);
    if (!p->path)
        return -1;
    s->n_parts++;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "cannot open '%s'", path);
    int rc = read_header(p, fd, &h, buf, room, e);
    close(fd);
    if (rc)
        return err_wrap(e, "%s", path);
    if (s->n_parts > 1 && h.dim != s->dim)
        return err_set(e, "%s: has %zu columns, but %s has %zu", path, h.dim, s->parts[0].path,
                       s->dim);
    if (h.rows > UINT64_MAX / 2 - s->rows)
        return err_set(e, "%s: too many rows", path);
    s->dim = h.dim;
    p->first = s->rows;
    s->rows += h.rows;
    return 0;
}

int npy_set_open(struct npy_set *s, const char *const *paths, size_t n, struct err *e)
{
    enum { ROOM = 12 + NPY_MAX_HEADER };
    *s = (struct npy_set){0};
    if (n == 0)
        return err_set(e, "no NPY files");
    s->parts = mem_alloc(n, sizeof *s->parts, e);
    uint8_t *buf = s->parts ? mem_alloc(ROOM, 1, e) : NULL;
    int rc = buf ? 0 : -1;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = add_part(s, paths[i], buf, ROOM, e);
    free(buf);
    if (rc)
        npy_set_close(s);
    return rc;
}

void npy_set_close(struct npy_set *s)
{
    for (size_t i = 0; i < s->n_parts; i++)
        free(s->parts[i].path);
    free(s->parts);
    *s = (struct npy_set){0};
}

size_t npy_set_find(const struct npy_set *s, uint64_t row)
{
    size_t lo = 0, hi = s->n_parts; // the last part that starts at or before the row
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (s->parts[mid].first <= row)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

static int open_part(const struct npy_part *p, struct err *e)
{
    struct stat st;
    int fd = open(p->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "cannot open '%s'", p->path);
    if (fstat(fd, &st) || st.st_size != p->file_bytes || st.st_mtim.tv_sec != p->changed.tv_sec ||
        st.st_mtim.tv_nsec != p->changed.tv_nsec) {
        close(fd);
        return err_set(e, "%s: changed while it was in use", p->path);
    }
    return fd;
}

static int read_failed(const struct npy_part *p, struct err *e)
{
    return errno ? err_errno(e, "cannot read '%s'", p->path)
                 : err_set(e, "%s: changed while it was in use", p->path);
}

// `count` rows from row `first` of the part.
static int read_f32(const struct npy_part *p, int fd, size_t dim, uint64_t first, uint64_t count,
                    float *out, struct err *e)
{
    size_t n = (size_t)count * dim;
    off_t at = (off_t)(p->data_at + (size_t)first * dim * npy_type_size(p->type));
    if (p->type == NPY_F4)
        return pread_full(fd, out, n * sizeof *out, at) ? read_failed(p, e) : 0;
    uint16_t half[CHUNK];
    for (size_t i = 0; i < n; i += CHUNK) {
        size_t k = n - i < CHUNK ? n - i : CHUNK;
        if (pread_full(fd, half, k * sizeof *half, at + (off_t)(i * sizeof *half)))
            return read_failed(p, e);
        half_to_f32(half, out + i, k);
    }
    return 0;
}

static int read_f16(const struct npy_part *p, int fd, size_t dim, uint64_t first, uint64_t count,
                    uint16_t *out, struct err *e)
{
    off_t at = (off_t)(p->data_at + (size_t)first * dim * 2);
    return pread_full(fd, out, (size_t)count * dim * 2, at) ? read_failed(p, e) : 0;
}

static int check_range(const struct npy_set *s, uint64_t first, uint64_t count, struct err *e)
{
    if (first <= s->rows && count <= s->rows - first)
        return 0;
    return err_set(e, "%llu rows from row %llu of %llu", (unsigned long long)count,
                   (unsigned long long)first, (unsigned long long)s->rows);
}

// Exactly one of f32 and f16 is set.
static int read_some(const struct npy_part *p, int fd, size_t dim, uint64_t first, uint64_t count,
                     float *f32, uint16_t *f16, struct err *e)
{
    if (f16 && p->type != NPY_F2)
        return err_set(e, "%s: has type %s, not <f2", p->path, npy_type_name(p->type));
    return f32 ? read_f32(p, fd, dim, first, count, f32, e)
               : read_f16(p, fd, dim, first, count, f16, e);
}

static int read_range(const struct npy_set *s, uint64_t first, uint64_t count, float *f32,
                      uint16_t *f16, struct err *e)
{
    if (check_range(s, first, count, e))
        return -1;
    for (size_t i = count ? npy_set_find(s, first) : 0; count; i++) {
        const struct npy_part *p = &s->parts[i];
        uint64_t at = first - p->first, k = p->rows - at < count ? p->rows - at : count;
        if (k == 0)
            continue;
        int fd = open_part(p, e);
        if (fd < 0)
            return -1;
        int rc = read_some(p, fd, s->dim, at, k, f32, f16, e);
        close(fd);
        if (rc)
            return -1;
        f32 = f32 ? f32 + (size_t)k * s->dim : NULL;
        f16 = f16 ? f16 + (size_t)k * s->dim : NULL;
        first += k;
        count -= k;
    }
    return 0;
}

int npy_set_rows(const struct npy_set *s, uint64_t first, uint64_t count, float *out, struct err *e)
{
    return read_range(s, first, count, out, NULL, e);
}

int npy_set_rows_f16(const struct npy_set *s, uint64_t first, uint64_t count, uint16_t *out,
                     struct err *e)
{
    return read_range(s, first, count, NULL, out, e);
}

// The length of the run of neighbours that starts at rows[0] and stays below `end`.
static size_t run_length(const uint64_t *rows, size_t n, uint64_t end)
{
    size_t k = 1;
    while (k < n && rows[k] == rows[0] + k && rows[k] < end)
        k++;
    return k;
}

static int gather(const struct npy_set *s, const uint64_t *rows, size_t count, float *f32,
                  uint16_t *f16, struct err *e)
{
    const struct npy_part *p = NULL;
    int fd = -1, rc = 0;
    for (size_t i = 0; i < count && rc == 0;) {
        rc = check_range(s, rows[i], 1, e);
        if (rc)
            break;
        const struct npy_part *q = &s->parts[npy_set_find(s, rows[i])];
        if (q != p) {
            if (fd >= 0)
                close(fd);
            fd = open_part(q, e);
            p = q;
        }
        size_t k = run_length(rows + i, count - i, p->first + p->rows), at = i * s->dim;
        rc = fd < 0 ? -1
                    : read_some(p, fd, s->dim, rows[i] - p->first, k, f32 ? f32 + at : NULL,
                                f16 ? f16 + at : NULL, e);
        i += k;
    }
    if (fd >= 0)
        close(fd);
    return rc;
}

int npy_set_gather(const struct npy_set *s, const uint64_t *rows, size_t count, float *out,
                   struct err *e)
{
    return gather(s, rows, count, out, NULL, e);
}

int npy_set_gather_f16(const struct npy_set *s, const uint64_t *rows, size_t count, uint16_t *out,
                       struct err *e)
{
    return gather(s, rows, count, NULL, out, e);
}

bool npy_set_all(const struct npy_set *s, enum npy_type type)
{
    for (size_t i = 0; i < s->n_parts; i++)
        if (s->parts[i].rows && s->parts[i].type != type)
            return false;
    return true;
}

int npy_set_map(const struct npy_set *s, size_t part, struct map *m, const void **data,
                bool *resident, struct err *e)
{
    const struct npy_part *p = &s->parts[part];
    if (map_open(m, p->path, e))
        return -1;
    if (m->n != (uint64_t)p->file_bytes ||
        (p->data_at + (uintptr_t)m->data) % npy_type_size(p->type)) {
        map_close(m);
        return err_set(e, "%s: cannot be used in place", p->path);
    }
    *data = m->data + p->data_at;
    *resident = map_resident(m);
    return 0;
}

int npy_set_unchanged(const struct npy_set *s, struct err *e)
{
    for (size_t i = 0; i < s->n_parts; i++) {
        int fd = open_part(&s->parts[i], e);
        if (fd < 0)
            return -1;
        close(fd);
    }
    return 0;
}
