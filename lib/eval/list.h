// SPDX-License-Identifier: Apache-2.0
// Lists of class names and of templates, in the forms that CLIP_benchmark, open_clip and their
// users keep them in. The end of the file's name chooses the form:
//     .json   an array of texts; an object of such arrays by name (CLIP_benchmark's
//             en_classnames.json), or of texts by class number
//     .py     assignments of lists of texts, or of `lambda c: f'a photo of a {c}.'` (open_clip's
//             zero_shot_metadata.py); other statements are passed over
//     other   one a line, blanks at both ends and empty lines left out; a text that starts with '['
//             and ends with ']' is read as JSON, or as Python when it is not JSON
// UTF-8 with or without a byte order mark; LF or CRLF.
#ifndef EVAL_LIST_H
#define EVAL_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct eval_lines {
    char **lines; // [n], NUL-terminated UTF-8; owned
    size_t n, cap;
    size_t *record; // [n]: number of the line or item, from 1
    size_t cap_record;
    const char *unit; // of the record numbers: "line" or "item"
};
void eval_lines_release(struct eval_lines *l);
// Appends n bytes of text. 0 or -1.
int eval_lines_add(struct eval_lines *l, const char *text, size_t n, size_t record, struct err *e);

enum eval_list_kind {
    EVAL_LIST_WORDS,    // one a line whatever the text is: nshards.txt, dataset_type.txt
    EVAL_LIST_CLASSES,  // class names
    EVAL_LIST_TEMPLATES // texts with a place for the class: {c}; a plain {} becomes {c}
};
// Reads the list at `path`. Of a file with several lists the one named `set` (with or without
// "wds_" before it) is taken, or the only one that can be meant; `path` may end with ":NAME" to say
// which. Errors give the file and the record. 0 or -1.
int eval_list_read(struct eval_lines *l, const char *path, enum eval_list_kind kind,
                   const char *set, struct err *e);

// A list of a file that may hold many, as the readers of the forms find them.
struct eval_named_list {
    char *name; // "" when it has none; owned
    struct eval_lines items;
    bool templates; // an item has a place for the class
    bool broken;    // it cannot be used; `why` says what is wrong
    struct err why;
};
struct eval_named_lists {
    struct eval_named_list *list;
    size_t n, cap;
};
// A new, empty list; NULL with e set.
struct eval_named_list *eval_named_lists_add(struct eval_named_lists *all, const char *name,
                                             size_t n_name, const char *unit, struct err *e);
void eval_named_lists_release(struct eval_named_lists *all);
// The lists of a Python text (NUL-terminated). Nothing of it is run. 0 or -1.
int eval_list_python(struct eval_named_lists *all, const char *text, struct err *e);
// The same of a JSON text.
int eval_list_json(struct eval_named_lists *all, const char *text, size_t n, struct err *e);

#endif
