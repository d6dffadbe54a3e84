// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer-digest.h"

#include <unistd.h>

#include "base/path.h"
#include "system/io.h"
#include "text/tokenizer-vocab.h"
#include "text/tokenizer.h"

// Digests the files as they are: each has only one form.
static int digest_files(struct digest *d, const char *folder, struct err *e)
{
    for (size_t i = 0; tokenizer_other_files[i]; i++) {
        char path[PATH_BYTES];
        struct map m;
        if (path_join(path, folder, tokenizer_other_files[i], e))
            return -1;
        if (access(path, F_OK))
            continue;
        if (map_open(&m, path, e))
            return -1;
        digest_key(d, tokenizer_other_files[i]);
        digest_add(d, m.data, m.n);
        map_close(&m);
    }
    return 0;
}

int tokenizer_digest(const char *path, char hex[DIGEST_HEX], struct err *e)
{
    struct vocab v;
    uint64_t tokens = 0; // a sum: the order of a hash table means nothing
    struct digest *d = digest_new(e);
    if (!d)
        return -1;
    int other = tokenizer_is_other(path, e);
    if (other < 0 || (other ? digest_files(d, path, e) : vocab_read(&v, path, e))) {
        digest_free(d);
        return -1;
    }
    if (other) {
        digest_hex(d, hex);
        digest_free(d);
        return 0;
    }
    for (size_t i = 0; v.slots && i <= v.mask; i++)
        if (v.slots[i].id >= 0)
            tokens +=
                digest_u64_two(v.slots[i].text, v.slots[i].n, &v.slots[i].id, sizeof v.slots[i].id);
    digest_add(d, &tokens, sizeof tokens);
    for (size_t i = 0; i < v.n_merges; i++)
        digest_add(d, &v.merges[i], sizeof v.merges[i]);
    digest_hex(d, hex);
    digest_free(d);
    vocab_release(&v);
    return 0;
}
