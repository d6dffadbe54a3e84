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

// given_ce of row r against its target.
static void LEVEL(given_row)(const struct dev_given *j, size_t r, size_t n)
{
    const float *x = j->logits + r * j->ld;
    float *g = j->grad + r * j->ld, lse = j->lse[r], k = j->other ? 2 : 1;
    int32_t y = j->target[r];
    float at = y < 0 ? 0 : x[y]; // the gradient may be the logits
    double slope = 0;
    vf w = vf_all(j->weight), l = vf_all(lse);
    for (size_t i = 0; i < n; i += LANES) {
        vsum s = {0};
        EACH_PART(q)
        {
            size_t c = size_min(n, i + q * VF), m = size_min(VF, n - c);
            vf v = vf_load_n(x + c, m), p = vf_exp(v - l);
            if (j->other)
                p += vf_exp(v - vf_load_n(j->other + c, m));
            p *= w;
            vf_store_n(g + c, p, m);
            s.part[q] = p * v;
        }
        slope += (double)vf_total(&s);
    }
    if (y >= 0) {
        g[y] -= k * j->weight;
        slope -= (double)(k * j->weight) * (double)at;
    }
    if (j->loss)
        j->loss[r] = y < 0 ? 0 : lse - at + (j->other ? j->other[y] - at : 0);
    if (j->slope)
        j->slope[r] = (float)slope;
}

// weight (p - P) of one softmax, its log p and P for the sums; dead lanes have a P of 0.
SIMD_INLINE vf LEVEL(given_pair)(vf a, vf b, size_t live, vf *teacher)
{
    vf p = vf_exp(b), zero = {0};
    vf diff = vf_exp(a) - p;
    if (live < VF) {
        float some[VF] = {0};
        vf_store_n(some, p, live);
        p = vf_load(some);
    }
    *teacher = vf_select(vf_below(zero, p), p, zero);
    return diff;
}

// P log p, 0 where P is 0 whatever log p is.
SIMD_INLINE vf LEVEL(given_times)(vf p, vf a)
{
    vf zero = {0};
    return vf_select(vf_below(zero, p), p * a, zero);
}

// given_ce of row r against a teacher's row.
static void LEVEL(given_soft_row)(const struct dev_given *j, size_t r, size_t n)
{
    const float *x = j->logits + r * j->ld, *t = j->teacher + r * j->teacher_ld;
    float *g = j->grad + r * j->ld;
    double loss = 0, entropy = 0, slope = 0;
    vf w = vf_all(j->weight), l = vf_all(j->lse[r]), lt = vf_all(j->teacher_lse[r]);
    for (size_t i = 0; i < n; i += LANES) {
        vsum s = {0}, h = {0}, k = {0};
        EACH_PART(q)
        {
            size_t c = size_min(n, i + q * VF), m = size_min(VF, n - c);
            vf v = vf_load_n(x + c, m), u = vf_load_n(t + c, m), p, y;
            vf a = v - l, b = u - lt, d = LEVEL(given_pair)(a, b, m, &p);
            s.part[q] = LEVEL(given_times)(p, a);
            h.part[q] = LEVEL(given_times)(p, b);
            if (j->other) {
                vf a2 = v - vf_load_n(j->other + c, m), b2 = u - vf_load_n(j->teacher_other + c, m);
                d += LEVEL(given_pair)(a2, b2, m, &y);
                s.part[q] += LEVEL(given_times)(y, a2);
            }
            d *= w;
            vf_store_n(g + c, d, m);
            k.part[q] = d * v;
        }
        loss -= (double)vf_total(&s);
        entropy -= (double)vf_total(&h);
        slope += (double)vf_total(&k);
    }
    // A NaN must not hide behind the selection.
    if (j->lse[r] != j->lse[r] || j->teacher_lse[r] != j->teacher_lse[r])
        loss = entropy = (double)NAN;
    if (j->loss)
        j->loss[r] = (float)loss;
    if (j->entropy)
        j->entropy[r] = (float)entropy;
    if (j->slope)
        j->slope[r] = (float)slope;
}
