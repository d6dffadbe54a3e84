// SPDX-License-Identifier: Apache-2.0
// The CUDA device (compute capability 8.0 and later; cuBLASLt and the kernels beside this file).
// Against the CPU device: bfloat16 activations are rounded before an activation function that
// training keeps the input of, biases are rounded to bfloat16 where the result is, and GELU without
// a kept input is cuBLASLt's tanh form in bfloat16 (within 5e-4; exact in float32). CLIP_CID_TF32=1
// in the environment allows TF32 products in float32.
#ifndef DEVICE_CUDA_DEV_CUDA_H
#define DEVICE_CUDA_DEV_CUDA_H

#ifdef __cplusplus
extern "C" {
#endif

#include "device/dev.h"

// "cuda" or "cuda:N". Weak where it is called: a build without CUDA has none. 0 or -1.
int dev_cuda_open(struct dev *d, const char *name, enum dev_type act, struct err *e);

#ifdef __cplusplus
}
#endif

#endif
