// SPDX-License-Identifier: Apache-2.0
// The order that blocks and threads take, from the environment.
#ifndef CUDA_ON_CPU_ORDER_H
#define CUDA_ON_CPU_ORDER_H

#include <cstdlib>
#include <cstring>

namespace cuda_on_cpu
{
enum order_kind { ORDER_FORWARD, ORDER_REVERSE, ORDER_SHUFFLE };

inline order_kind order()
{
    static const order_kind kind = [] {
        const char *s = getenv("CUDA_ON_CPU_ORDER");
        if (s && !strcmp(s, "reverse"))
            return ORDER_REVERSE;
        return s && !strcmp(s, "shuffle") ? ORDER_SHUFFLE : ORDER_FORWARD;
    }();
    return kind;
}

// The block that is run i-th of n: a walk by a step that shares no factor with n.
inline unsigned order_block(unsigned i, unsigned n)
{
    if (order() == ORDER_FORWARD)
        return i;
    if (order() == ORDER_REVERSE)
        return n - 1 - i;
    unsigned long step = n * 5ul / 8 | 1;
    for (unsigned long a = step, b = n; b != 1; step += 2) {
        for (a = step, b = n; a;) {
            unsigned long r = b % a;
            b = a;
            a = r;
        }
        if (b == 1)
            break;
    }
    return (unsigned)(i * step % n);
}
} // namespace cuda_on_cpu

#endif
