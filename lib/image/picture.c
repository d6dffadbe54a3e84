// SPDX-License-Identifier: Apache-2.0
#include "image/picture.h"

// More than ordinary pictures need; what is beyond is not kept for the next one.
enum { KEEP_BYTES = 16 << 20 };

void read_scratch_release(struct read_scratch *s)
{
    image_release(&s->image);
    resize_release(&s->resizer);
}

int read_picture_decode(const struct read_picture *p, struct read_scratch *s, const uint8_t *bytes,
                        size_t n, struct rng *r, uint8_t *out, uint32_t *width, uint32_t *height,
                        struct err *e)
{
    struct image_limits lim = image_limits_default;
    lim.max_pixels = p->max_pixels;
    lim.alpha = p->alpha;
    lim.fast_side = p->fast ? crop_fast_side(&p->crop) : 0;
    int rc = image_decode(&s->image, bytes, n, &lim, e);
    if (!rc) {
        *width = (uint32_t)s->image.full_width;
        *height = (uint32_t)s->image.full_height;
        rc = crop_make(&s->resizer, &s->image, &p->crop, r, out, e);
    }
    if (!rc)
        jitter_apply(&p->jitter, out, (size_t)p->crop.size * (size_t)p->crop.size, r);
    if (s->image.cap > KEEP_BYTES || s->image.work_cap > KEEP_BYTES)
        image_release(&s->image);
    if (s->resizer.rows_cap > KEEP_BYTES)
        resize_release(&s->resizer);
    return rc;
}
