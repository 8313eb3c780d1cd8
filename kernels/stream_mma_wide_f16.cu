// target: compute_80
// The stream on tensor cores for f16 embeddings with more than 256 dimensions; see stream_mma_wide.cuh.
#include "stream_mma_wide.cuh"

WIDE_KERNELS(f16, f16)
