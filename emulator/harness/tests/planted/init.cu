// Reads before writes.
#include "planted.cuh"

// Copies; the defect is the host's, which fills too little of `in`.
PAIR(copies) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = in[i];
}

PAIR(shared_uninitialised) {
    __shared__ float tile[64];
    int i = threadIdx.x;
    if (mended || i < 63) tile[i] = in[i];
    __syncthreads();
    out[i] = tile[63 - i];
}

PAIR(local_uninitialised) {
    volatile float kept[8];
    int i = threadIdx.x;
    int count = mended ? 8 : 7;
    for (int k = 0; k < count; k++) kept[k] = in[i] + k;
    out[i] = kept[i % 8];
}
