// SPDX-License-Identifier: Apache-2.0
// What the stand-in counts, for tests in C and C++.
#ifndef CUDA_ON_CPU_COUNTS_H
#define CUDA_ON_CPU_COUNTS_H

#include <stdint.h>

struct cuda_on_cpu_counts {
    uint64_t waits;    // of the host for work that was not done yet
    uint64_t mallocs;  // cudaMalloc
    uint64_t launches; // kernels, copies and products given to a stream, one for a graph
    uint64_t graphs;   // graphs launched
};
#ifdef __cplusplus
extern "C" {
#endif
extern struct cuda_on_cpu_counts cuda_on_cpu_counts __attribute__((weak));
#ifdef __cplusplus
}
#endif

#endif
