// The row functions of src/objective.rs, on the device. tests compare the two on a grid.
#pragma once

#include "element.cuh"

struct RowTerm {
    float loss;
    float negative; // a
    float positive; // b
};

// Sampled softmax of a row with negatives at x = LSE - z+: loss = softplus(x), a = b = sigmoid(x), with full relative
// accuracy on converged rows.
__device__ __forceinline__ RowTerm sampled_softmax_at(float x) {
    const float e = expf(-fabsf(x));
    const float loss = fmaxf(x, 0.0f) + log1pf(e);
    const float sigmoid = x >= 0.0f ? 1.0f / (1.0f + e) : e / (1.0f + e);
    // fmaxf drops a NaN; the loss must not.
    return RowTerm{isnan(x) ? x : loss, sigmoid, sigmoid};
}
