// SPDX-License-Identifier: Apache-2.0
// First values by tensor, and position embeddings resized to another grid or length.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/npy.h"
#include "model/weights.h"
#include "unit/tap.h"

static double std_of(const struct clip_table *t, const float *flat, const char *name)
{
    const struct clip_tensor *x = &t->t[clip_table_find_name(t, name)];
    double s = 0;
    for (size_t i = 0; i < x->numel; i++)
        s += (double)flat[x->offset + i] * flat[x->offset + i];
    return sqrt(s / (double)x->numel);
}

static void test_init(void)
{
    struct clip_config c;
    struct clip_table t;
    struct err e;
    static const struct {
        const char *name;
        double std;
    } want[] = {
        {"token_embedding.weight", 0.02},
        {"positional_embedding", 0.01},
        {"transformer.resblocks.1.attn.in_proj_weight", 0.08838835}, // 128^-1/2
        {"transformer.resblocks.1.attn.out_proj.weight", 0.03125},   // (128 * 8)^-1/2
        {"transformer.resblocks.1.mlp.c_fc.weight", 0.0625},         // 256^-1/2
        {"transformer.resblocks.1.mlp.c_proj.weight", 0.03125},      // (128 * 8)^-1/2
        {"transformer.resblocks.1.mlp.c_fc.bias", 0.05103104},       // (3 * 128)^-1/2
        {"text_projection", 0.08838835},
        {"visual.proj", 0.08838835},
        {"visual.positional_embedding", 0.08838835},
        {"visual.conv1.weight", 0.04166667},                            // (3 * 192)^-1/2
        {"visual.transformer.resblocks.1.attn.in_proj_weight", 0.0625}, // (2 / 512)^1/2
        {"visual.transformer.resblocks.1.attn.out_proj.weight", 0.05103104},
        {"visual.transformer.resblocks.1.mlp.c_proj.weight", 0.02551552}, // (3 * 512)^-1/2
        {"visual.transformer.resblocks.1.mlp.c_proj.bias", 0.02551552},
        {"visual.transformer.resblocks.1.attn.in_proj_bias", 0},
        {"visual.ln_pre.weight", 1},
        {"ln_final.bias", 0},
        {"logit_scale", CLIP_LOGIT_SCALE},
    };
    if (clip_config_read_file(&c, "conf/models/emoji-4x128.json", &e) ||
        clip_table_init(&t, &c, &e)) {
        ok(0, "%s", e.text);
        return;
    }
    float *flat = mem_alloc(t.n_flat, sizeof *flat, &e), *again = mem_alloc(t.n_flat, 4, &e);
    for (size_t i = 0; i < t.n; i++)
        clip_init_tensor(&t, i, 7, flat + t.t[i].offset);
    for (size_t i = t.n; i-- > 0;)
        clip_init_tensor(&t, i, 7, again + t.t[i].offset);
    ok(memcmp(flat, again, t.n_flat * sizeof *flat) == 0, "order does not matter");
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        double s = std_of(&t, flat, want[i].name);
        bool few = strstr(want[i].name, "bias") || strstr(want[i].name, "pos");
        ok(fabs(s - want[i].std) <= (few ? 0.1 : 0.02) * want[i].std, "%s: std %.5f", want[i].name,
           s);
    }
    free(flat);
    free(again);
    clip_table_release(&t);
}

static void test_resize(void)
{
    // Columns 0 and 1 of a 2 x 2 grid: Keys' weights at 1/4 and 5/4, scaled to sum 1, are
    // 1.0882353 and -0.0882353; at 3/4 both ways of 1/2: see below.
    float in_grid[5] = {9, 0, 1, 0, 1}, out[65], back[5];
    struct err e;
    ok(!clip_resize_grid(in_grid, 2, out, 4, 1, 1, &e) && out[0] == 9, "class row kept");
    ok(fabs(out[1] + 0.0882353) < 1e-6 && fabs(out[4] - 1.0882353) < 1e-6 &&
           fabs(out[2] + out[3] - 1) < 1e-6 && fabs(out[13] - out[1]) < 1e-6,
       "2 to 4: %.7f %.7f", out[1], out[4]);
    // Shrinking widens the kernel: output 0 of 4 to 2 sees inputs 0..3 with Keys' function at
    // 1/4, 1/4, 3/4, 5/4 (distances over 2): 0.8671875, 0.8671875, 0.2265625, -0.0703125.
    float line[17] = {9}, two[5];
    for (int i = 0; i < 16; i++)
        line[1 + i] = (float[]){1, 0, 0, 0}[i % 4];
    ok(!clip_resize_grid(line, 4, two, 2, 1, 1, &e) && fabs(two[1] - 0.8671875 / 1.890625) < 1e-6,
       "4 to 2 with antialias: %.7f", two[1]);
    ok(!clip_resize_grid(in_grid, 2, back, 2, 1, 1, &e) && !memcmp(back, in_grid, sizeof back),
       "same size untouched");
    float text[6] = {0, 10, 1, 20, 2, 30}, six[12];
    clip_resize_line(text, 3, six, 6, 2);
    ok(six[0] == 0 && six[2] == 0.25f && six[4] == 0.75f && six[10] == 2 && six[11] == 30 &&
           six[3] == 12.5f,
       "positions of text: linear");
}

// open_clip's own answers, in float32: within 1e-6 of the largest. The shapes say what is to be
// made.
static void test_resize_golden(const char *from, const char *to, int g0, int g1)
{
    struct npy a = {0}, b = {0};
    struct err e;
    char path[2][96];
    snprintf(path[0], sizeof path[0], "tests/data/positions/%s.npy", from);
    snprintf(path[1], sizeof path[1], "tests/data/positions/%s.npy", to);
    if (npy_open_as(&a, path[0], NPY_F4, 2, &e) || npy_open_as(&b, path[1], NPY_F4, 2, &e)) {
        ok(0, "%s", e.text);
        return;
    }
    int w = (int)(a.h.row_bytes / sizeof(float)), n1 = (int)b.h.rows;
    float *out = mem_alloc((size_t)n1 * (size_t)w, sizeof *out, &e);
    const float *want = b.data;
    int rc = 0;
    if (g0)
        rc = clip_resize_grid(a.data, g0, out, g1, w, 1, &e);
    else
        clip_resize_line(a.data, (int)a.h.rows, out, n1, w);
    double worst = 0, largest = 0;
    for (int i = 0; i < n1 * w; i++) {
        largest = fmax(largest, fabs((double)want[i]));
        worst = fmax(worst, fabs((double)out[i] - (double)want[i]));
    }
    ok(!rc && worst < 1e-6 * largest, "%s to %s: %g off", from, to, worst);
    free(out);
    npy_close(&a);
    npy_close(&b);
}

int main(void)
{
    test_init();
    test_resize();
    test_resize_golden("image_positions", "image_positions_5x5", 7, 5);
    test_resize_golden("image_positions", "image_positions_9x9", 7, 9);
    test_resize_golden("text_positions", "text_positions_32", 0, 0);
    test_resize_golden("text_positions", "text_positions_128", 0, 0);
    return tap_done();
}
