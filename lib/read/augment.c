// SPDX-License-Identifier: Apache-2.0
#include "read/augment.h"

#include <math.h>
#include <stdlib.h>

// "0.9,1.0": n finite numbers. False: anything else.
static bool parse_numbers(const char *text, double *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char *end;
        v[i] = strtod(text, &end);
        if (end == text || !isfinite(v[i]) || *end != (i + 1 < n ? ',' : 0))
            return false;
        text = end + 1;
    }
    return true;
}

static int parse_crop(const struct read_augment *o, struct crop_params *c, struct err *e)
{
    double scale[2], ratio[2];
    if (!parse_numbers(o->scale, scale, 2) || !(scale[0] > 0) || scale[0] > scale[1] ||
        scale[1] > 1)
        return err_set(e, "--scale needs MIN,MAX with 0 < MIN <= MAX <= 1, not '%s'", o->scale);
    if (!parse_numbers(o->ratio, ratio, 2) || !(ratio[0] > 0) || ratio[0] > ratio[1])
        return err_set(e, "--ratio needs MIN,MAX with 0 < MIN <= MAX, not '%s'", o->ratio);
    c->random = o->random;
    c->flip = o->flip;
    c->scale_least = scale[0];
    c->scale_most = scale[1];
    if (o->ratio_given) { // else as exact as crop.h has it
        c->ratio_least = ratio[0];
        c->ratio_most = ratio[1];
    }
    if ((o->scale_given || o->ratio_given) && !c->random)
        return err_set(e, "--%s needs --crop random", o->scale_given ? "scale" : "ratio");
    return 0;
}

static int parse_jitter(const struct read_augment *o, struct jitter_params *j, struct err *e)
{
    *j = (struct jitter_params){.gray = o->gray};
    if (!o->jitter)
        return o->jitter_prob_given ? err_set(e, "--jitter-prob needs --jitter") : 0;
    if (!parse_numbers(o->jitter, j->range, JITTER_KINDS))
        return err_set(e, "--jitter needs B,C,S,H, four numbers, not '%s'", o->jitter);
    j->prob = o->jitter_prob;
    if (jitter_check(j, e))
        return err_wrap(e, "--jitter '%s'", o->jitter);
    return 0;
}

int read_augment_parse(const struct read_augment *a, struct read_picture *p, struct err *e)
{
    return parse_crop(a, &p->crop, e) || parse_jitter(a, &p->jitter, e) ? -1 : 0;
}
