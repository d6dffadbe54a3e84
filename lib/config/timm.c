// SPDX-License-Identifier: Apache-2.0
// The table of names: sizes, and which of the two GELUs, which a family's name does not tell. Read
// off timm 1.0.31 (vision_transformer.py, eva.py).
#include "config/timm.h"

#include <string.h>

enum family { SIGLIP, EVA01, EVA02, EVA02_E, PE, PE_G, CLIP, GAP };

struct timm_row {
    const char *name;
    enum family family;
    int image, patch, width, layers, heads, mlp;
    enum clip_act act;
};

static const struct timm_row rows[] = {
    {"eva_giant_patch14_224", EVA01, 224, 14, 1408, 40, 16, 6144, CLIP_GELU},
    {"eva02_base_patch16_clip_224", EVA02, 224, 16, 768, 12, 12, 2048, CLIP_GELU},
    {"eva02_enormous_patch14_clip_224", EVA02_E, 224, 14, 1792, 64, 16, 15360, CLIP_GELU},
    {"eva02_large_patch14_clip_224", EVA02, 224, 14, 1024, 24, 16, 2730, CLIP_GELU},
    {"eva02_large_patch14_clip_336", EVA02, 336, 14, 1024, 24, 16, 2730, CLIP_GELU},
    {"vit_large_patch14_clip_224", CLIP, 224, 14, 1024, 24, 16, 4096, CLIP_GELU},
    {"vit_medium_patch16_gap_256", GAP, 256, 16, 512, 12, 8, 2048, CLIP_GELU},
    {"vit_pe_core_base_patch16_224", PE, 224, 16, 768, 12, 12, 3072, CLIP_GELU},
    {"vit_pe_core_gigantic_patch14_448", PE_G, 448, 14, 1536, 50, 16, 8960, CLIP_GELU},
    {"vit_pe_core_large_patch14_336", PE, 336, 14, 1024, 24, 16, 4096, CLIP_GELU},
    {"vit_pe_core_small_patch16_384", PE, 384, 16, 384, 12, 6, 1536, CLIP_GELU},
    {"vit_pe_core_tiny_patch16_384", PE, 384, 16, 192, 12, 3, 768, CLIP_GELU},
    {"vit_base_patch16_siglip_224", SIGLIP, 224, 16, 768, 12, 12, 3072, CLIP_GELU},
    {"vit_base_patch16_siglip_256", SIGLIP, 256, 16, 768, 12, 12, 3072, CLIP_GELU},
    {"vit_base_patch16_siglip_384", SIGLIP, 384, 16, 768, 12, 12, 3072, CLIP_GELU},
    {"vit_base_patch16_siglip_512", SIGLIP, 512, 16, 768, 12, 12, 3072, CLIP_GELU},
    {"vit_base_patch32_siglip_256", SIGLIP, 256, 32, 768, 12, 12, 3072, CLIP_TANH_GELU},
    {"vit_giantopt_patch16_siglip_256", SIGLIP, 256, 16, 1536, 40, 16, 6144, CLIP_TANH_GELU},
    {"vit_giantopt_patch16_siglip_384", SIGLIP, 384, 16, 1536, 40, 16, 6144, CLIP_TANH_GELU},
    {"vit_large_patch16_siglip_256", SIGLIP, 256, 16, 1024, 24, 16, 4096, CLIP_GELU},
    {"vit_large_patch16_siglip_384", SIGLIP, 384, 16, 1024, 24, 16, 4096, CLIP_GELU},
    {"vit_large_patch16_siglip_512", SIGLIP, 512, 16, 1024, 24, 16, 4096, CLIP_TANH_GELU},
    {"vit_so400m_patch14_siglip_224", SIGLIP, 224, 14, 1152, 27, 16, 4304, CLIP_GELU},
    {"vit_so400m_patch14_siglip_378", SIGLIP, 378, 14, 1152, 27, 16, 4304, CLIP_GELU},
    {"vit_so400m_patch14_siglip_384", SIGLIP, 384, 14, 1152, 27, 16, 4304, CLIP_GELU},
    {"vit_so400m_patch16_siglip_256", SIGLIP, 256, 16, 1152, 27, 16, 4304, CLIP_TANH_GELU},
    {"vit_so400m_patch16_siglip_384", SIGLIP, 384, 16, 1152, 27, 16, 4304, CLIP_TANH_GELU},
    {"vit_so400m_patch16_siglip_512", SIGLIP, 512, 16, 1152, 27, 16, 4304, CLIP_TANH_GELU},
};
enum { ROWS = sizeof rows / sizeof *rows };

// What all towers of a family have.
static void set_family(struct clip_tower *t, const struct timm_row *r)
{
    switch (r->family) {
    case SIGLIP:
        t->no_class = t->patch_bias = t->no_norm_pre = t->no_head = true;
        t->pool = CLIP_POOL_MAP;
        t->pool_heads = r->heads;
        t->pool_mlp = r->mlp;
        break;
    case EVA01:
    case EVA02:
    case EVA02_E:
        t->patch_bias = t->no_norm_pre = t->head_bias = true;
        t->qkv_bias = CLIP_BIAS_QV;
        t->naming = r->family == EVA02 ? CLIP_NAMED_EVA02 : CLIP_NAMED_EVA01;
        t->swiglu = t->inner_norm = r->family == EVA02;
        t->post_norm = r->family == EVA02_E;
        if (r->family == EVA02)
            t->rope = (struct clip_rope){16, 0, false};
        break;
    case PE:
    case PE_G:
        t->head_bias = true;
        t->eps = 1e-5;
        t->no_class = r->family == PE_G;
        t->rope = (struct clip_rope){(double)r->image / r->patch, r->family == PE, true};
        t->pool = CLIP_POOL_MAP;
        t->pool_heads = 8;
        t->pool_mlp = 4 * r->width;
        break;
    case CLIP:
        t->eps = 1e-5;
        t->head_bias = true;
        break;
    case GAP:
        t->no_class = t->patch_bias = t->no_norm_pre = t->norm_first = true;
        t->qkv_bias = CLIP_BIAS_NONE;
        t->ls_init = 1e-6;
        t->pool = CLIP_POOL_MEAN;
        t->outer_head = true;
        break;
    }
}

static void set_tower(struct clip_config *c, const struct timm_row *r)
{
    c->image_size = r->image;
    c->patch_size = r->patch;
    c->vision = (struct clip_tower){.layers = r->layers,
                                    .width = r->width,
                                    .heads = r->heads,
                                    .mlp = r->mlp,
                                    .act = r->act,
                                    .eps = 1e-6,
                                    .naming = CLIP_NAMED_TIMM};
    set_family(&c->vision, r);
}

// What a name that is not in the table stands for.
static const char *kind_of(const char *name)
{
    static const char *const kinds[][2] = {
        {"naflex", "a NaFlex tower, of pictures of any shape"},
        {"convnext", "a ConvNeXt, not a transformer"},
        {"resnet", "a ResNet, not a transformer"},
        {"vitamin", "ViTamin, a hybrid of convolutions and a transformer"},
        {"fastvit", "FastViT (MobileCLIP), a hybrid of convolutions and a transformer"},
        {"_mci_", "MobileCLIP's ViT with a stem of convolutions"},
        {"relpos", "a ViT with relative positions"},
        {"swin", "a Swin transformer, of shifted windows"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strstr(name, kinds[i][0]))
            return kinds[i][1];
    return "not in the table of names (config/timm.c)";
}

static const char *pool_word(enum family f)
{
    return f == SIGLIP || f == PE || f == PE_G ? "map" : f == GAP ? "" : "token";
}

int clip_timm_tower(struct clip_config *c, const char *name, const char *pool, struct err *e)
{
    size_t i = 0;
    // timm's names may have the name of weights behind a dot.
    size_t n = strcspn(name, ".");
    while (i < ROWS && (strlen(rows[i].name) != n || strncmp(rows[i].name, name, n) != 0))
        i++;
    if (i == ROWS)
        return err_set(e, "vision_cfg: the tower '%.64s' is not implemented: it is %s", name,
                       kind_of(name));
    const char *word = pool_word(rows[i].family);
    bool given = pool && *pool;
    if (given && strcmp(pool, word) != 0 && !(rows[i].family == GAP && strcmp(pool, "avg") == 0))
        return err_set(e, "vision_cfg: 'timm_pool' is '%.32s': %s has '%s'", pool, rows[i].name,
                       *word ? word : "avg");
    set_tower(c, &rows[i]);
    return 0;
}

static bool same_tower(const struct clip_tower *a, const struct clip_tower *b)
{
    return a->layers == b->layers && a->width == b->width && a->heads == b->heads &&
           a->mlp == b->mlp && a->eps == b->eps && (a->swiglu || a->act == b->act) &&
           a->swiglu == b->swiglu && a->post_norm == b->post_norm &&
           a->inner_norm == b->inner_norm && a->qkv_bias == b->qkv_bias &&
           a->rope.grid == b->rope.grid && a->rope.offset == b->rope.offset &&
           a->rope.xy == b->rope.xy && a->no_class == b->no_class &&
           a->patch_bias == b->patch_bias && a->no_norm_pre == b->no_norm_pre &&
           a->pool == b->pool && a->pool_heads == b->pool_heads && a->pool_mlp == b->pool_mlp &&
           a->no_head == b->no_head && a->naming == b->naming;
}

static const struct timm_row *row_of(const struct clip_config *c)
{
    for (size_t i = 0; i < ROWS; i++) {
        struct clip_config x;
        set_tower(&x, &rows[i]);
        if (x.image_size == c->image_size && x.patch_size == c->patch_size &&
            same_tower(&x.vision, &c->vision))
            return &rows[i];
    }
    return NULL;
}

const char *clip_timm_name(const struct clip_config *c)
{
    const struct timm_row *r = row_of(c);
    return r ? r->name : NULL;
}

const char *clip_timm_pool(const struct clip_config *c)
{
    const struct timm_row *r = row_of(c);
    return r ? pool_word(r->family) : NULL;
}
