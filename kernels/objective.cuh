// The row functions of src/objective.rs, on the device. tests compare the two on a grid.
#pragma once

#include "element.cuh"

struct RowTerm {
    float loss;
    float negative; // a
    float positive; // b
};

// loss = softplus(LSE - z+), a = b = sigmoid(LSE - z+), written on the difference so that converged rows keep
// full relative accuracy. No negatives: all zero.
__device__ __forceinline__ RowTerm sampled_softmax(float lse, float z_positive) {
    if (lse == -infinity()) {
        return RowTerm{0.0f, 0.0f, 0.0f};
    }
    const float x = lse - z_positive;
    const float e = expf(-fabsf(x));
    const float loss = fmaxf(x, 0.0f) + log1pf(e);
    const float sigmoid = x >= 0.0f ? 1.0f / (1.0f + e) : e / (1.0f + e);
    // fmaxf drops a NaN; the loss must not.
    return RowTerm{isnan(x) ? x : loss, sigmoid, sigmoid};
}
