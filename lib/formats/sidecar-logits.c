// SPDX-License-Identifier: Apache-2.0
// "scale" and "bias": how the model that made the rows turns cosines into logits.
#include <math.h>

#include "formats/sidecar.h"

int sidecar_put_logits(cJSON *o, const struct sidecar *s, struct err *e)
{
    if (s->scale > 0 && json_add_double(o, "scale", s->scale, e))
        return -1;
    return s->has_bias ? json_add_double(o, "bias", s->bias, e) : 0;
}

int sidecar_get_logits(const cJSON *o, struct sidecar *s, struct err *e)
{
    int rc = json_double(o, "scale", JSON_OPTIONAL, &s->scale, e);
    if (rc < 0)
        return -1;
    if (rc && !(s->scale > 0 && isfinite(s->scale)))
        return err_set(e, "'scale' is not a number above 0");
    rc = json_double(o, "bias", JSON_OPTIONAL, &s->bias, e);
    s->has_bias = rc > 0;
    return rc < 0 ? -1 : isfinite(s->bias) ? 0 : err_set(e, "'bias' is not a number");
}
