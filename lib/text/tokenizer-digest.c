// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer-digest.h"

#include "text/tokenizer-vocab.h"

int tokenizer_digest(const char *path, char hex[DIGEST_HEX], struct err *e)
{
    struct vocab v;
    uint64_t tokens = 0; // a sum: the order of a hash table means nothing
    struct digest *d = digest_new(e);
    if (!d)
        return -1;
    if (vocab_read(&v, path, e)) {
        digest_free(d);
        return -1;
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
