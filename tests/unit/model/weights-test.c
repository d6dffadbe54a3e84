// SPDX-License-Identifier: Apache-2.0
// Weights: the table against open_clip's published sizes, folders in both layouts, what is refused.
// Where the shared reference models are, those too.
#include "model/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/json.h"
#include "base/mem.h"
#include "model/folder.h"
#include "unit/tap.h"

static char root[] = "/tmp/clip-weights-XXXXXX";

static const char *in(const char *name)
{
    static char buf[4][512];
    static int k;
    k = (k + 1) % 4;
    snprintf(buf[k], sizeof buf[k], "%s/%s", root, name);
    return buf[k];
}

static void test_table(void)
{
    static const struct {
        const char *name;
        size_t tensors;
        double millions;
    } models[] = {{"ViT-S-32", 302, 63.09},     {"ViT-B-32", 302, 151.28},
                  {"ViT-B-16", 302, 149.62},    {"ViT-L-14", 446, 427.62},
                  {"ViT-H-14", 686, 986.11},    {"ViT-g-14", 782, 1366.68},
                  {"ViT-bigG-14", 974, 2539.57}};
    struct err e;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[128];
        struct clip_config c;
        struct clip_table t;
        snprintf(path, sizeof path, "conf/models/%s.json", models[i].name);
        if (clip_config_read_file(&c, path, &e) || clip_table_init(&t, &c, &e)) {
            ok(0, "%s", e.text);
            continue;
        }
        ok(t.n == models[i].tensors, "%s: %zu tensors", models[i].name, t.n);
        ok(fabs((double)t.n_params / 1e6 - models[i].millions) < 0.006, "%.2f M parameters",
           (double)t.n_params / 1e6);
        clip_table_release(&t);
    }
}

// Small enough to write often: both towers differ in every size; layer scale when ls.
static struct clip_config small(bool ls)
{
    struct clip_config c = {.embed_dim = 6,
                            .image_size = 9,
                            .patch_size = 4,
                            .context = 5,
                            .vocab = 11,
                            .eos_id = -1,
                            .logit_scale = CLIP_LOGIT_SCALE};
    struct err e;
    c.vision = (struct clip_tower){
        .layers = 2, .width = 8, .heads = 2, .mlp = 20, .eps = 1e-5, .ls_init = ls ? 0.1 : 0};
    c.text = (struct clip_tower){.layers = 3, .width = 10, .heads = 5, .mlp = 40, .eps = 1e-5};
    c.has_logit_bias = ls;
    c.logit_bias = ls ? -10 : 0;
    clip_preprocess_default(&c.preprocess, 9);
    ok(!clip_config_check(&c, &e), "small config");
    return c;
}

static void test_find(void)
{
    struct clip_config c = small(true);
    struct clip_table t;
    struct err e;
    int bad = clip_table_init(&t, &c, &e) ? 1 : 0;
    size_t flat = 0;
    for (size_t i = 0; i < t.n; i++) {
        bad += clip_table_find(&t, t.t[i].tower, t.t[i].kind, t.t[i].layer) != (int)i;
        bad += clip_table_find_name(&t, t.t[i].name) != (int)i;
        bad += t.t[i].offset < flat || t.t[i].offset % 16;
        flat = t.t[i].offset + t.t[i].numel;
    }
    ok(bad == 0 && flat <= t.n_flat, "every tensor is found by role and by name, none overlap");
    ok(clip_table_find(&t, CLIP_TEXT, CLIP_K_LS1, 0) == -1 &&
           clip_table_find(&t, CLIP_VISION, CLIP_K_LN1_W, 2) == -1 &&
           clip_table_find(&t, CLIP_TEXT, CLIP_K_CLASS, -1) == -1,
       "what the model lacks is not");
    clip_table_release(&t);
}

static float *new_model(struct clip_table *t, bool ls, uint64_t seed)
{
    struct clip_config c = small(ls);
    struct err e;
    if (clip_table_init(t, &c, &e))
        return NULL;
    float *flat = mem_alloc(t->n_flat, sizeof *flat, &e);
    for (size_t i = 0; flat && i < t->n; i++)
        clip_init_tensor(t, i, seed, flat + t->t[i].offset);
    return flat;
}

static int write_flat(const char *folder, enum model_layout layout, const struct clip_table *t,
                      const float *flat, enum st_dtype dtype, struct err *e)
{
    struct model_flat f = {t, flat};
    struct model_source s = {.table = t, .get = model_get_flat, .user = &f, .dtype = dtype};
    return model_folder_write(folder, layout, &s, e);
}

static int rewrite(const char *to, enum model_layout layout, const char *from, enum st_dtype dtype,
                   struct err *e)
{
    struct clip_weights w;
    if (clip_weights_open(&w, from, e))
        return -1;
    struct model_source s = {
        .table = &w.table, .get = model_get_weights, .user = &w, .dtype = dtype};
    int rc = model_folder_write(to, layout, &s, e);
    clip_weights_close(&w);
    return rc;
}

static bool same_file(const char *a, const char *b)
{
    struct map x, y;
    struct err e;
    if (map_open(&x, a, &e))
        return false;
    if (map_open(&y, b, &e)) {
        map_close(&x);
        return false;
    }
    bool same = x.n == y.n && memcmp(x.data, y.data, x.n) == 0;
    map_close(&x);
    map_close(&y);
    return same;
}

// Largest difference of a folder's values from flat's, or a negative number with e set.
static double difference(const char *folder, const struct clip_table *t, const float *flat,
                         struct err *e)
{
    double worst = 0;
    float *got = mem_alloc(t->n_flat, sizeof *got, e);
    if (!got || clip_weights_load_into(folder, t, got, e)) {
        free(got);
        return -1;
    }
    for (size_t i = 0; i < t->n; i++)
        for (size_t k = 0; k < t->t[i].numel; k++)
            worst = fmax(worst, fabs((double)got[t->t[i].offset + k] - flat[t->t[i].offset + k]));
    free(got);
    return worst;
}

static void test_layouts(void)
{
    struct clip_table t;
    struct err e = {.text = ""};
    float *flat = new_model(&t, false, 1);
    ok(!write_flat(in("a"), MODEL_OPEN_CLIP, &t, flat, ST_F32, &e), "open_clip %s", e.text);
    ok(difference(in("a"), &t, flat, &e) == 0, "reads back the same %s", e.text);
    FILE *f = fopen(in("a/merges.txt"), "w");
    if (f) {
        fputs("#version\n", f);
        fclose(f);
    }
    ok(!rewrite(in("b"), MODEL_HF, in("a"), ST_F32, &e), "to Hugging Face %s", e.text);
    ok(difference(in("b"), &t, flat, &e) == 0, "reads back the same %s", e.text);
    ok(!rewrite(in("c"), MODEL_OPEN_CLIP, in("b"), ST_F32, &e), "and back %s", e.text);
    ok(same_file(in("a/open_clip_model.safetensors"), in("c/open_clip_model.safetensors")) &&
           same_file(in("a/open_clip_config.json"), in("c/open_clip_config.json")),
       "byte for byte the same");
    ok(!model_folder_copy_tokenizer(in("c"), in("a"), &e) &&
           same_file(in("a/merges.txt"), in("c/merges.txt")),
       "a tokenizer's file copied");
    ok(!model_folder_copy_tokenizer(in("c"), in("a/merges.txt"), &e) &&
           same_file(in("a/merges.txt"), in("c/bpe_simple_vocab_16e6.txt")),
       "a vocabulary by itself under the name that is looked for");
    ok(!rewrite(in("a"), MODEL_HF, in("a"), ST_F32, &e) &&
           same_file(in("a/model.safetensors"), in("b/model.safetensors")) &&
           difference(in("a"), &t, flat, &e) == 0,
       "both layouts in one folder %s", e.text);
    ok(!write_flat(in("d"), MODEL_OPEN_CLIP, &t, flat, ST_F16, &e) &&
           difference(in("d"), &t, flat, &e) < 2e-3,
       "float16 %s", e.text);
    ok(!write_flat(in("e"), MODEL_HF, &t, flat, ST_BF16, &e) &&
           difference(in("e"), &t, flat, &e) < 2e-2,
       "bfloat16 %s", e.text);
    float kept = flat[t.t[3].offset];
    flat[t.t[3].offset] = 65520;
    ok(write_flat(in("x"), MODEL_OPEN_CLIP, &t, flat, ST_F16, &e) == -1 &&
           strstr(e.text, t.t[3].name) && strstr(e.text, "65520") &&
           access(in("x/open_clip_config.json"), F_OK),
       "a value that float16 cannot hold is refused: %s", e.text);
    flat[t.t[3].offset] = 65519;
    ok(!write_flat(in("x"), MODEL_OPEN_CLIP, &t, flat, ST_F16, &e), "the largest that it can");
    flat[t.t[3].offset] = kept;
    ok(write_flat(in("f"), MODEL_HF, &t, flat, ST_I32, &e) == -1 && access(in("f"), F_OK),
       "int32 refused, nothing made: %s", e.text);
    free(flat);
    clip_table_release(&t);

    flat = new_model(&t, true, 2);
    t.cfg.custom_text = true;
    e.text[0] = 0;
    ok(!write_flat(in("g"), MODEL_OPEN_CLIP, &t, flat, ST_F32, &e) &&
           difference(in("g"), &t, flat, &e) == 0,
       "layer scale, bias, custom text %s", e.text);
    ok(rewrite(in("h"), MODEL_HF, in("g"), ST_F32, &e) == -1 && access(in("h"), F_OK),
       "not in Hugging Face's form: %s", e.text);
    free(flat);
    clip_table_release(&t);
}

static void test_rows(void)
{
    struct clip_weights w;
    struct err e;
    float all[600], some[600];
    int bad = 0;
    if (clip_weights_open(&w, in("b"), &e)) {
        ok(0, "%s", e.text);
        return;
    }
    for (size_t i = 0; i < w.table.n; i++) {
        const struct clip_tensor *t = &w.table.t[i];
        size_t rows = t->rank ? t->shape[0] : 1, width = t->numel / rows;
        enum st_dtype d;
        if (t->numel > 600)
            continue;
        clip_weights_get(&w, i, all);
        for (size_t n = 1; n <= rows; n++)
            for (size_t r = 0; r + n <= rows; r++) {
                clip_weights_rows(&w, i, r, n, some);
                bad += memcmp(some, all + r * width, n * width * sizeof *all) != 0;
            }
        const void *raw = clip_weights_raw(&w, i, &d);
        bool split = t->kind == CLIP_K_QKV_W || t->kind == CLIP_K_QKV_B || t->kind == CLIP_K_HEAD;
        bad += split ? raw != NULL : !raw || d != ST_F32 || memcmp(raw, all, t->numel * 4) != 0;
        clip_weights_drop(&w, i);
    }
    ok(bad == 0, "any run of rows, raw views");
    clip_weights_close(&w);
}

// Writes folder/`file` from model a's tensors with one left out, renamed, reshaped, retyped.
static void write_variant(const char *file, int leave_out, const char *add, int reshape,
                          enum st_dtype dtype, const char *prefix)
{
    struct safetensors s;
    struct err e;
    struct st_spec specs[200];
    static char names[200][128];
    static const float zeros[1024];
    struct st_writer w;
    struct out o;
    size_t n = 0;
    if (st_open(&s, in("a/open_clip_model.safetensors"), &e))
        return;
    for (size_t i = 0; i < s.n_tensors && i < 198; i++) {
        if ((int)i == leave_out)
            continue;
        snprintf(names[n], sizeof names[n], "%s%s", prefix, s.tensors[i].name);
        specs[n] = (struct st_spec){.name = names[n], .dtype = dtype, .rank = s.tensors[i].rank};
        memcpy(specs[n].shape, s.tensors[i].shape, sizeof specs[n].shape);
        if ((int)i == reshape)
            specs[n].shape[0]++;
        n++;
    }
    if (add)
        specs[n++] = (struct st_spec){.name = add, .dtype = dtype, .rank = 0};
    int rc = out_open(&o, file, &e) || st_writer_begin(&w, &o, specs, n, NULL, 0, &e);
    while (!rc && w.left)
        rc = st_writer_put(&w, zeros, w.left < sizeof zeros ? (size_t)w.left : sizeof zeros, &e);
    ok(!rc && !out_commit(&o, &e), "variant written");
    st_close(&s);
}

static void opens(const char *why)
{
    struct clip_weights w;
    struct err e = {.text = ""};
    int rc = clip_weights_open(&w, in("v"), &e);
    if (why)
        ok(rc == -1 && strstr(e.text, why), "refused: %s (%s)", why, e.text);
    else
        ok(rc == 0, "accepted %s", e.text);
    if (!rc)
        clip_weights_close(&w);
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    if (f) {
        fputs(text, f);
        fclose(f);
    }
}

static void test_hostile(void)
{
    const char *file = in("v/open_clip_model.safetensors");
    char keep[512];
    snprintf(keep, sizeof keep, "%s", file);
    opens("no open_clip_config.json");
    mkdir(in("v"), 0777);
    write_text(in("v/open_clip_config.json"), "{");
    opens("open_clip_config.json");
    unlink(in("v/open_clip_config.json"));
    struct clip_config c = small(false);
    struct err e;
    cJSON *j = clip_config_to_open_clip(&c, &e);
    ok(j && !json_write_file(in("v/open_clip_config.json"), j, &e), "config");
    cJSON_Delete(j);
    opens("no open_clip_model.safetensors");
    write_text(keep, "");
    opens("shorter than 8");
    write_variant(keep, -1, NULL, -1, ST_F32, "");
    opens(NULL);
    write_variant(keep, -1, NULL, -1, ST_F32, "module.");
    opens(NULL);
    write_variant(keep, -1, "context_length", -1, ST_F32, "");
    opens(NULL);
    write_variant(keep, 0, NULL, -1, ST_F32, "");
    opens("'ln_final.bias' is missing");
    write_variant(keep, -1, "extra", -1, ST_F32, "");
    opens("'extra' is not part");
    write_variant(keep, -1, NULL, 1, ST_F32, "");
    opens("'ln_final.weight' has shape [11], the config asks for [10]");
    write_variant(keep, -1, NULL, -1, ST_I32, "");
    opens("is I32");
    write_variant(keep, -1, NULL, -1, ST_F64, "");
    opens(NULL);
    write_variant(keep, -1, NULL, -1, ST_F32, "x.");
    opens("is missing");
    write_variant(keep, -1, NULL, -1, ST_F32, "");
    if (truncate(keep, 3000))
        ok(0, "truncate");
    opens("past the end");
    write_variant(keep, -1, NULL, -1, ST_F32, "");
    write_text(in("v/config.json"),
               "{\"model_type\":\"clip\",\"vision_config\":{\"hidden_act\":\"quick_gelu\"}}");
    opens("hidden_act 'quick_gelu'");
    write_text(in("v/config.json"), "{\"model_type\":\"clip\"}");
    opens(NULL);
}

// Two files and an index.
static void test_index(void)
{
    struct safetensors s;
    struct err e = {.text = ""};
    char map[20000];
    size_t at = 0;
    mkdir(in("i"), 0777);
    if (st_open(&s, in("b/model.safetensors"), &e)) {
        ok(0, "%s", e.text);
        return;
    }
    at += (size_t)snprintf(map, sizeof map, "{\"weight_map\":{");
    for (int half = 0; half < 2; half++) {
        struct st_spec specs[200];
        struct st_writer w;
        struct out o;
        size_t n = 0;
        for (size_t i = (size_t)half; i < s.n_tensors; i += 2) {
            struct st_tensor *t = &s.tensors[i];
            specs[n] =
                (struct st_spec){.name = t->name, .dtype = ST_F32, .rank = t->rank, .user = t};
            memcpy(specs[n++].shape, t->shape, sizeof t->shape);
            at += (size_t)snprintf(map + at, sizeof map - at, "%s\"%s\":\"%d.safetensors\"",
                                   i ? "," : "", t->name, half);
        }
        int rc = out_open(&o, in(half ? "i/1.safetensors" : "i/0.safetensors"), &e) ||
                 st_writer_begin(&w, &o, specs, n, NULL, 0, &e);
        for (size_t i = 0; i < n && !rc; i++) {
            struct st_tensor *t = specs[i].user;
            rc = st_writer_put(&w, t->data, t->n_bytes, &e);
        }
        ok(!rc && !out_commit(&o, &e), "part %d written", half);
    }
    snprintf(map + at, sizeof map - at, "}}");
    write_text(in("i/model.safetensors.index.json"), map);
    st_close(&s);
    ok(!rewrite(in("i"), MODEL_OPEN_CLIP, in("b"), ST_F32, &e) &&
           !unlink(in("i/open_clip_model.safetensors")) &&
           !rewrite(in("j"), MODEL_OPEN_CLIP, in("i"), ST_F32, &e) &&
           same_file(in("a/open_clip_model.safetensors"), in("j/open_clip_model.safetensors")),
       "read through the index %s", e.text);
}

static void test_load_into(void)
{
    struct clip_table t, to;
    struct err e = {.text = ""};
    float *flat = new_model(&t, false, 1);
    struct clip_config c = t.cfg;
    c.image_size = c.preprocess.size = 16;
    c.context = 8;
    ok(!clip_config_check(&c, &e) && !clip_table_init(&to, &c, &e), "larger config");
    float *big = mem_alloc(to.n_flat, sizeof *big, &e);
    ok(!clip_weights_load_into(in("a"), &to, big, &e), "loaded with other positions %s", e.text);
    const struct clip_tensor *a = &t.t[clip_table_find(&t, CLIP_VISION, CLIP_K_POS, -1)];
    const struct clip_tensor *b = &to.t[clip_table_find(&to, CLIP_VISION, CLIP_K_POS, -1)];
    float want[17 * 8];
    ok(!clip_resize_grid(flat + a->offset, 2, want, 4, 8, 1, &e) &&
           !memcmp(want, big + b->offset, sizeof want),
       "position embeddings resized");
    clip_table_release(&to);
    c.patch_size = 2;
    ok(!clip_config_check(&c, &e) && !clip_table_init(&to, &c, &e) &&
           clip_weights_load_into(in("a"), &to, big, &e) == -1 && strstr(e.text, "patch_size"),
       "refused: %s", e.text);
    clip_table_release(&to);
    c = t.cfg;
    c.text.act = CLIP_QUICK_GELU;
    ok(!clip_table_init(&to, &c, &e) && clip_weights_load_into(in("a"), &to, big, &e) == -1 &&
           strstr(e.text, "quick_gelu"),
       "refused: %s", e.text);
    clip_table_release(&to);
    clip_table_release(&t);
    free(big);
    free(flat);
}

static void test_golden(void)
{
    const char *shared = getenv("CLIP_CID_SHARED");
    char dir[3][512], a[512], b[512];
    static const char *const names[] = {"tiny-gelu", "tiny-quickgelu", "tiny-quickgelu-hf"};
    struct err e = {.text = ""};
    shared = shared ? shared : "../shared";
    for (int i = 0; i < 3; i++)
        snprintf(dir[i], sizeof dir[i], "%s/golden/models/%s", shared, names[i]);
    if (access(dir[0], F_OK)) {
        ok(1, "reference models # SKIP not here");
        return;
    }
    for (int i = 0; i < 3; i++) {
        snprintf(a, sizeof a, "g%d", i);
        snprintf(b, sizeof b, "h%d", i);
        ok(!rewrite(in(a), i == 2 ? MODEL_HF : MODEL_OPEN_CLIP, dir[i], ST_F32, &e), "%s %s",
           names[i], e.text);
        ok(!rewrite(in(b), i == 2 ? MODEL_OPEN_CLIP : MODEL_HF, dir[i], ST_F32, &e), "%s %s",
           names[i], e.text);
        snprintf(a, sizeof a, "h%d", i);
        snprintf(b, sizeof b, "k%d", i);
        ok(!rewrite(in(b), i == 2 ? MODEL_HF : MODEL_OPEN_CLIP, in(a), ST_F32, &e), "%s %s",
           names[i], e.text);
        const char *f = i == 2 ? "model.safetensors" : "open_clip_model.safetensors";
        snprintf(a, sizeof a, "g%d/%s", i, f);
        snprintf(b, sizeof b, "k%d/%s", i, f);
        ok(same_file(in(a), in(b)), "%s: there and back the same bytes", names[i]);
    }
    ok(same_file(in("g1/open_clip_model.safetensors"), in("h2/open_clip_model.safetensors")),
       "tiny-quickgelu is the same model in both layouts");
}

int main(void)
{
    char command[64];
    if (!mkdtemp(root))
        return 1;
    test_table();
    test_find();
    test_layouts();
    test_rows();
    test_hostile();
    test_index();
    test_load_into();
    test_golden();
    snprintf(command, sizeof command, "rm -r %s", root);
    ok(system(command) == 0, "cleaned up");
    return tap_done();
}
