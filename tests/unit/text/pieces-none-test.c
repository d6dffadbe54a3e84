// SPDX-License-Identifier: Apache-2.0
// A build without libsentencepiece: what stands for pieces.h there is linked in place of the
// library's, and tokenizers that need it are refused in words, while the others work.
#undef CLIPCID_SENTENCEPIECE
#include "text/pieces-none.c"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text/tokenizer.h"
#include "unit/tap.h"

static struct err e;

// The folder of one file, under the name that it has in a model folder; NULL with e set.
static struct tokenizer *open_alone(const char *from, const char *name)
{
    static const struct tokenizer_style style = {true, true, false};
    char dir[] = "/tmp/pieces-none.XXXXXX", to[64], here[3000], target[4096];
    if (!mkdtemp(dir) || !getcwd(here, sizeof here))
        exit(1);
    snprintf(to, sizeof to, "%s/%s", dir, name);
    snprintf(target, sizeof target, "%s/tests/data/tokenizer/other/%s", here, from);
    if (symlink(target, to))
        exit(1);
    struct tokenizer *t = tokenizer_open_as(dir, &style, &e);
    unlink(to);
    rmdir(dir);
    return t;
}

int main(void)
{
    static const char *const refused[][2] = {{"unigram.json", "tokenizer.json"},
                                             {"gemma.json", "tokenizer.json"},
                                             {"spiece.model", "spiece.model"},
                                             {"spiece.model", "sentencepiece.bpe.model"}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct tokenizer *t = open_alone(refused[i][0], refused[i][1]);
        ok(!t && strstr(e.text, "this build has no libsentencepiece") &&
               strstr(e.text, "/tmp/pieces-none."),
           "%s: %s", refused[i][0], t ? "taken" : e.text);
        tokenizer_free(t);
    }
    struct tokenizer *t = open_alone("bert.json", "tokenizer.json");
    ok(t, "WordPiece needs no library%s%s", t ? "" : ": ", t ? "" : e.text);
    tokenizer_free(t);
    return tap_done();
}
