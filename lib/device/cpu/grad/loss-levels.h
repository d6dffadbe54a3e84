// SPDX-License-Identifier: Apache-2.0
// Softmax of a row and its cross entropy, for device/cpu/levels.h.

// log sum exp of a row: its largest value and the sum of exponentials below it. A row of -inf gives
// -inf.
static float LEVEL(lse_row)(const float *x, size_t n)
{
    float top = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (x[i] != x[i])
            return x[i]; // NaN
        top = x[i] > top ? x[i] : top;
    }
    if (isinf(top))
        return top;
    vf t = vf_all(top), s = {0};
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        s += vf_exp(vf_load(x + i) - t);
    double sum = (double)vf_sum(s);
    for (; i < n; i++)
        sum += exp((double)x[i] - top);
    return (float)(top + log(sum));
}

// y = weight exp(x - lse)
static void LEVEL(soft_row)(const float *x, size_t n, float lse, float weight, float *y)
{
    vf l = vf_all(lse), w = vf_all(weight);
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        vf_store(y + i, w * vf_exp(vf_load(x + i) - l));
    if (i < n)
        vf_store_n(y + i, w * vf_exp(vf_load_n(x + i, n - i) - l), n - i);
}

// With a = x - lse(x), b = t - lse(t): loss - sum P a, entropy - sum P b; P = exp b, where it is 0
// the product is 0 whatever a is.
static void LEVEL(soft_ce_row)(const struct loss_job *j, size_t r)
{
    const float *x = j->logits + r * j->ld, *t = j->teacher + r * j->teacher_ld;
    float *g = j->grad + r * j->ld, lx = LEVEL(lse_row)(x, j->cols),
          lt = LEVEL(lse_row)(t, j->cols);
    double loss = 0, entropy = 0;
    vf w = vf_all(j->weight), ll = vf_all(lx), lu = vf_all(lt), zero = {0};
    for (size_t i = 0; i < j->cols; i += VF) {
        size_t k = size_min(VF, j->cols - i);
        vf a = (k == VF ? vf_load(x + i) : vf_load_n(x + i, k)) - ll;
        vf c = (k == VF ? vf_load(t + i) : vf_load_n(t + i, k)) - lu;
        vf p = vf_exp(c), y = w * (vf_exp(a) - p);
        if (k == VF) {
            vf_store(g + i, y);
        } else {
            vf_store_n(g + i, y, k);
            float live[VF];
            vf_store(live, p);
            memset(live + k, 0, (VF - k) * sizeof *live);
            p = vf_load(live);
        }
        vi some = vf_below(zero, p);
        loss -= (double)vf_sum(vf_select(some, p * a, zero));
        entropy -= (double)vf_sum(vf_select(some, p * c, zero));
    }
    // A NaN must not hide behind the selection.
    if (lx != lx || lt != lt)
        loss = entropy = (double)NAN;
    j->loss[r] = (float)loss;
    if (j->entropy)
        j->entropy[r] = (float)entropy;
}
