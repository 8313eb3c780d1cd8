// target: compute_75
// The stream for bf16 embeddings; see stream_simt.cuh.
#include "stream_simt.cuh"

STREAM_KERNELS(bf16, bf16)
