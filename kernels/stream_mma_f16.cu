// target: compute_80
// The stream on tensor cores for f16 embeddings; see stream_mma.cuh.
#include "stream_mma.cuh"

MMA_KERNELS(f16, f16)
