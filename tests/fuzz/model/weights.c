// SPDX-License-Identifier: Apache-2.0
// Any bytes as the weights of tests/data/models/tiny: refused, or every tensor can be read whole.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "model/weights.h"
#include "system/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct clip_config config(void)
{
    struct clip_config c = {.embed_dim = 6,
                            .image_size = 9,
                            .patch_size = 4,
                            .context = 5,
                            .vocab = 11,
                            .eos_id = -1,
                            .logit_scale = CLIP_LOGIT_SCALE};
    struct err e;
    c.vision = (struct clip_tower){.layers = 2, .width = 8, .heads = 2, .mlp = 20, .eps = 1e-5};
    c.text = (struct clip_tower){.layers = 3, .width = 10, .heads = 5, .mlp = 40, .eps = 1e-5};
    clip_preprocess_default(&c.preprocess, 9);
    if (clip_config_check(&c, &e))
        abort();
    return c;
}

static void read_all(const struct clip_weights *w)
{
    static float buf[1 << 12];
    volatile float sum = 0;
    for (size_t i = 0; i < w->table.n; i++) {
        enum st_dtype d;
        const uint8_t *raw = clip_weights_raw(w, i, &d);
        size_t n = w->table.t[i].numel;
        clip_weights_get(w, i, buf);
        sum = sum + buf[n - 1];
        if (raw)
            sum = sum + raw[0] + raw[n * st_dtype_size(d) - 1];
        clip_weights_drop(w, i);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct clip_config c = config();
    struct clip_weights w;
    struct err e;
    char path[32];
    int fd = memfd_create("weights", 0);
    if (fd < 0 || io_write_all(fd, data, size))
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (!clip_weights_open_file(&w, &c, path, &e)) {
        read_all(&w);
        clip_weights_close(&w);
    }
    close(fd);
    return 0;
}
