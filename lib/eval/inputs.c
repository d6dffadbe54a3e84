// SPDX-License-Identifier: Apache-2.0
#include "eval/inputs.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path.h"
#include "model/folder.h"

enum { KEY_ROOM = 512 };

int eval_tokenizer_digest(const char *path, char hex[DIGEST_HEX], struct err *e)
{
    struct stat st;
    if (stat(path, &st))
        return err_errno(e, "cannot read '%s'", path);
    if (!S_ISDIR(st.st_mode))
        return digest_file(path, hex, e);
    struct digest *all = digest_new(e);
    if (!all)
        return -1;
    int rc = 0;
    for (size_t i = 0; rc == 0 && model_tokenizer_files[i]; i++) {
        char file[PATH_BYTES], one[DIGEST_HEX];
        rc = path_join(file, path, model_tokenizer_files[i], e);
        if (rc == 0 && access(file, F_OK) == 0 && (rc = digest_file(file, one, e)) == 0) {
            digest_key(all, model_tokenizer_files[i]);
            digest_key(all, one);
        }
    }
    digest_hex(all, hex);
    digest_free(all);
    return rc;
}

static void add_lines(struct digest *d, const char *what, const struct eval_lines *l)
{
    digest_key(d, what);
    for (size_t i = 0; i < l->n; i++)
        digest_key(d, l->lines[i]);
}

static int add_split(struct digest *d, const struct eval_set *s, const char *split, struct err *e)
{
    char hex[DIGEST_HEX];
    if (eval_set_digest(s, split, hex, e))
        return -1;
    digest_key(d, split);
    digest_key(d, hex);
    return 0;
}

int eval_inputs(const struct eval_model *m, const struct eval_set *s, const char *split,
                const char *train, const char *options, char hex[DIGEST_HEX], struct err *e)
{
    static const char *const types[] = {[EVAL_CLASSES] = "classes",
                                        [EVAL_MULTILABEL] = "multilabel",
                                        [EVAL_RETRIEVAL] = "retrieval"};
    char how[KEY_ROOM];
    if (eval_features_key(how, sizeof how, m, e))
        return -1;
    struct digest *all = digest_new(e);
    if (!all)
        return -1;
    digest_key(all, how);
    digest_key(all, m->tokenizer_digest);
    digest_key(all, s->name);
    digest_key(all, types[s->type]);
    digest_key(all, options);
    add_lines(all, "classes", &s->classes);
    add_lines(all, "templates", &s->templates);
    int rc = add_split(all, s, split, e);
    if (rc == 0 && train)
        rc = add_split(all, s, train, e);
    digest_hex(all, hex);
    digest_free(all);
    return rc;
}
