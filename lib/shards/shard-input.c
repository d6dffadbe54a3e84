// SPDX-License-Identifier: Apache-2.0
#include "shards/shard-input.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/url.h"
#include "shards/shard-link.h"

enum { READ_BLOCK = 1 << 20, SCAN_BLOCK = 4096 };

static ssize_t read_remote(struct shard_input *in)
{
    const uint8_t *data = NULL;
    ssize_t n = remote_next(in->object, &data, &in->why);
    if (n < 0)
        in->error = EIO;
    in->block = data;
    return n;
}

static ssize_t read_block(struct shard_input *in)
{
    ssize_t n;
    if (in->object) {
        n = read_remote(in);
    } else {
        do
            n = read(in->fd, in->own_block, in->block_bytes);
        while (n < 0 && errno == EINTR);
        if (n < 0)
            in->error = errno;
    }
    if (n > 0) {
        in->n_block = (size_t)n;
        in->n_read += (uint64_t)n;
    }
    return n;
}

static la_ssize_t on_read(struct archive *a, void *ctx, const void **block)
{
    struct shard_input *in = ctx;
    ssize_t n = read_block(in);
    *block = in->block;
    if (n >= 0)
        return n;
    archive_set_error(a, in->error, "cannot read");
    return ARCHIVE_FATAL;
}

// Skips no further than the end of the file: a seek behind it would look like an ordinary end.
static la_int64_t on_skip(struct archive *a, void *ctx, la_int64_t want)
{
    struct shard_input *in = ctx;
    (void)a;
    if (in->object) {
        la_int64_t n = want > 0 ? (la_int64_t)remote_skip(in->object, (uint64_t)want) : 0;
        in->n_read += (uint64_t)n;
        return n;
    }
    if (!in->can_seek || in->size < 0)
        return 0;
    la_int64_t left = in->size - (la_int64_t)in->n_read;
    want = want < left ? want : left;
    if (want <= 0 || lseek(in->fd, (off_t)want, SEEK_CUR) < 0)
        return 0; // libarchive reads instead
    in->n_read += (uint64_t)want;
    return want;
}

// Fills e from the state after a call of libarchive that failed. -1.
static int failed(const struct shard_input *in, struct err *e)
{
    const char *why = archive_error_string(in->a);
    if (in->object && in->error) {
        *e = in->why;
        return err_wrap(e, "cannot read");
    }
    if (in->error) {
        errno = in->error;
        return err_errno(e, "cannot read");
    }
    if (errno == ENOMEM || archive_errno(in->a) == ENOMEM)
        return err_machine(e, "cannot read: out of memory");
    if (!why)
        why = "unreadable";
    if (strcmp(why, "Unrecognized archive format") == 0)
        return err_set(e, "not a tar archive");
    if (strstr(why, "runcated"))
        return err_set(e, "truncated (%s)", why);
    if (strcmp(why, "Damaged tar archive") == 0)
        return err_set(e, "damaged header, wrong checksum");
    return err_set(e, "%s", why);
}

static int new_archive(struct shard_input *in, struct err *e)
{
    errno = 0;
    struct archive *a = in->a = archive_read_new();
    if (a) {
        archive_read_support_filter_gzip(a);
        archive_read_support_filter_bzip2(a);
        archive_read_support_filter_xz(a);
        archive_read_support_filter_zstd(a);
        archive_read_support_format_tar(a);
        archive_read_support_format_empty(a); // a file of no bytes is a shard of no samples
        // Files joined by cat, and zero blocks that some writers leave between members: libarchive
        // would end at the first zero block, and what follows would be lost without a word.
        archive_read_set_format_option(a, "tar", "read_concatenated_archives", "1");
    }
    return a && errno != ENOMEM ? 0 : err_machine(e, "cannot read: out of memory");
}

static int open_fd(struct shard_input *in, const char *path, bool scan, struct err *e)
{
    struct stat st;
    in->fd = 0;
    if (strcmp(path, "-") != 0) {
        in->fd = open(path, O_RDONLY | O_CLOEXEC);
        if (in->fd < 0)
            return err_errno(e, "cannot open");
        in->own_fd = true;
    }
    if (fstat(in->fd, &st))
        return err_errno(e, "cannot read");
    if (S_ISDIR(st.st_mode))
        return err_set(e, "is a folder, not a tar archive");
    if (S_ISREG(st.st_mode)) {
        posix_fadvise(in->fd, 0, 0, scan ? POSIX_FADV_RANDOM : POSIX_FADV_SEQUENTIAL);
        off_t at = lseek(in->fd, 0, SEEK_CUR); // standard input may have been read from
        in->can_seek = at >= 0;
        in->size = at > 0 ? st.st_size - at : st.st_size;
    }
    in->block_bytes = scan ? SCAN_BLOCK : READ_BLOCK;
    in->block = in->own_block = mem_alloc_unset(in->block_bytes, 1, e);
    return in->block ? 0 : -1;
}

// Garbage fails here in some versions of libarchive, at the first header in others. It must show in
// one place, so only an error of the machine ends the opening.
static int opened(struct shard_input *in, int rc, struct err *e)
{
    return rc != ARCHIVE_OK && failed(in, e) && e->machine ? -1 : 0;
}

static int open_object(struct shard_input *in, const char *name, struct remote *r, struct err *e)
{
    if (!r)
        return err_machine(e, "cannot open: only local files are read here");
    in->object = remote_open(r, name, e);
    if (!in->object)
        return err_wrap(e, "cannot open");
    in->size = (off_t)remote_size(in->object);
    return 0;
}

static int open_link(struct shard_input *in, const char *url, struct remote *r, struct err *e)
{
    if (!*url)
        return err_set(e, "cannot open: the link to a remote shard is spoilt");
    return open_object(in, url, r, e) ? err_wrap(e, "%s", url) : 0;
}

int shard_input_open(struct shard_input *in, const char *path, bool scan, struct remote *r,
                     struct err *e)
{
    *in = (struct shard_input){.fd = -1, .size = -1};
    char url[SHARD_NAME_MAX];
    int rc = url_is(path)                                    ? open_object(in, path, r, e)
             : strcmp(path, "-") && shard_link_of(path, url) ? open_link(in, url, r, e)
                                                             : open_fd(in, path, scan, e);
    if (rc || new_archive(in, e))
        return -1;
    archive_read_set_read_callback(in->a, on_read);
    archive_read_set_skip_callback(in->a, on_skip);
    archive_read_set_callback_data(in->a, in);
    errno = 0;
    return opened(in, archive_read_open1(in->a), e);
}

int shard_input_open_memory(struct shard_input *in, const void *data, size_t n, struct err *e)
{
    *in = (struct shard_input){.fd = -1, .size = (off_t)n};
    if (new_archive(in, e))
        return -1;
    errno = 0;
    return opened(in, archive_read_open_memory(in->a, data, n), e);
}

void shard_input_close(struct shard_input *in)
{
    if (in->a)
        archive_read_free(in->a);
    if (in->own_fd)
        close(in->fd);
    free(in->own_block);
    remote_close(in->object);
    *in = (struct shard_input){.fd = -1};
}

static bool zeros(const uint8_t *p, size_t n)
{
    return n == 0 || (*p == 0 && memcmp(p, p + 1, n - 1) == 0);
}

// The decompressors for gzip and bzip2 end at bytes that do not begin a further compressed member,
// and at a member whose header is cut off. Zeros are padding; all else may be samples that are
// lost. 0 or -1.
static int check_rest(struct shard_input *in, struct err *e)
{
    if ((in->fd < 0 && !in->object) || archive_filter_code(in->a, 0) == ARCHIVE_FILTER_NONE)
        return 0;
    uint64_t used = (uint64_t)archive_filter_bytes(in->a, -1);
    size_t n = in->n_read > used ? (size_t)(in->n_read - used) : 0;
    n = n < in->n_block ? n : in->n_block; // a few bytes may be of the block before
    bool clean = zeros(in->block + in->n_block - n, n);
    ssize_t k = 1;
    while (clean && (k = read_block(in)) > 0)
        clean = zeros(in->block, in->n_block);
    if (k < 0)
        return failed(in, e);
    return clean ? 0
                 : err_set(e, "bytes that are not of the archive follow it after byte %llu",
                           (unsigned long long)used);
}

int shard_input_next(struct shard_input *in, struct archive_entry **entry, struct err *e)
{
    errno = 0;
    int rc = archive_read_next_header(in->a, entry);
    if (errno == ENOMEM || in->error)
        return failed(in, e);
    if (rc == ARCHIVE_EOF)
        return check_rest(in, e);
    // ARCHIVE_RETRY too ends the shard: going on after a damaged header would shift the rows behind
    // it.
    return rc == ARCHIVE_OK || rc == ARCHIVE_WARN ? 1 : failed(in, e);
}

ssize_t shard_input_read(struct shard_input *in, void *to, size_t n, struct err *e)
{
    errno = 0;
    la_ssize_t k = archive_read_data(in->a, to, n);
    if (k < 0 || errno == ENOMEM)
        return failed(in, e);
    return k;
}
