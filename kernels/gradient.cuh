// From tau dL/dv to the gradient of one embedding, by a whole warp: through the normalisation, over tau.
#pragma once

#include "element.cuh"

// tau <v, dv>. `difference` is tau dL/dv of the embedding as the loss sees it, by dimension.
template <typename T, typename Difference>
__device__ __forceinline__ float
gradient_along(const T* embedding, float2 norm, const Difference& difference, int dim, int lane) {
    float along = 0.0f;
#pragma unroll 1
    for (int d = lane; d < dim; d += WARP) {
        along = fmaf(unit(embedding[d], norm), difference(d), along);
    }
    return warp_sum(along);
}

// `along` is read if the embedding is normalised only.
template <typename T, typename G, typename Difference>
__device__ __forceinline__ void write_gradient(
    const T* embedding, float2 norm, bool normalized, float along, const Difference& difference,
    float inverse_temperature, int dim, int lane, G* out) {
#pragma unroll 1
    for (int d = lane; d < dim; d += WARP) {
        float gradient = difference(d);
        if (normalized) {
            gradient = fmaf(-unit(embedding[d], norm), along, gradient) * norm.x * norm.y;
        }
        narrow(gradient * inverse_temperature, out[d]);
    }
}
