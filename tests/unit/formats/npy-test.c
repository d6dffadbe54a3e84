// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/half.h"
#include "formats/npy-set.h"
#include "formats/npy-write.h"
#include "unit/tap.h"

static struct err e;
static char dir[] = "/tmp/npy-test.XXXXXX";

static const char *in_dir(const char *name)
{
    static char path[4][256];
    static int k;
    k = (k + 1) % 4;
    snprintf(path[k], sizeof path[k], "%s/%s", dir, name);
    return path[k];
}

static void write_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f))
        exit(1);
}

// A file of the given version with this dictionary and `n` bytes of rows, aligned to `align`.
static size_t build(uint8_t *out, int version, const char *dict, const void *rows, size_t n,
                    size_t align)
{
    size_t at = version == 1 ? 10 : 12, len = strlen(dict), total = at + len + 1;
    total = (total + align - 1) / align * align;
    memcpy(out, "\x93NUMPY", 6);
    out[6] = (uint8_t)version;
    memset(out + 7, 0, 5);
    out[8] = (uint8_t)((total - at) & 255);
    out[9] = (uint8_t)((total - at) >> 8);
    memset(out + at, ' ', total - at);
    memcpy(out + at, dict, len);
    out[total - 1] = '\n';
    if (n)
        memcpy(out + total, rows, n);
    return total + n;
}

static bool takes(int version, const char *dict, size_t n)
{
    static const uint8_t zeros[4096];
    uint8_t buf[8192];
    struct npy_header h;
    size_t size = build(buf, version, dict, zeros, n, 64);
    return npy_parse(&h, buf, size, size, &e) == 0;
}

static void test_headers(void)
{
    ok(takes(1, "{'descr': '<f2', 'fortran_order': False, 'shape': (3, 4), }", 24), "1.0");
    ok(takes(2, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }", 48), "2.0");
    ok(takes(3, "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }", 24), "3.0");
    ok(takes(1, "{\"shape\":(3,),\"fortran_order\":False,\"descr\":\"|u1\"}", 3),
       "any order, double quotes, no spaces");
    ok(takes(1, "{'descr': '<i4', 'fortran_order': False, 'shape': (3L, 2L), }", 24), "Python 2");
    ok(takes(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (), }", 4), "a scalar");
    ok(takes(1, "{'descr': '<f2', 'fortran_order': False, 'shape': (0, 512), }", 0), "no rows");
    ok(takes(1, "{'descr': '|b1', 'fortran_order': False, 'shape': (5,), }", 5), "truth values");
    ok(takes(1,
             "{'descr': [('f0', '<u8'), ('f1', '<u8')], 'fortran_order': False, 'shape': (2,), }",
             32),
       "DataComp's pairs");
    static const struct {
        const char *dict, *says;
        size_t n;
    } bad[] = {
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (3,), }", "big-endian", 12},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (3, 2), }", "Fortran", 24},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (3,), }", "Python objects", 24},
        {"{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (3,), }", "objects", 24},
        {"{'descr': '<V2', 'fortran_order': False, 'shape': (3,), }", "bfloat16", 6},
        {"{'descr': 'bfloat16', 'fortran_order': False, 'shape': (3,), }", "bfloat16", 6},
        {"{'descr': '<i2', 'fortran_order': False, 'shape': (3,), }", "'<i2'", 6},
        {"{'descr': '<c16', 'fortran_order': False, 'shape': (3,), }", "'<c16'", 48},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }", "truncated", 12},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", "too long", 12},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }",
         "overflow", 12},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", "shape",
         0},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3), }", "tuple", 12},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }", "shape", 12},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", "dimensions",
         4},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (5, 0), }", "no items", 0},
        {"{'descr': '<f4', 'fortran_order': False, }", "lacks", 12},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", "twice", 12},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), } x", "after", 12},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'x': 1}", "unknown", 12},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,", "shape", 12},
        {"garbage", "dictionary", 12},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ok(!takes(1, bad[i].dict, bad[i].n) && strstr(e.text, bad[i].says), "refused: %s", e.text);
    ok(!takes(4, "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 12) &&
           strstr(e.text, "version 4.0"),
       "version 4.0 is refused");
    struct npy_header h;
    ok(npy_parse(&h, (const uint8_t *)"\x89PNG\r\n\x1a\n", 8, 8, &e) &&
           strstr(e.text, "not an NPY"),
       "not an NPY file");
}

static void test_format(void)
{
    // as numpy.lib.format writes it
    static const char want[] = "\x93NUMPY\x01\x00\x76\x00{'descr': '<f2', 'fortran_order': False, "
                               "'shape': (6000, 48), }";
    char out[256];
    size_t n = npy_format_header(out, sizeof out, NPY_F2, 2, (uint64_t[]){6000, 48});
    ok(n == 128 && memcmp(out, want, sizeof want - 1) == 0 && out[127] == '\n' && out[126] == ' ',
       "the header NumPy writes");
    ok(npy_format_header(out, sizeof out, NPY_F2, 2, (uint64_t[]){UINT64_MAX, 48}) == 128 &&
           npy_format_header(out, sizeof out, NPY_F2, 2, (uint64_t[]){0, 48}) == 128,
       "its length does not depend on the number of rows");
    ok(npy_format_header(out, 100, NPY_F2, 2, (uint64_t[]){0, 48}) == 0, "no room");
}

static int write_three(struct npy_writer *w, const char *path, uint64_t rows)
{
    static const float x[3][4] = {{1, 2, 3, 4}, {0.1f, -0.5f, 65504, 1e-7f}, {0, 0, 0, 9}};
    if (npy_create(w, path, NPY_F2, 1, (uint64_t[]){4}, rows, &e))
        return -1;
    if (npy_write_f32(w, x[0], 2, &e) || npy_write_zeros(w, 1, &e) || npy_write_f32(w, x[2], 1, &e))
        return -1;
    return 0;
}

static void test_write(void)
{
    struct npy_writer w;
    struct npy a;
    float row[4];
    const char *path = in_dir("a.npy");
    char digest[DIGEST_HEX], again[DIGEST_HEX];
    ok(write_three(&w, path, NPY_UNKNOWN) == 0, "rows of unknown number");
    npy_writer_digest(&w, digest);
    ok(npy_commit(&w, &e) == 0 && npy_open(&a, path, &e) == 0, "written and opened");
    ok(a.h.rows == 4 && a.h.dim == 4 && a.h.type == NPY_F2 && a.h.data_at == 128, "shape");
    ok(npy_rows_f32(&a, 1, 1, row, &e) == 0 && row[0] == half_to_f32_one(half_from_f32_one(0.1f)) &&
           row[2] == 65504,
       "a row as float32");
    ok(npy_rows_f32(&a, 2, 3, row, &e) == -1, "rows past the end");
    digest_bytes(a.data, 32, again);
    ok(strcmp(digest, again) == 0, "the digest is of the rows");
    npy_close(&a);
    ok(write_three(&w, path, 5) == 0 && npy_commit(&w, &e) == -1 && strstr(e.text, "5 rows"),
       "a promise that is not kept");
    ok(npy_open_as(&a, path, NPY_F2, 2, &e) == 0, "leaves the old file");
    npy_close(&a);
    ok(npy_open_as(&a, path, NPY_I4, 1, &e) == -1 && strstr(e.text, "<f2, not <i4"), "type asked");
    ok(npy_open_as(&a, path, NPY_F2, 1, &e) == -1 && strstr(e.text, "dimensions"), "dimensions");

    int32_t labels[] = {3, -1, 7};
    path = in_dir("labels.npy");
    ok(npy_create(&w, path, NPY_I4, 0, NULL, 3, &e) == 0 && npy_write(&w, labels, 3, &e) == 0 &&
           npy_commit(&w, &e) == 0 && npy_open_as(&a, path, NPY_I4, 1, &e) == 0,
       "labels");
    ok(npy_item_i64(&a, 1) == -1 && npy_item_i64(&a, 2) == 7, "and their values");
    npy_close(&a);
    ok(npy_create(&w, path, NPY_I4, 0, NULL, NPY_UNKNOWN, &e) == 0 &&
           npy_write_f32(&w, row, 1, &e) == -1,
       "floats do not go into labels");
    npy_abort(&w);
    npy_abort(&w);
    ok(npy_create(&w, path, NPY_F4, 1, (uint64_t[]){512}, NPY_UNKNOWN, &e) == 0 &&
           npy_commit(&w, &e) == 0 && npy_open(&a, path, &e) == 0 && a.h.rows == 0 && !a.data,
       "no rows at all");
    npy_close(&a);
}

// The bytes on a pipe are those of a file.
static void test_pipe(void)
{
    struct npy_writer w;
    int fd[2], status;
    uint8_t piped[512], filed[512];
    if (pipe(fd))
        exit(1);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fd[1], STDOUT_FILENO);
        _exit(write_three(&w, "-", NPY_UNKNOWN) || npy_commit(&w, &e) ? 1 : 0);
    }
    close(fd[1]);
    ssize_t n = io_read_full(fd[0], piped, sizeof piped);
    close(fd[0]);
    waitpid(pid, &status, 0);
    struct map m;
    map_open(&m, in_dir("a.npy"), &e);
    memcpy(filed, m.data, m.n);
    ok(status == 0 && n == (ssize_t)m.n && memcmp(piped, filed, m.n) == 0, "through a pipe");
    map_close(&m);
}

static void make_part(const char *name, enum npy_type type, uint64_t rows, size_t dim, float from)
{
    struct npy_writer w;
    float *x = calloc(rows * dim + 1, sizeof *x);
    for (size_t i = 0; i < rows * dim; i++)
        x[i] = from + (float)(i / dim) + (float)(i % dim) / 8;
    if (npy_create(&w, in_dir(name), type, 1, (uint64_t[]){dim}, rows, &e) ||
        npy_write_f32(&w, x, rows, &e) || npy_commit(&w, &e))
        exit(1);
    free(x);
}

static void test_set(void)
{
    char p[4][256];
    const char *paths[4] = {p[0], p[1], p[2], p[3]};
    struct npy_set s;
    float x[100 * 5];
    make_part("0.npy", NPY_F2, 10, 5, 0);
    make_part("1.npy", NPY_F4, 0, 5, 0);
    make_part("2.npy", NPY_F4, 7, 5, 10);
    make_part("3.npy", NPY_F2, 3, 5, 17);
    for (int i = 0; i < 4; i++) {
        char name[8];
        snprintf(name, sizeof name, "%d.npy", i);
        strcpy(p[i], in_dir(name));
    }
    ok(npy_set_open(&s, paths, 4, &e) == 0 && s.rows == 20 && s.dim == 5, "four files");
    ok(npy_set_find(&s, 9) == 0 && npy_set_find(&s, 10) == 2 && npy_set_find(&s, 19) == 3, "find");
    bool right = npy_set_rows(&s, 0, 20, x, &e) == 0;
    for (int i = 0; i < 100 && right; i++)
        right = x[i] == (float)(i / 5) + (float)(i % 5) / 8;
    ok(right, "all rows as one matrix");
    ok(npy_set_rows(&s, 8, 10, x, &e) == 0 && x[0] == 8 && x[9 * 5] == 17, "a range over files");
    ok(npy_set_rows(&s, 19, 2, x, &e) == -1, "past the end");
    ok(npy_set_rows(&s, 20, 0, x, &e) == 0, "nothing at the end");
    uint64_t rows[] = {19, 0, 1, 2, 12, 13, 9, 10, 10};
    right = npy_set_gather(&s, rows, 9, x, &e) == 0;
    for (int i = 0; i < 9 && right; i++)
        right = x[i * 5] == (float)rows[i];
    ok(right, "rows picked in any order");
    rows[3] = 20;
    ok(npy_set_gather(&s, rows, 9, x, &e) == -1, "a row past the end");
    uint16_t h[50];
    ok(npy_set_rows_f16(&s, 0, 10, h, &e) == 0 && h[5] == half_from_f32_one(1), "as float16");
    ok(npy_set_rows_f16(&s, 0, 11, h, &e) == -1 && strstr(e.text, "<f4"), "which f4 is not");
    uint64_t picked[] = {19, 3};
    ok(npy_set_gather_f16(&s, picked, 2, h, &e) == 0 && h[0] == half_from_f32_one(19) &&
           h[5] == half_from_f32_one(3),
       "float16 rows picked as they are");
    ok(!npy_set_all(&s, NPY_F2) && !npy_set_all(&s, NPY_F4), "the files are of two types");
    struct map map;
    const void *data = NULL;
    bool resident = false;
    ok(npy_set_map(&s, 2, &map, &data, &resident, &e) == 0 && ((const float *)data)[5] == 11 &&
           resident,
       "a file just written is in the cache and can be used in place");
    map_close(&map);
    ok(npy_set_unchanged(&s, &e) == 0, "all are as they were");
    make_part("3.npy", NPY_F2, 4, 5, 17);
    ok(npy_set_unchanged(&s, &e) == -1 && strstr(e.text, "3.npy: changed"), "%s", e.text);
    ok(npy_set_map(&s, 3, &map, &data, &resident, &e) == -1, "nor is it mapped: %s", e.text);
    ok(npy_set_rows(&s, 17, 1, x, &e) == -1 && strstr(e.text, "changed"), "a file that changes");
    npy_set_close(&s);
    make_part("3.npy", NPY_F2, 4, 6, 17);
    ok(npy_set_open(&s, paths, 4, &e) == -1 && strstr(e.text, "6 columns"), "another width");
    ok(npy_set_open(&s, paths, 0, &e) == -1, "no files");
}

// An odd header length is legal; the rows must come out all the same.
static void test_unaligned(void)
{
    uint8_t buf[512];
    float rows[] = {1, 2, 3}, x[3];
    struct npy a;
    size_t n = build(buf, 1, "{'descr':'<f4','fortran_order':False,'shape':(3,)}", rows, 12, 1);
    write_file(in_dir("odd.npy"), buf, n);
    ok(npy_open(&a, in_dir("odd.npy"), &e) == 0 && npy_rows_f32(&a, 0, 3, x, &e) == 0 &&
           x[2] == 3 && (uintptr_t)a.data % 4 == 0,
       "an unaligned file");
    npy_close(&a);
    write_file(in_dir("odd.npy"), buf, n - 1);
    ok(npy_open(&a, in_dir("odd.npy"), &e) == -1 && strstr(e.text, "odd.npy: truncated"),
       "truncated");
    write_file(in_dir("odd.npy"), buf, 0);
    ok(npy_open(&a, in_dir("odd.npy"), &e) == -1, "empty");
}

static void test_golden(void)
{
    const char *root = getenv("CLIP_CID_SHARED");
    char path[512];
    struct stat st;
    struct npy a;
    char out[256];
    snprintf(path, sizeof path, "%s/golden/balance/embeddings.npy", root ? root : "../shared");
    if (stat(path, &st)) {
        ok(1, "NumPy's file # SKIP no goldens");
        return;
    }
    ok(npy_open_as(&a, path, NPY_F2, 2, &e) == 0 && a.h.rows == 6000 && a.h.dim == 48,
       "NumPy's file");
    size_t n = npy_format_header(out, sizeof out, NPY_F2, 2, a.h.shape);
    ok(n == a.h.data_at && memcmp(out, a.map.data, n) == 0, "has the header we write");
    npy_close(&a);
}

int main(void)
{
    if (!mkdtemp(dir))
        return 1;
    test_headers();
    test_format();
    test_write();
    test_pipe();
    test_set();
    test_unaligned();
    test_golden();
    char command[300];
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command) ? 1 : tap_done();
}
