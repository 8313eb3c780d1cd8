// target: compute_80
// The stream on tensor cores for bf16 embeddings; see stream_mma.cuh.
#include "stream_mma.cuh"

MMA_KERNELS(bf16, bf16)
