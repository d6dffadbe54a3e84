// SPDX-License-Identifier: Apache-2.0
// The weights of a resize along one axis.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "image/resize-pass.h"

static double triangle(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

// Keys, "Cubic convolution interpolation for digital image processing", 1981, with a = -0.5. The
// order of operations is part of the result.
static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

static double value(enum resize_filter f, double x)
{
    return f == RESIZE_BICUBIC ? cubic(x) : triangle(x);
}

static int32_t to_fixed(double w)
{
    return (int32_t)((w < 0 ? -0.5 : 0.5) + w * (1 << RESIZE_BITS));
}

struct span {
    int from, to; // input samples within the filter's reach, cut to the picture
    double centre;
};

static struct span span_of(const struct resize_axis *a, size_t i, double scale, double support)
{
    double centre = ((double)a->first_out + (double)i + 0.5) * scale;
    int from = (int)(centre - support + 0.5), to = (int)(centre + support + 0.5);
    return (struct span){from < 0 ? 0 : from, to > a->in ? a->in : to, centre};
}

// Row i of the tables; `w` is scratch of a->taps doubles.
static void set_output(struct resize_axis *a, size_t i, struct span s, double squeeze, double *w)
{
    int taps = s.to - s.from, from = s.from > a->in - a->taps ? a->in - a->taps : s.from;
    int32_t *weight = a->weight + i * a->step;
    double sum = 0;
    for (int t = 0; t < taps; t++) {
        w[t] = value(a->filter, (t + s.from - s.centre + 0.5) * squeeze);
        sum += w[t];
    }
    memset(weight, 0, a->step * sizeof *weight);
    for (int t = 0; t < taps; t++)
        weight[s.from - from + t] = to_fixed(sum == 0 ? w[t] : w[t] / sum);
    a->from[i] = from;
    for (size_t t = 0; a->passes->split && t < a->step; t += 4)
        a->passes->split(a->split + (i * a->step + t) * 4, weight + t);
}

static int reserve(struct resize_axis *a, size_t outputs, struct err *e)
{
    size_t n;
    if (!mem_mul(outputs, a->step * 4, &n))
        return err_set(e, "resize: too large");
    return mem_grow((void **)&a->from, &a->from_cap, outputs, sizeof *a->from, e) ||
                   mem_grow((void **)&a->weight, &a->weight_cap, n / 4, sizeof *a->weight, e) ||
                   mem_grow((void **)&a->split, &a->split_cap, n, sizeof *a->split, e)
               ? -1
               : 0;
}

static int set(struct resize_axis *a, int n_out, struct err *e)
{
    double scale = (double)a->in / a->out, grow = scale < 1 ? 1 : scale;
    double support = (a->filter == RESIZE_BICUBIC ? 2 : 1) * grow;
    a->taps = 1;
    for (size_t i = 0; i < (size_t)n_out; i++) {
        struct span s = span_of(a, i, scale, support);
        a->taps = s.to - s.from > a->taps ? s.to - s.from : a->taps;
    }
    a->step = ((size_t)a->taps + 3) / 4 * 4;
    double *w = mem_alloc(a->step, sizeof *w, e);
    if (!w || reserve(a, (size_t)n_out, e)) {
        free(w);
        return -1;
    }
    for (size_t i = 0; i < (size_t)n_out; i++)
        set_output(a, i, span_of(a, i, scale, support), 1 / grow, w);
    free(w);
    return 0;
}

int resize_axis_set(struct resize_axis *a, int in, int out, int first_out, int n_out,
                    enum resize_filter filter, const struct resize_passes *passes, struct err *e)
{
    if (a->n_out == n_out && a->in == in && a->out == out && a->first_out == first_out &&
        a->filter == filter && a->passes == passes)
        return 0;
    a->n_out = 0; // invalid while the tables are rebuilt, so that a failure leaves no stale match
    a->in = in;
    a->out = out;
    a->first_out = first_out;
    a->filter = filter;
    a->passes = passes;
    if (set(a, n_out, e))
        return -1;
    a->n_out = n_out;
    return 0;
}

void resize_axis_release(struct resize_axis *a)
{
    free(a->from);
    free(a->weight);
    free(a->split);
}
