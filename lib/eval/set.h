// SPDX-License-Identifier: Apache-2.0
// An evaluation set in CLIP_benchmark's WebDataset layout:
//     FOLDER/classnames.txt, zeroshot_classification_templates.txt (or .json, .py: eval/list.h)
//     FOLDER/dataset_type.txt (may be absent)
//     FOLDER/{test,train}/nshards.txt and 0.tar .. n-1.tar
// A sample is a picture and `cls` (class number), `npy` (0 or 1 for each class, when
// dataset_type.txt says multilabel) or `txt` (captions, one a line, when it says retrieval).
#ifndef EVAL_SET_H
#define EVAL_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/path.h"
#include "eval/list.h"
#include "image/picture.h"

enum eval_type { EVAL_CLASSES, EVAL_MULTILABEL, EVAL_RETRIEVAL };

struct eval_set {
    char *folder, *name; // name: last part of the folder
    enum eval_type type;
    struct eval_lines classes, templates; // none for retrieval; each template has a {c}
};

// Reads what describes the set. `classnames` and `templates` (NULL = the set's own) are files to
// use instead. 0 or -1.
int eval_set_open(struct eval_set *s, const char *folder, const char *classnames,
                  const char *templates, struct err *e);
void eval_set_close(struct eval_set *s);
// The number of shards of a split; *n = 0 when the set has no such split. 0 or -1.
int eval_set_shards(const struct eval_set *s, const char *split, size_t *n, struct err *e);
// The samples of a split, by the headers of its shards; 0 where they cannot be read.
size_t eval_set_count(const struct eval_set *s, const char *split);
// Path of shard i of the split into path[PATH_BYTES]. 0, or -1: too long.
int eval_set_shard_path(char path[PATH_BYTES], const struct eval_set *s, const char *split,
                        size_t i, struct err *e);
// Digest of the bytes of all shards of the split, so that features can be kept for it.
int eval_set_digest(const struct eval_set *s, const char *split, char *hex, struct err *e);
// `template` with every {c} replaced by the class name; freed by the caller.
char *eval_fill_template(const char *template_text, const char *class_name, struct err *e);

// One sample; everything belongs to the reader and lasts until the sink returns.
struct eval_sample {
    uint64_t row;           // in the split, over all shards
    const char *shard_name; // "0.tar"
    const char *key;
    const uint8_t *pixels; // size x size RGB; NULL: the picture cannot be decoded (`reason`)
    const char *reason;
    int32_t label;               // EVAL_CLASSES
    const uint8_t *targets;      // EVAL_MULTILABEL, [classes]
    const char *const *captions; // EVAL_RETRIEVAL
    size_t n_captions;
};
typedef int eval_sink_fn(void *user, const struct eval_sample *s, struct err *e);

// Reads and decodes a split on `threads` threads and delivers its samples to the sink in order;
// with `picture` NULL nothing is decoded and all have pixels NULL. A damaged archive and a sample
// without a usable label are errors, because a figure over a part of the set is not the set's
// figure. 0 or -1.
int eval_set_read(const struct eval_set *s, const char *split, const struct read_picture *picture,
                  int threads, eval_sink_fn *sink, void *user, struct err *e);

#endif
