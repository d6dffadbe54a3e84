// SPDX-License-Identifier: Apache-2.0
// The weights of a resize along one axis.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "resize-pass.h"

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

// The weights of output `at` of the axis into a->weight row i; `w` is scratch of a->step doubles.
static void set_output(struct resize_axis *a, size_t i, double scale, double radius, double *w)
{
    double grow = scale < 1 ? 1 : scale, support = radius * grow, squeeze = 1 / grow;
    double centre = ((double)a->first_out + (double)i + 0.5) * scale, sum = 0;
    int from = (int)(centre - support + 0.5), to = (int)(centre + support + 0.5);
    from = from < 0 ? 0 : from;
    to = to > a->in ? a->in : to;
    int taps = to - from;
    for (int t = 0; t < taps; t++) {
        w[t] = value(a->filter, (t + from - centre + 0.5) * squeeze);
        sum += w[t];
    }
    int32_t *weight = a->weight + i * a->step;
    int16_t *split = a->split + i * a->step * 2;
    memset(weight, 0, a->step * sizeof *weight);
    memset(split, 0, a->step * 2 * sizeof *split);
    for (int t = 0; t < taps; t++) {
        weight[t] = to_fixed(sum == 0 ? w[t] : w[t] / sum);
        int16_t *four = split + t / 4 * 8 + t % 4;
        four[0] = (int16_t)(weight[t] >> RESIZE_LOW_BITS);
        four[4] = (int16_t)(weight[t] & ((1 << RESIZE_LOW_BITS) - 1));
    }
    a->from[i] = from;
    a->taps[i] = taps;
}

static int reserve(struct resize_axis *a, size_t outputs, struct err *e)
{
    size_t n;
    if (!mem_mul(outputs, a->step * 2, &n))
        return err_set(e, "resize: too large");
    return mem_grow((void **)&a->from, &a->from_cap, outputs, sizeof *a->from, e) ||
           mem_grow((void **)&a->taps, &a->taps_cap, outputs, sizeof *a->taps, e) ||
           mem_grow((void **)&a->weight, &a->weight_cap, n / 2, sizeof *a->weight, e) ||
           mem_grow((void **)&a->split, &a->split_cap, n, sizeof *a->split, e);
}

int resize_axis_set(struct resize_axis *a, int in, int out, int first_out, int n_out,
                    enum resize_filter filter, struct err *e)
{
    if (a->n_out == n_out && a->in == in && a->out == out && a->first_out == first_out &&
        a->filter == filter)
        return 0;
    a->n_out = 0; // nothing is set until the end
    double scale = (double)in / out, radius = filter == RESIZE_BICUBIC ? 2 : 1;
    a->step = ((size_t)ceil(radius * (scale < 1 ? 1 : scale)) * 2 + 1 + 3) / 4 * 4;
    double *w = mem_alloc(a->step, sizeof *w, e);
    if (!w || reserve(a, (size_t)n_out, e)) {
        free(w);
        return -1;
    }
    a->in = in;
    a->out = out;
    a->first_out = first_out;
    a->filter = filter;
    for (size_t i = 0; i < (size_t)n_out; i++)
        set_output(a, i, scale, radius, w);
    a->n_out = n_out;
    free(w);
    return 0;
}

void resize_axis_release(struct resize_axis *a)
{
    free(a->from);
    free(a->taps);
    free(a->weight);
    free(a->split);
}
