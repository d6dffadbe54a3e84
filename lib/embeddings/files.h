// SPDX-License-Identifier: Apache-2.0
// The embeddings of many shards as one source of rows (NPY files, with or without sidecars), and
// the arrays that go with them, one file a shard under the same name in a folder.
#ifndef EMBEDDINGS_FILES_H
#define EMBEDDINGS_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/npy-set.h"
#include "formats/npy-write.h"
#include "formats/sidecar.h"
#include "search/row-source.h"

struct embedding_files {
    struct npy_set set;
    struct sidecar *sidecars; // [set.n_parts], empty where there is none
    size_t n_bare;            // files without sidecar
    struct row_source source; // over all rows; the struct must stay where it is
    struct map *maps;         // [set.n_parts], once the source was asked for its parts
    struct row_part *mapped;
};

// Opens the files; all must have one dimension and, where their sidecars say, one model and one
// tower (image or text), and no two the same last name. 0 or -1.
int embedding_files_open(struct embedding_files *f, const char *const *paths, size_t n,
                         struct err *e);
// The same for the operands of a command and then the lines of files_from (NULL: none).
int embedding_files_open_listed(struct embedding_files *f, char *const *operands, size_t n_operands,
                                const char *files_from, struct err *e);
// Refuses outputs that would replace an input or each other: files, and folders that get a file of
// each input's name. A NULL is no output. 0 or -1.
int embedding_files_check_outputs(const struct embedding_files *f, const char *const *files,
                                  size_t n_files, const char *const *dirs, size_t n_dirs,
                                  struct err *e);
void embedding_files_close(struct embedding_files *f); // safe on a zeroed struct
// How many rows from `first` on, at most `most`, are in one file; 0 behind the last.
uint64_t embedding_files_run(const struct embedding_files *f, uint64_t first, uint64_t most);

// Centroids: an f4 (or f2) array of unit rows k x dim (heap), made unit; a model or tower other
// than that of the files is refused. hex: digest of the rows as read.
float *embedding_files_centroids(const struct embedding_files *f, const char *path, size_t *k,
                                 char hex[DIGEST_HEX], struct err *e);

// Refuses centroids whose sidecar s (empty where there is none) names a model or a tower other than
// that of the files, or that have other columns. 0 or -1.
int embedding_files_fit(const struct embedding_files *f, const char *path, size_t dim,
                        const struct sidecar *s, struct err *e);
// Refuses two paths with the same last name. 0 or -1.
int embeddings_check_names(const char *const *paths, size_t n, struct err *e);

// What the sidecars of all outputs have in common.
struct embeddings_origin {
    const char *tool;
    int argc;
    char *const *argv;
    uint64_t seed;
    const char *with; // another input of all (centroids), or NULL
    const char *with_hex;
};
// "DIR/NAME.npy" for part i; heap.
char *embedding_files_path(const struct embedding_files *f, size_t i, const char *dir,
                           struct err *e);
// Writes the sidecar of `path`, made of part i with `w`, and gives the file its name. On failure
// nothing is left.
int embedding_files_commit(const struct embedding_files *f, size_t i, const char *path,
                           struct npy_writer *w, const struct embeddings_origin *o, struct err *e);
// The sidecar that it writes, less what is known of the rows only once they are made. 0 or -1.
int embedding_files_sidecar(const struct embedding_files *f, size_t i,
                            const struct embeddings_origin *o, struct sidecar *s, struct err *e);
// The same for an array made of all parts (centroids).
int embedding_files_commit_all(const struct embedding_files *f, const char *path,
                               struct npy_writer *w, const struct embeddings_origin *o,
                               struct err *e);

// Adds to d what the rows of all files are, and with `masks` (a folder, or NULL) which of them are
// kept: their digests from the sidecars, or from the files where there are none. 0 or -1.
int embedding_files_digest(const struct embedding_files *f, const char *masks, struct digest *d,
                           struct err *e);

// Refuses labels DIR/NAME.npy, before any is needed, that are missing, narrower than `top`, of
// another length, of other samples or embeddings, or that were not made with the centroids whose
// digest is `hex` and whose name, for messages, is `centroids`. 0 or -1.
int embedding_files_check_labels(const struct embedding_files *f, const char *dir, size_t top,
                                 const char *hex, const char *centroids, struct err *e);
// The first `top` columns of the labels DIR/NAME.npy (<i4) of rows [first, first + count). Files
// that are missing, too narrow, of another length or of other samples are refused.
int embedding_files_labels(const struct embedding_files *f, const char *dir, uint64_t first,
                           uint64_t count, size_t top, int32_t *labels, struct err *e);
// Ascending global rows that the masks DIR/NAME.npy keep, heap; *n: how many. A mask that is
// missing, of another length, of other samples or made from other embeddings is refused.
uint32_t *embedding_files_kept(const struct embedding_files *f, const char *dir, uint64_t *n,
                               struct err *e);

// Per row, heap: 1 where DIR/NAME.npy has a 1 (a mask, |u1) or a row that is neither zero nor
// without finite values (text embeddings, <f2 or <f4); *n: how many are 0. Files that are missing,
// of another length or of other samples, or of image embeddings, are refused.
uint8_t *embedding_files_may(const struct embedding_files *f, const char *dir, uint64_t *n,
                             struct err *e);

// Opens the text embeddings DIR/NAME.npy of the rows of f as a set of rows of its own. For files
// that embedding_files_scores has checked. 0 or -1.
int embedding_files_open_texts(struct embedding_files *texts, const struct embedding_files *f,
                               const char *dir, struct err *e);

// The cosine of each row of [first, first + count) with its text embedding in DIR/NAME.npy (<f2 or
// <f4), into score[row]; NaN where the text is zero or not finite, infinite where the picture is.
// Files that are missing, of other samples, of another model, of another width or of image
// embeddings are refused. 0 or -1.
int embedding_files_scores(const struct embedding_files *f, const char *dir, uint64_t first,
                           uint64_t count, int threads, float *score, struct err *e);

#endif
