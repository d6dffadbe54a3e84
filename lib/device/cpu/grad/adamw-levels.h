// SPDX-License-Identifier: Apache-2.0
// AdamW, for device/cpu/levels.h.

// param *= 1 - lr decay; m, v moving averages of g and g^2;
// param -= lr / bias1 * m / (sqrt(v / bias2) + eps)
VECTOR_LOOP static void LEVEL(adamw_run)(const struct dev_adamw *o, size_t n,
                                         const float *restrict grad, float *restrict m,
                                         float *restrict v, float *restrict param)
{
    const float keep = 1 - o->lr * o->weight_decay, b1 = o->beta1, b2 = o->beta2;
    const float c1 = 1 - b1, c2 = 1 - b2, eps = o->eps;
    const float scale = o->clip ? o->clip->factor * o->grad_scale : o->grad_scale;
    const float rate = o->lr / o->bias1, root = 1 / sqrtf(o->bias2);
    if (scale != scale)
        return;
    for (size_t i = 0; i < n; i++) {
        float g = scale * grad[i];
        m[i] = b1 * m[i] + c1 * g;
        v[i] = b2 * v[i] + c2 * g * g;
        param[i] = keep * param[i] - rate * m[i] / (sqrtf(v[i]) * root + eps);
    }
}
