// SPDX-License-Identifier: Apache-2.0
// Softmax of a row and its cross entropy, for device/cpu/levels.h.

// log sum exp of a row: its largest value and the sum of exponentials below it. A row of -inf gives
// -inf.
static float LEVEL(lse_row)(const float *x, size_t n)
{
    float top = -INFINITY, most[LANES];
    size_t i = 0;
    vsum best;
    vi odd = {0};
    EACH_PART(p) best.part[p] = vf_all(top);
    for (; i + LANES <= n; i += LANES)
        EACH_PART(p)
        {
            vf v = vf_load(x + i + p * VF);
            odd |= vf_nan(v);
            best.part[p] = vf_select(vf_below(best.part[p], v), v, best.part[p]);
        }
    float nan[VF];
    vf_store(nan, (vf)odd);
    EACH_PART(p) vf_store(most + p * VF, best.part[p]);
    for (size_t l = 0; l < VF; l++)
        if (nan[l] != nan[l]) // all bits: a NaN
            return nan[l];
    for (size_t l = 0; l < LANES; l++)
        top = most[l] > top ? most[l] : top;
    for (; i < n; i++) {
        if (x[i] != x[i])
            return x[i];
        top = x[i] > top ? x[i] : top;
    }
    if (isinf(top))
        return top;
    vf t = vf_all(top);
    vsum s = {0};
    for (i = 0; i + LANES <= n; i += LANES)
        EACH_PART(p) s.part[p] += vf_exp(vf_load(x + i + p * VF) - t);
    double sum = (double)vf_total(&s);
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
    for (size_t i = 0; i < j->cols; i += LANES) {
        vsum s = {0}, h = {0};
        EACH_PART(q)
        {
            size_t at = size_min(j->cols, i + q * VF), k = size_min(VF, j->cols - at);
            vf a = vf_load_n(x + at, k) - ll, c = vf_load_n(t + at, k) - lu, p = vf_exp(c);
            vf_store_n(g + at, w * (vf_exp(a) - p), k);
            if (k < VF) {
                float live[VF] = {0};
                vf_store_n(live, p, k);
                p = vf_load(live);
            }
            vi some = vf_below(zero, p);
            s.part[q] = vf_select(some, p * a, zero);
            h.part[q] = vf_select(some, p * c, zero);
        }
        loss -= (double)vf_total(&s);
        entropy -= (double)vf_total(&h);
    }
    // A NaN must not hide behind the selection.
    if (lx != lx || lt != lt)
        loss = entropy = (double)NAN;
    j->loss[r] = (float)loss;
    if (j->entropy)
        j->entropy[r] = (float)entropy;
}
