// SPDX-License-Identifier: Apache-2.0
// Tokenizers other than CLIP's against the ids of the real libraries: needs the folder with the
// goldens, CLIP_CID_SHARED or ../shared.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cjson/cJSON.h>

#include "formats/npy.h"
#include "system/io.h"
#include "repair/clean.h"
#include "text/pieces.h"
#include "text/tokenizer.h"
#include "unit/text/texts.h"
#include "unit/tap.h"

static struct err err;
static char dir[3000];

static const char *in(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

// Texts that are not cleaned leave out those with a NUL (texts.h).
static cJSON *texts(const char *name)
{
    cJSON *j = texts_read(in(name), &err);
    if (!j) {
        printf("Bail out! %s\n", err.text);
        exit(1);
    }
    return j;
}

// Texts whose cleaned form is not the golden's.
static int unlike(enum text_form form, const cJSON *captions, const cJSON *want)
{
    struct text_bytes b = {0};
    int bad = 0;
    for (const cJSON *t = captions->child, *c = want->child; t && c; t = t->next, c = c->next)
        bad += text_clean_as(form, t->valuestring, strlen(t->valuestring), &b, &err) ||
               b.n != strlen(c->valuestring) || (b.n && memcmp(b.data, c->valuestring, b.n) != 0);
    text_bytes_release(&b);
    return bad;
}

// Rows that are not the golden's.
static int wrong(const char *folder, const char *ids, const struct tokenizer_style *style,
                 const cJSON *captions)
{
    struct npy want;
    char path[64];
    snprintf(path, sizeof path, "%s/%s", folder, ids);
    if (npy_open_as(&want, in(path), NPY_I4, 2, &err)) {
        printf("# %s\n", err.text);
        return -1;
    }
    struct tokenizer *t = tokenizer_open_as(in(folder), style, &err);
    int bad = t ? 0 : -1;
    size_t context = want.h.dim, n, r = 0;
    int32_t *row = malloc(context * sizeof *row);
    if (!t)
        printf("# %s\n", err.text);
    for (const cJSON *c = captions->child; t && c; c = c->next, r++) {
        if (!style->open_clip && strchr(c->valuestring, 1))
            continue;
        const int32_t *w = (const int32_t *)want.data + r * context;
        enum text_status s =
            tokenizer_encode(t, c->valuestring, strlen(c->valuestring), context, row, &n, &err);
        if (!s && memcmp(row, w, context * sizeof *row) == 0)
            continue;
        bad++;
        printf("# %zu '%s':", r, c->valuestring);
        for (size_t i = 0; i < context && i < 12; i++)
            printf(" %d/%d", row[i], w[i]);
        printf("\n");
    }
    free(row);
    tokenizer_free(t);
    npy_close(&want);
    return bad;
}

static void goldens(void)
{
    static const struct {
        const char *folder, *ids;
        struct tokenizer_style style;
        const char *what;
    } all[] = {
        {"siglip", "ids.npy", {true, true, false}, "SigLIP, unigram"},
        {"mt5",
         "ids.npy",
         {true, true, false},
         "mT5, unigram with byte pieces that count as words"},
        {"siglip2", "ids.npy", {true, true, false}, "SigLIP 2, Gemma's BPE with byte fallback"},
        {"bert", "ids.npy", {true, false, true}, "CLIPA, WordPiece"},
        {"xlm-v", "ids_json.npy", {true, false, false}, "XLM-V, as tokenizer.json stands"},
        {"siglip2", "ids_hf.npy", {false, false, false}, "GemmaTokenizer"},
        {"siglip-hf", "ids.npy", {false, false, false}, "SiglipTokenizer, spiece.model"},
    };
    cJSON *captions = texts("captions.json");
    for (size_t i = 0; captions && i < sizeof all / sizeof *all; i++) {
        int bad = wrong(all[i].folder, all[i].ids, &all[i].style, captions);
        ok(bad == 0, "%s: %d of %d rows differ", all[i].what, bad, cJSON_GetArraySize(captions));
    }
    cJSON *canonical = texts("siglip/cleaned.json"), *white = texts("bert/cleaned.json");
    int bad = unlike(TEXT_CANONICAL, captions, canonical);
    ok(bad == 0, "canonicalize: %d texts differ", bad);
    bad = unlike(TEXT_WHITESPACE, captions, white);
    ok(bad == 0, "white space: %d texts differ", bad);
    cJSON_Delete(captions);
    cJSON_Delete(canonical);
    cJSON_Delete(white);
}

int main(void)
{
    const char *shared = getenv("CLIP_CID_SHARED");
    snprintf(dir, sizeof dir, "%s/golden/teachers/tokenizers", shared ? shared : "../shared");
#ifndef CLIPCID_SENTENCEPIECE
    printf("1..0 # SKIP built without libsentencepiece\n");
    return 0;
#endif
    if (access(in("captions.json"), F_OK)) {
        printf("1..0 # SKIP no goldens: set CLIP_CID_SHARED\n");
        return 0;
    }
    goldens();
    return tap_done();
}
