// target: compute_80
// The stream on tensor cores for bf16 embeddings with more than 256 dimensions; see stream_mma_wide.cuh.
#include "stream_mma_wide.cuh"

WIDE_KERNELS(bf16, bf16)
