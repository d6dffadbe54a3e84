// SPDX-License-Identifier: Apache-2.0
// Around the training loop: the words of a data command, the log that a resumed run takes up, the
// options that must not change, teacher rows by shard and ordinal, what a step does to what it
// should not touch.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "system/io.h"
#include "formats/json.h"
#include "formats/npy-write.h"
#include "unit/tap.h"
#include "runs/checkpoint-dir.h"
#include "runs/checkpoint.h"
#include "runs/log.h"
#include "train/count.h"
#include "train/rows.h"
#include "feed/source.h"
#include "train/step.h"

static const struct checkpoint_keep keep_two = {2, 0, 0};

static char dir[] = "/tmp/train-test-XXXXXX";

static const uint64_t numbers[N_NUMBERS] = {3, 14, 159, 2, 6};

static void words_are(const char *command, const char *want, bool skips_wanted)
{
    struct err e;
    bool used[N_NUMBERS];
    char got[256] = "";
    char **w = train_words(command, numbers, used, &e);
    for (size_t i = 0; w && w[i]; i++) {
        strcat(got, i ? "|" : "");
        strcat(got, w[i]);
    }
    ok(w && !strcmp(got, want) && used[NUMBER_SKIP] == skips_wanted, "%s -> %s", command, got);
    train_words_free(w);
}

static void words(void)
{
    struct err e;
    bool used[N_NUMBERS];
    words_are("cat  a\tb", "cat|a|b", false);
    words_are("x --seed {seed} --epoch={epoch} {skip}", "x|--seed|14|--epoch=3|159", true);
    words_are("sh -c 'x {skip}'", "sh|-c|x {skip}", false);
    words_are("sh -c \"x {skip}\"", "sh|-c|x 159", true);
    words_are("sh -c 'a | b {epoch}' \"c {epoch}\"", "sh|-c|a | b {epoch}|c 3", false);
    words_are("a '' \"\" b\\ c {x} \\'", "a|||b c|{x}|'", false);
    words_are("x --part {part}/{parts} '{part}'", "x|--part|2/6|{part}", false);
    ok(!train_words("", numbers, used, &e) && !train_words("  ", numbers, used, &e),
       "an empty command");
    ok(!train_words("a 'b", numbers, used, &e) && strstr(e.text, "quotation"), "an open quotation");
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
}

static void log_lines(void)
{
    char path[256], text[256] = "";
    struct train_log l;
    struct err e;
    snprintf(path, sizeof path, "%s/log", dir);
    write_text(path, "{\"step\":1}\n{\"step\":2}\nrubbish\n{\"step\":3}\n{\"step\":4");
    cJSON *o = cJSON_Parse("{\"step\":3,\"x\":1}");
    ok(!train_log_open(&l, path, true, 2, true, &e) && !train_log_line(&l, o, &e),
       "taken up at step 2");
    train_log_close(&l);
    FILE *f = fopen(path, "r");
    ok(fread(text, 1, sizeof text - 1, f) > 0, "the file");
    fclose(f);
    ok(!strcmp(text, "{\"step\":1}\n{\"step\":2}\n{\"step\":3,\"x\":1}\n"), "each step once");
    for (int looked = 0; looked < 2; looked++) {
        write_text(path,
                   "{\"step\":1,\"eval\":\"a\"}\n{\"step\":2}\n{\"step\":2,\"eval\":\"a\"}\n");
        memset(text, 0, sizeof text);
        ok(!train_log_open(&l, path, true, 2, looked, &e), "after an evaluation, or in one");
        train_log_close(&l);
        f = fopen(path, "r");
        ok(fread(text, 1, sizeof text - 1, f) > 0, "the file");
        fclose(f);
        ok(!strcmp(text,
                   looked
                       ? "{\"step\":1,\"eval\":\"a\"}\n{\"step\":2}\n{\"step\":2,\"eval\":\"a\"}\n"
                       : "{\"step\":1,\"eval\":\"a\"}\n{\"step\":2}\n"),
           "one that will be made again is out");
    }
    ok(!train_log_open(&l, path, false, 0, true, &e), "a new run");
    train_log_close(&l);
    struct stat st;
    ok(!stat(path, &st) && st.st_size == 0, "starts a new log");
    cJSON_Delete(o);
}

static void options(void)
{
    struct err e;
    cJSON *a = cJSON_Parse("{\"lr\":0.001,\"clip\":1}"), *b = cJSON_Parse("{\"lr\":0.001}");
    ok(!train_options_same(a, a, false, &e), "the same options");
    ok(train_options_same(b, a, false, &e) && strstr(e.text, "clip"), "one more is a change");
    ok(train_options_same(a, b, false, &e) && strstr(e.text, "clip"), "one less too");
    cJSON_Delete(a);
    cJSON_Delete(b);
}

static void make_rows(const char *name, uint64_t n, size_t dim)
{
    char path[256];
    struct npy_writer w;
    struct err e;
    uint64_t shape[1] = {dim};
    float row[4] = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    npy_create(&w, path, NPY_F2, 1, shape, NPY_UNKNOWN, &e);
    for (uint64_t i = 0; i < n; i++) {
        row[0] = (float)i;
        npy_write_f32(&w, row, 1, &e);
    }
    npy_commit(&w, &e);
}

static void rows(void)
{
    struct train_rows r;
    struct err e;
    float x[4];
    struct samples_record s = {.shard = 2, .shard_name = "00007.tar", .ordinal = 3};
    make_rows("00007.npy", 5, 4);
    make_rows("00008.npy", 2, 4);
    struct train_folders f = {.image = dir};
    struct train_count c;
    ok(!train_count_read(&f, true, 2, &c, &e) && c.dim_t == 4 && c.rows == 7 && c.shards == 2 &&
           c.no_teacher == 2 && c.samples == 5,
       "a folder of rows");
    train_rows_open(&r, dir, false, c.dim_t);
    ok(train_rows_get(&r, &s, x, &e) == 1 && x[0] == 3, "row by shard and ordinal");
    s.ordinal = 0;
    ok(train_rows_get(&r, &s, x, &e) == 0, "a row of zeros is a failed sample");
    s.ordinal = 5;
    ok(train_rows_get(&r, &s, x, &e) < 0 && strstr(e.text, "5 rows"), "a row too many");
    s = (struct samples_record){.shard = 0, .shard_name = "00009.tar"};
    ok(train_rows_get(&r, &s, x, &e) < 0 && strstr(e.text, "00009.npy"), "no file for a shard");
    s.shard_name = "../00007.tar";
    ok(train_rows_get(&r, &s, x, &e) < 0, "a name that leaves the folder");
    ok(r.no_sidecar == 1, "files without sidecar are counted");
    train_rows_close(&r);
    make_rows("00009.npy", 1, 3);
    ok(!train_count_read(&f, true, 1, &c, &e) && c.dim_t == 4 && c.rows == 7 && c.foreign == 1 &&
           strstr(c.foreign_name, "00009.npy"),
       "columns that most files do not have");
    train_rows_open(&r, dir, false, c.dim_t);
    s.shard_name = "00009.tar";
    ok(train_rows_get(&r, &s, x, &e) < 0 && strstr(e.text, "columns"), "... are refused as rows");
    train_rows_close(&r);
}

// A small model and batch.
struct world {
    struct dev d;
    struct clip_config cfg;
    uint8_t pixels[8 * 16 * 16 * 3];
    int32_t tokens[8 * 6], labels[8];
    float tv[8 * 8], tt[8 * 8], centroids[5 * 8];
};

static void make_world(struct world *w)
{
    struct err e;
    memset(w, 0, sizeof *w);
    w->cfg.embed_dim = 8;
    w->cfg.image_size = 16;
    w->cfg.patch_size = 8;
    w->cfg.context = 6;
    w->cfg.vocab = 30;
    w->cfg.eos_id = 29;
    w->cfg.logit_scale = 4.6;
    w->cfg.vision = (struct clip_tower){
        .layers = 2, .width = 16, .heads = 2, .head_width = 8, .mlp = 32, .eps = 1e-5};
    w->cfg.text = w->cfg.vision;
    clip_preprocess_default(&w->cfg.preprocess, 16);
    ok(!clip_config_check(&w->cfg, &e) && !dev_open(&w->d, "cpu", DEV_F32, 2, false, &e),
       "a world");
    for (size_t i = 0; i < sizeof w->pixels; i++)
        w->pixels[i] = (uint8_t)(i * 37 + i / 100);
    for (int i = 0; i < 8; i++) {
        w->labels[i] = i % 5;
        for (int k = 0; k < 6; k++)
            w->tokens[i * 6 + k] = k == 0 ? 28 : k == 2 + i % 4 ? 29 : (i * 5 + k) % 28;
    }
    for (int i = 0; i < 64; i++) {
        w->tv[i] = sinf((float)i);
        w->tt[i] = cosf((float)i * 3);
    }
    for (int i = 0; i < 40; i++)
        w->centroids[i] = sinf((float)i * 7 + 1);
}

static bool open_core_with(struct world *w, struct train_core *c, const char *terms, float lr,
                           struct train_set s)
{
    struct err e;
    s.batch = s.dim_t = 8;
    s.scale_of[0] = 20;
    s.k = 5;
    s.n_label = 1;
    optim_set_default(&s.optim);
    s.optim.lr = lr;
    s.optim.steps = 10;
    s.cluster = (struct cluster_set){.sigma = 16, .rate = 1, .filter = 1};
    if (losses_parse(&s.losses, terms, &e) ||
        train_core_open(c, &w->d, &w->cfg, &s, w->centroids, &e))
        return false;
    float *flat = calloc(c->table.n_flat, sizeof *flat);
    for (size_t i = 0; i < c->table.n; i++)
        clip_init_tensor(&c->table, i, 1, flat + c->table.t[i].offset);
    int rc = train_core_load(c, flat, &e);
    free(flat);
    return !rc;
}

static bool open_core(struct world *w, struct train_core *c, const char *terms, size_t pieces,
                      float lr)
{
    return open_core_with(w, c, terms, lr, (struct train_set){.accumulate = pieces});
}

static struct train_batch batch_of(const struct world *w, size_t n)
{
    return (struct train_batch){.n = n,
                                .pixels = w->pixels,
                                .tokens = w->tokens,
                                .tv = w->tv,
                                .tt = w->tt,
                                .labels = w->labels};
}

// In pieces that are a part each, and in more of them than parts.
static void pieces(struct world *w, size_t n, size_t parts)
{
    struct train_core a, b;
    struct err e;
    struct train_batch m = batch_of(w, 8);
    double x, y, worst = 0, size = 0;
    ok(open_core(w, &a, "instance,cluster,clip", 1, 1e-3f) &&
           open_core_with(w, &b, "instance,cluster,clip", 1e-3f,
                          (struct train_set){.accumulate = n, .parts_most = parts}),
       "whole and in pieces");
    ok(!train_core_gradient(&a, &m, &x, &e) && !train_core_gradient(&b, &m, &y, &e), "gradients");
    for (size_t i = 0; i < a.table.n_flat; i++) {
        worst = fmax(worst, fabs((double)a.model.grad[i] - (double)b.model.grad[i]));
        size = fmax(size, fabs((double)a.model.grad[i]));
    }
    ok(fabs(x / y - 1) < 1e-6 && worst < 1e-5 * size, "accumulate: %g of %g", worst, size);
    train_core_close(&a);
    train_core_close(&b);
}

// Locks take what they free off the plan: moments, gradients, activations.
static void lock_memory(struct world *w)
{
    struct train_core c;
    struct train_memory all, image, last;
    ok(open_core(w, &c, "clip", 1, 1e-3f), "a core");
    struct train_set s = c.set;
    train_memory(&c.table, &s, &w->d, &all);
    s.locks.tower[CLIP_VISION] = true;
    train_memory(&c.table, &s, &w->d, &image);
    size_t n = 0;
    for (size_t i = 0; i < c.table.n; i++)
        n += c.table.t[i].tower == CLIP_VISION ? clip_table_room(&c.table, i) : 0;
    ok(n && all.optimiser - image.optimiser == 2 * n * sizeof(float), "no moments of the tower");
    ok(all.parameters - image.parameters == n * sizeof(float), "no gradients of it");
    ok(image.activations < all.activations, "fewer activations: %zu, not %zu", image.activations,
       all.activations);
    s.locks.unlock = 1;
    train_memory(&c.table, &s, &w->d, &last);
    ok(last.optimiser > image.optimiser && last.optimiser < all.optimiser &&
           last.parameters > image.parameters && last.parameters < all.parameters,
       "and between the two with a block unlocked");
    train_core_close(&c);
}

// The average against its closed form, X^n W_0 + (1 - X) sum of X^(n - i) W_i, in float64; a step
// that was not taken is none of it.
static void average(struct world *w)
{
    enum { STEPS = 5, LOST = 2 };
    struct train_core c, plain;
    struct err e;
    struct train_batch m = batch_of(w, 8);
    const double x = 0.75;
    double loss, norm, worst = 0, moved = 0;
    ok(open_core_with(w, &c, "clip", 1e-2f, (struct train_set){.accumulate = 1, .ema = x}) &&
           open_core(w, &plain, "clip", 1, 1e-2f),
       "a core with an average");
    size_t n = c.table.n_flat;
    double *want = calloc(n, sizeof *want), *size = calloc(n, sizeof *size); // of the terms
    for (size_t i = 0; i < n; i++) {
        want[i] = pow(x, STEPS) * (double)c.model.flat[i];
        size[i] = fabs(want[i]);
    }
    for (int s = 0, taken = 0; taken < STEPS; s++) {
        if (s == LOST) // a gradient that is not finite
            train_core_gradient(&c, &m, &loss, &e), c.model.grad[3] = NAN;
        if (s == LOST) {
            ok(!train_core_update(&c, &norm, &e) && !isfinite(norm), "a step that is not taken");
            continue;
        }
        ok(!train_core_step(&c, &m, &loss, &norm, &e) && isfinite(norm) &&
               !train_core_step(&plain, &m, &loss, &norm, &e),
           "a step");
        taken++;
        for (size_t i = 0; i < n; i++) {
            double term = (1 - x) * pow(x, STEPS - taken) * (double)c.model.flat[i];
            want[i] += term;
            size[i] += fabs(term);
        }
    }
    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)c.average.flat[i] - want[i]) / (size[i] + 1e-9));
        moved = fmax(moved, fabs((double)c.model.flat[i] - want[i]));
    }
    // three roundings of float32 a step
    ok(worst < STEPS * 3 * 0x1p-24 && moved > 1e-3, "the average is %g off, the weights %g from it",
       worst, moved);
    ok(!memcmp(c.model.flat, plain.model.flat, n * sizeof(float)), "and changes no weight");
    struct train_memory with, without;
    train_memory(&c.table, &c.set, &w->d, &with);
    train_memory(&c.table, &plain.set, &w->d, &without);
    ok(with.total - without.total == n * sizeof(float), "and is counted in the memory plan");
    free(want);
    free(size);
    train_core_close(&c);
    train_core_close(&plain);
}

// A step of at most 0.5 from `from`, which lies further than that outside the bounds.
static float scale_after(struct train_core *c, const struct train_batch *m, float from)
{
    struct err e;
    double loss, norm;
    int i = clip_table_find(&c->table, CLIP_TEXT, CLIP_K_LOGIT_SCALE, -1);
    int rc = i < 0 || train_core_gradient(c, m, &loss, &e);
    if (!rc)
        c->model.flat[c->table.t[i].offset] = from;
    return rc || train_core_update(c, &norm, &e) ? -1 : c->logit_scale;
}

static void clamp_and_nan(struct world *w)
{
    struct train_core c;
    struct err e;
    struct train_batch m = batch_of(w, 8);
    double loss, norm;
    ok(open_core(w, &c, "clip", 1, 0.5f), "a large step");
    ok(scale_after(&c, &m, 6) == 4.60517018598809136f, "logit_scale stays under ln 100: %g",
       (double)c.logit_scale);
    ok(scale_after(&c, &m, -2) == 0, "and over 0: %g", (double)c.logit_scale);
    ok(!memcmp(c.head.dw, (float[40]){0}, 40 * sizeof(float)), "a head that no loss uses rests");
    c.model.flat[0] = NAN;
    clip_grad_refresh(&c.model);
    int rc = train_core_gradient(&c, &m, &loss, &e);
    float second = c.model.flat[1];
    ok(!rc && !isfinite(loss) && !train_core_update(&c, &norm, &e) && !isfinite(norm),
       "NaN is seen");
    ok(c.model.flat[1] == second && c.optim.step == 2, "and changes nothing");
    m = batch_of(w, 9);
    ok(train_core_gradient(&c, &m, &loss, &e), "a batch that is too large");
    train_core_close(&c);
}

static void checkpoint(struct world *w)
{
    struct train_core a, b;
    struct err e;
    struct train_batch m = batch_of(w, 8);
    struct train_state s = {.step = 1, .taken = 1, .samples = 8}, back;
    struct checkpoint_list l;
    char path[PATH_MAX], tok[300], out[300];
    double loss, norm;
    snprintf(tok, sizeof tok, "%s/tok", dir);
    snprintf(out, sizeof out, "%s/out", dir);
    mkdir(tok, 0777);
    s.options = cJSON_Parse("{\"a\":1}");
    ok(open_core(w, &a, "instance,cluster", 1, 1e-2f) && !train_core_gradient(&a, &m, &loss, &e) &&
           !train_core_update(&a, &norm, &e),
       "a step");
    ok(!checkpoint_list_read(&l, out, &e) && !l.n, "no checkpoint yet");
    mkdir(out, 0777);
    for (uint64_t i = 1; i < 5; i++) {
        s.step = i;
        if (train_checkpoint_write(out, &a, &s, tok, &keep_two, path, &e))
            printf("# %s\n", e.text);
    }
    ok(!checkpoint_list_read(&l, out, &e) && l.n == 2 && l.at[0].step == 4 && l.at[1].step == 3 &&
           strstr(path, l.at[0].name),
       "the newest two");
    checkpoint_list_release(&l);
    char old[400];
    struct stat st;
    snprintf(old, sizeof old, "%s/checkpoints/step-00000002", out);
    ok(stat(old, &st) != 0, "old ones are removed");
    ok(!train_state_read(path, &back, &e) && back.step == 4 && back.samples == 8, "state");
    ok(open_core(w, &b, "instance,cluster", 1, 1e-2f) &&
           !train_checkpoint_load(path, &b, &back, &e),
       "loaded");
    for (int i = 0; i < 2; i++) {
        struct train_core *c = i ? &b : &a;
        train_core_gradient(c, &m, &loss, &e);
        train_core_update(c, &norm, &e);
    }
    ok(!memcmp(a.model.flat, b.model.flat, a.table.n_flat * sizeof(float)) &&
           !memcmp(a.head.w, b.head.w, 40 * sizeof(float)) && a.optim.step == b.optim.step,
       "both go on alike, to the bit");
    train_state_release(&s);
    train_state_release(&back);
    train_core_close(&a);
    train_core_close(&b);
}

int main(void)
{
    static struct world w;
    if (!mkdtemp(dir))
        return 1;
    words();
    log_lines();
    options();
    rows();
    make_world(&w);
    pieces(&w, 4, 0);
    pieces(&w, 8, 2);
    lock_memory(&w);
    average(&w);
    clamp_and_nan(&w);
    checkpoint(&w);
    dev_close(&w.d);
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command) || tap_done();
}
