// SPDX-License-Identifier: Apache-2.0
// How Hugging Face's files say that pictures are prepared, in the forms that its versions write.
#include <math.h>
#include <string.h>

#include "config/config.h"
#include "formats/json.h"
#include "unit/tap.h"

#define CONFIG                                                                                     \
    "{\"model_type\":\"clip\",\"text_config\":{\"hidden_act\":\"gelu\"},\"vision_config\":{"       \
    "\"hidden_act\":\"gelu\",\"image_size\":64}}"
#define SLOW                                                                                       \
    "\"crop_size\":{\"height\":64,\"width\":64},\"do_center_crop\":true,\"do_convert_rgb\":true,"  \
    "\"do_normalize\":true,\"do_rescale\":true,\"do_resize\":true,\"rescale_factor\":"             \
    "0.00392156862745098,\"image_processor_type\":\"CLIPImageProcessor\""
#define SIZE ",\"size\":{\"shortest_edge\":64}"
#define MEAN ",\"image_mean\":[0.5,0.5,0.5],\"image_std\":[0.25,0.25,0.25]"

static cJSON *parse(const char *text, struct err *e)
{
    return text ? json_parse(text, strlen(text), NULL, e) : NULL;
}

static int read_files(struct clip_config *c, const char *pre, const char *processor, struct err *e)
{
    cJSON *j = parse(CONFIG, e), *p = parse(pre, e), *q = parse(processor, e);
    bool parsed = j && !p == !pre && !q == !processor;
    int rc = parsed ? clip_config_from_hf(c, j, p, q, e) : -1;
    cJSON_Delete(j);
    cJSON_Delete(p);
    cJSON_Delete(q);
    return rc;
}

static bool prepared(const char *pre, const char *processor, enum clip_fit fit,
                     enum clip_resample resample, double mean, double std)
{
    struct clip_config c;
    struct err e = {.text = ""};
    if (read_files(&c, pre, processor, &e)) {
        printf("# %s\n", e.text);
        return false;
    }
    const struct clip_preprocess *p = &c.preprocess;
    return p->fit == fit && p->resample == resample && p->size == 64 &&
           fabs(p->mean[2] - mean) < 1e-12 && fabs(p->std[2] - std) < 1e-12;
}

static void refused(const char *pre, const char *processor, const char *why)
{
    struct clip_config c;
    struct err e = {.text = ""};
    ok(read_files(&c, pre, processor, &e) == -1 && strstr(e.text, why), "refused for %s: %s", why,
       e.text);
}

#define M 0.40821073
#define S 0.27577711

static void test_fast(void)
{
    ok(prepared("{" SLOW SIZE "}", NULL, CLIP_SHORTEST, CLIP_BICUBIC, M, S), "the slow one's file");
    ok(prepared("{" SLOW SIZE ",\"data_format\":\"channels_first\",\"default_to_square\":false,"
                "\"device\":null,\"disable_grouping\":null,\"do_pad\":null,\"input_data_format\":"
                "null,\"pad_size\":null,\"return_tensors\":null}",
                NULL, CLIP_SHORTEST, CLIP_BICUBIC, M, S),
       "the fast one's keys about devices and layouts");
    ok(prepared("{" SLOW SIZE ",\"use_square_size\":false}", NULL, CLIP_SHORTEST, CLIP_BICUBIC, M,
                S),
       "use_square_size false says nothing");
    ok(prepared("{" SLOW SIZE ",\"use_square_size\":true}", NULL, CLIP_SQUASH, CLIP_BICUBIC, M, S),
       "and true squashes");
    ok(prepared("{" SLOW ",\"size\":64,\"default_to_square\":true}", NULL, CLIP_SQUASH,
                CLIP_BICUBIC, M, S) &&
           prepared("{" SLOW ",\"size\":64}", NULL, CLIP_SHORTEST, CLIP_BICUBIC, M, S) &&
           prepared("{" SLOW ",\"size\":[64,64]}", NULL, CLIP_SQUASH, CLIP_BICUBIC, M, S),
       "sizes as a number and as a list");
    ok(prepared("{" SLOW SIZE ",\"resample\":\"bilinear\"}", NULL, CLIP_SHORTEST, CLIP_BILINEAR, M,
                S) &&
           prepared("{" SLOW SIZE ",\"resample\":\"BICUBIC\"}", NULL, CLIP_SHORTEST, CLIP_BICUBIC,
                    M, S),
       "filters by name");
    ok(prepared("{" SLOW SIZE ",\"image_mean\":0.5,\"image_std\":0.25}", NULL, CLIP_SHORTEST,
                CLIP_BICUBIC, 0.5, 0.25),
       "one mean for three channels");
    refused("{" SLOW SIZE ",\"do_pad\":true,\"pad_size\":{\"height\":80,\"width\":80}}", NULL,
            "do_pad");
    refused("{" SLOW ",\"size\":{\"shortest_edge\":64,\"longest_edge\":99}}", NULL, "longest_edge");
    refused("{" SLOW ",\"size\":[64,32]}", NULL, "size");
    refused("{" SLOW SIZE ",\"resample\":\"lanczos\"}", NULL, "lanczos");
    refused("{" SLOW SIZE ",\"frob\":1}", NULL, "frob");
    refused("{\"image_processor_type\":\"ViTImageProcessor\"" SIZE "}", NULL, "ViTImageProcessor");
    ok(prepared("{\"image_processor_type\":\"SiglipImageProcessor\",\"do_center_crop\":false,"
                "\"size\":{\"height\":64,\"width\":64},\"resample\":2" MEAN "}",
                NULL, CLIP_SQUASH, CLIP_BILINEAR, 0.5, 0.25),
       "another class whose file says all");
}

// Every part of (u8 factor - mean) / std that a file may switch off.
static void test_scale(void)
{
    ok(prepared("{\"size\":64,\"crop_size\":64,\"do_normalize\":false}", NULL, CLIP_SHORTEST,
                CLIP_BICUBIC, 0, 1),
       "do_normalize false: 0 to 1");
    ok(prepared("{\"size\":64,\"crop_size\":64,\"do_rescale\":false" MEAN "}", NULL, CLIP_SHORTEST,
                CLIP_BICUBIC, 0.5 / 255, 0.25 / 255),
       "do_rescale false: the mean is of 0 to 255");
    ok(prepared("{\"size\":64,\"crop_size\":64,\"do_rescale\":false,\"do_normalize\":false}", NULL,
                CLIP_SHORTEST, CLIP_BICUBIC, 0, 1 / 255.0),
       "neither: 0 to 255");
    ok(prepared("{\"size\":64,\"crop_size\":64,\"rescale_factor\":0.00784313725490196" MEAN "}",
                NULL, CLIP_SHORTEST, CLIP_BICUBIC, 0.5 / (255 * 0.00784313725490196),
                0.25 / (255 * 0.00784313725490196)),
       "another factor");
}

static void test_processor(void)
{
    ok(prepared(NULL,
                "{\"processor_class\":\"CLIPProcessor\",\"image_processor\":{" SLOW SIZE MEAN
                ",\"resample\":2}}",
                CLIP_SHORTEST, CLIP_BILINEAR, 0.5, 0.25),
       "inside processor_config.json");
    ok(prepared("{" SLOW SIZE MEAN "}", "{\"processor_class\":\"CLIPProcessor\",\"x\":1}",
                CLIP_SHORTEST, CLIP_BICUBIC, 0.5, 0.25),
       "a processor_config.json about other things");
    ok(prepared("{" SLOW SIZE MEAN "}", "{\"image_processor\":{" SLOW SIZE MEAN "}}", CLIP_SHORTEST,
                CLIP_BICUBIC, 0.5, 0.25),
       "both, alike");
    refused("{" SLOW SIZE "}", "{\"image_processor\":{" SLOW SIZE MEAN "}}", "two ways");
    refused("{" SLOW SIZE MEAN "}", "{\"image_processor\":{" SLOW SIZE "}}", "two ways");
    refused(NULL, "{\"image_processor\":{\"frob\":1}}", "processor_config.json");
    refused(NULL, "{\"image_processor\":3}", "processor_config.json");
}

int main(void)
{
    test_fast();
    test_scale();
    test_processor();
    return tap_done();
}
