// Copies of embeddings for the tensor cores when they are to be normalised.
// target: compute_80
#include "arguments.cuh"

constexpr int WARPS = 8; // embeddings of a block, one warp each
constexpr int BLOCK = WARPS * WARP;

// to[j] = x_j times the first factor of its norm, a power of two: exact, but for elements 2^24 times smaller than the
// embedding's largest. What is left of the norm lies between 1 and 2 sqrt(dim), and is applied to scores and weights in
// f32; rounding unit embeddings to 16 bits instead would put an error of 2^-9 / tau on logits. Absent columns (bias -inf)
// are not touched.
template <typename T>
__device__ __forceinline__ void scale_embeddings(const ScaleArguments& a) {
    const int lane = threadIdx.x % WARP;
    const i64 column = static_cast<i64>(blockIdx.x) * WARPS + threadIdx.x / WARP;
    if (column >= a.columns.count() || (a.bias != nullptr && a.bias[column] == -infinity())) {
        return;
    }
    const int dim = a.columns.dim;
    const T* from = a.columns.column<T>(column);
    T* to = static_cast<T*>(a.to) + column * dim;
    const float scale = a.norms[column].x;
#pragma unroll 1
    for (int d = lane; d < dim; d += WARP) {
        narrow(widen(from[d]) * scale, to[d]);
    }
}

#define SCALE_KERNEL(suffix, T)                                                                                      \
    extern "C" __global__ void __launch_bounds__(BLOCK) scale_embeddings_##suffix(const ScaleArguments a) {          \
        scale_embeddings<T>(a);                                                                                      \
    }

SCALE_KERNEL(f16, f16)
SCALE_KERNEL(bf16, bf16)
