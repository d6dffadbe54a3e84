// SPDX-License-Identifier: Apache-2.0
// Scores of attention, backward, for device/cpu/levels.h.

// Scores of query i, p = Q K^T and ds = dO V^T, to P and dS; `seen` keys are visible to it.
static void LEVEL(query)(const struct att_job *j, struct head *h, size_t i, size_t seen, float lse)
{
    float *p = h->p + i * j->length, *ds = h->ds + i * j->length;
    const float *g = h->dout + i * j->wide, *o = h->out + i * j->wide;
    vf l = vf_all(lse), scale = vf_all(j->scale);
    vsum dd = {0};
    for (size_t c = 0; c < j->wide; c += LANES)
        EACH_PART(q) dd.part[q] += vf_load(g + c + q * VF) * vf_load(o + c + q * VF);
    vf D = vf_all(vf_total(&dd));
    for (size_t x = 0; x < seen; x += VF) {
        vf e = vf_exp(vf_load(p + x) * scale - l);
        vf_store(p + x, e);
        vf_store(ds + x, e * (vf_load(ds + x) - D) * scale);
    }
    for (size_t x = seen; x < j->length; x++)
        p[x] = ds[x] = 0;
}
