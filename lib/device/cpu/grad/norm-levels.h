// SPDX-License-Identifier: Apache-2.0
// Backward of layer norm, for device/cpu/levels.h.

// With h = (x - mean) rstd and g = dy gain: dx = rstd (g - mean(g) - h mean(g h)).
static void LEVEL(norm_row)(const struct norm_job *j, size_t r)
{
    const float *x = j->x + r * j->x_ld;
    float *dx = j->dx + r * j->dx_ld, tmp[CHUNK];
    vf mean = vf_all(j->mean[r]), rstd = vf_all(j->rstd[r]);
    vsum sg = {0}, sgh = {0};
    for (size_t c0 = 0; c0 < j->cols; c0 += CHUNK) {
        size_t n = size_min(CHUNK, j->cols - c0), c = 0;
        const float *dy = read_dy(j, r * j->cols + c0, n, tmp);
        for (; c + LANES <= n; c += LANES)
            EACH_PART(p)
            {
                size_t at = c + p * VF;
                vf g = vf_load(dy + at) * vf_load(j->gain + c0 + at);
                sg.part[p] += g;
                sgh.part[p] += g * (vf_load(x + c0 + at) - mean) * rstd;
            }
        if (c < n)
            EACH_PART(p)
            {
                size_t at = size_min(n, c + p * VF), k = size_min(VF, n - at);
                vf g = vf_load_n(dy + at, k) * vf_load_n(j->gain + c0 + at, k);
                sg.part[p] += g;
                sgh.part[p] += g * (vf_load_n(x + c0 + at, k) - mean) * rstd;
            }
    }
    vf mg = vf_all(vf_total(&sg) / (float)j->cols), mgh = vf_all(vf_total(&sgh) / (float)j->cols);
    for (size_t c0 = 0; c0 < j->cols; c0 += CHUNK) {
        size_t n = size_min(CHUNK, j->cols - c0), c = 0;
        const float *dy = read_dy(j, r * j->cols + c0, n, tmp);
        for (; c + VF <= n; c += VF) {
            vf g = vf_load(dy + c) * vf_load(j->gain + c0 + c);
            vf h = (vf_load(x + c0 + c) - mean) * rstd;
            vf_store(dx + c0 + c, vf_load(dx + c0 + c) + rstd * (g - mg - h * mgh));
        }
        if (c < n) {
            size_t k = n - c;
            vf g = vf_load_n(dy + c, k) * vf_load_n(j->gain + c0 + c, k);
            vf h = (vf_load_n(x + c0 + c, k) - mean) * rstd;
            vf_store_n(dx + c0 + c, vf_load_n(dx + c0 + c, k) + rstd * (g - mg - h * mgh), k);
        }
    }
}

// Sums over the rows, one block of columns; partial sums every few rows keep the rounding small.
static void LEVEL(norm_params)(void *ctx, size_t b)
{
    const struct norm_job *j = ctx;
    size_t c0 = b * COLS, n = size_min(COLS, j->cols - c0);
    float gain[COLS] = {0}, bias[COLS] = {0}, tmp[COLS];
    for (size_t r0 = 0; r0 < j->rows; r0 += COLS) {
        float g[COLS] = {0}, s[COLS] = {0};
        for (size_t r = r0; r < size_min(j->rows, r0 + COLS); r++) {
            const float *dy = read_dy(j, r * j->cols + c0, n, tmp), *x = j->x + r * j->x_ld + c0;
            vf mean = vf_all(j->mean[r]), rstd = vf_all(j->rstd[r]);
            size_t c = 0;
            for (; c + VF <= n; c += VF) {
                vf y = vf_load(dy + c);
                vf_store(g + c, vf_load(g + c) + y * (vf_load(x + c) - mean) * rstd);
                vf_store(s + c, vf_load(s + c) + y);
            }
            for (; c < n; c++) {
                g[c] += dy[c] * (x[c] - j->mean[r]) * j->rstd[r];
                s[c] += dy[c];
            }
        }
        for (size_t c = 0; c < n; c++) {
            gain[c] += g[c];
            bias[c] += s[c];
        }
    }
    for (size_t c = 0; c < n; c++) {
        j->dgain[c0 + c] += gain[c];
        j->dbias[c0 + c] += bias[c];
    }
}
