// SPDX-License-Identifier: Apache-2.0
// Layer norm of a row, for device/cpu/levels.h.

// Two passes, the mean first: the sum of squared differences does not cancel.
static void LEVEL(norm_row)(const struct norm *j, const float *x, float *y, float *mean,
                            float *rstd)
{
    size_t n = j->cols, i = 0;
    float last[LANES] = {0};
    vsum s = {0}, q = {0};
    for (; i + LANES <= n; i += LANES)
        EACH_PART(p) s.part[p] += vf_load(x + i + p * VF);
    memcpy(last, x + i, (n - i) * sizeof *last);
    EACH_PART(p) s.part[p] += vf_load(last + p * VF);
    float m = vf_total(&s) / (float)n;
    for (i = 0; i + LANES <= n; i += LANES)
        EACH_PART(p)
        {
            vf c = vf_load(x + i + p * VF) - vf_all(m);
            q.part[p] += c * c;
        }
    float tail = 0;
    for (; i < n; i++)
        tail += (x[i] - m) * (x[i] - m);
    float r = 1.0f / sqrtf((vf_total(&q) + tail) / (float)n + j->eps);
    for (i = 0; i + VF <= n; i += VF) {
        vf c = (vf_load(x + i) - vf_all(m)) * vf_all(r);
        vf_store(y + i, c * vf_load(j->gain + i) + vf_load(j->bias + i));
    }
    for (; i < n; i++)
        y[i] = (x[i] - m) * r * j->gain[i] + j->bias[i];
    *mean = m;
    *rstd = r;
}
