// target: compute_75
// The stream for f32 embeddings; see stream_simt.cuh.
#include "stream_simt.cuh"

STREAM_KERNELS(f32, float)
