// SPDX-License-Identifier: Apache-2.0
// Decodes any bytes as a picture, with limits small enough for a fuzzer.
#include <stdlib.h>

#include "image/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct image im;
    struct image_limits lim = {.max_pixels = 1 << 20, .max_scans = 20};
    struct err e;
    if (image_webp(&im, data, size, &lim, &e) == 0 && (im.width <= 0 || im.height <= 0))
        abort();
    return 0;
}
