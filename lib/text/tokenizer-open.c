// SPDX-License-Identifier: Apache-2.0
// Which vocabulary file a path means, and its bytes.
#include "text/tokenizer-vocab.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/mem.h"
#include "base/path.h"

struct file_bytes {
    char *data; // NUL-terminated
    size_t n, cap;
};

static int read_some(struct file_bytes *b, gzFile f, bool *end, struct err *e)
{
    enum { STEP = 1 << 16 };
    if (b->n > VOCAB_FILE_MAX)
        return err_set(e, "larger than %d bytes", VOCAB_FILE_MAX);
    if (mem_grow(&b->data, &b->cap, b->n + STEP + 1, 1, e))
        return -1;
    int got = gzread(f, b->data + b->n, STEP), code;
    if (got < 0)
        return err_set(e, "%s", gzerror(f, &code));
    b->n += (size_t)got;
    b->data[b->n] = 0;
    *end = got == 0;
    return 0;
}

// Reads a file, gzipped or not. zlib reports a truncated file as an error only when it is closed.
static int read_file(struct file_bytes *b, const char *path, struct err *e)
{
    gzFile f = gzopen(path, "rb");
    if (!f)
        return err_errno(e, "%s", path);
    bool end = false;
    int status = 0;
    while (!status && !end)
        status = read_some(b, f, &end, e);
    if (gzclose(f) != Z_OK && !status)
        status = err_set(e, "cut short");
    if (status) {
        free(b->data);
        memset(b, 0, sizeof *b);
        return err_wrap(e, "%s", path);
    }
    return 0;
}

typedef int reader(struct vocab *v, const char *data, size_t n, struct err *e);

static int read_all_merges(struct vocab *v, const char *data, size_t n, struct err *e)
{
    return vocab_read_merges(v, data, n, SIZE_MAX, e);
}

static int read_with(struct vocab *v, const char *path, reader *read, struct err *e)
{
    struct file_bytes b = {0};
    if (read_file(&b, path, e))
        return -1;
    int status = read(v, b.data, b.n, e);
    free(b.data);
    return status ? err_wrap(e, "%s", path) : 0;
}

// Writes "dir/name" into out if there is such a file.
static bool find_file(char out[PATH_BYTES], const char *dir, const char *name)
{
    struct stat st;
    struct err ignored; // a path too long for the system is no file
    return !path_join(out, dir, name, &ignored) && stat(out, &st) == 0 && !S_ISDIR(st.st_mode);
}

static int read_base(struct vocab *v, const char *dir, struct err *e)
{
    char path[PATH_BYTES], merges[PATH_BYTES];
    if (find_file(path, dir, "bpe_simple_vocab_16e6.txt.gz") ||
        find_file(path, dir, "bpe_simple_vocab_16e6.txt"))
        return read_with(v, path, vocab_read_openai, e);
    if (find_file(path, dir, "vocab.json") && find_file(merges, dir, "merges.txt"))
        return read_with(v, path, vocab_read_vocab_json, e) ||
                       read_with(v, merges, read_all_merges, e)
                   ? -1
                   : 0;
    if (find_file(path, dir, "tokenizer.json"))
        return read_with(v, path, vocab_read_tokenizer_json, e);
    return err_set(e,
                   "%s: no tokenizer: neither bpe_simple_vocab_16e6.txt[.gz], nor vocab.json with "
                   "merges.txt, nor tokenizer.json; --tokenizer PATH names another place",
                   dir);
}

static int read_folder(struct vocab *v, const char *dir, struct err *e)
{
    return read_base(v, dir, e) || vocab_read_added(v, dir, e) ? -1 : 0;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

int vocab_read(struct vocab *v, const char *path, struct err *e)
{
    struct stat st;
    int status;
    memset(v, 0, sizeof *v);
    if (stat(path, &st))
        return err_errno(e, "%s", path);
    if (S_ISDIR(st.st_mode))
        status = read_folder(v, path, e);
    else if (ends_with(path, ".json"))
        status = read_with(v, path, vocab_read_tokenizer_json, e);
    else
        status = read_with(v, path, vocab_read_openai, e);
    if (status)
        vocab_release(v);
    return status;
}
