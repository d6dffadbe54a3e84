// SPDX-License-Identifier: Apache-2.0
// Stands in for NCCL's header, so that plugins/comm-nccl.c runs without GPUs: the same names, the
// same meaning, only what that file uses.
#ifndef CUDA_ON_CPU_NCCL_H
#define CUDA_ON_CPU_NCCL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
typedef struct CUstream_st *cudaStream_t;
typedef struct ncclComm *ncclComm_t;
typedef struct {
    char internal[128];
} ncclUniqueId;
typedef enum { ncclSuccess, ncclSystemError = 2, ncclInvalidArgument = 4 } ncclResult_t;
typedef enum { ncclInt8 } ncclDataType_t;

ncclResult_t ncclGetUniqueId(ncclUniqueId *id);
ncclResult_t ncclCommInitRank(ncclComm_t *comm, int size, ncclUniqueId id, int rank);
ncclResult_t ncclCommDestroy(ncclComm_t comm);
const char *ncclGetErrorString(ncclResult_t code);
ncclResult_t ncclGroupStart(void);
ncclResult_t ncclGroupEnd(void);
ncclResult_t ncclAllGather(const void *give, void *take, size_t n, ncclDataType_t, ncclComm_t,
                           cudaStream_t);
ncclResult_t ncclBroadcast(const void *give, void *take, size_t n, ncclDataType_t, int root,
                           ncclComm_t, cudaStream_t);
ncclResult_t ncclSend(const void *give, size_t n, ncclDataType_t, int peer, ncclComm_t,
                      cudaStream_t);
ncclResult_t ncclRecv(void *take, size_t n, ncclDataType_t, int peer, ncclComm_t, cudaStream_t);
#ifdef __cplusplus
}
#endif

#endif
