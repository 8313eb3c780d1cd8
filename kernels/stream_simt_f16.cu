// target: compute_75
// The stream for f16 embeddings; see stream_simt.cuh.
#include "stream_simt.cuh"

STREAM_KERNELS(f16, f16)
