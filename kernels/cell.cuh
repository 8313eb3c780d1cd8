// What one cell of the score matrix does, whichever stream formed its score: its logit's weight under either link, and
// what is counted.
#pragma once

#include "arguments.cuh"

constexpr float LOG2_E = 1.4426950408889634f;

// exp(x) for x <= 0. Logits stay in natural units up to here: z is rounded once, and only differences are scaled.
__device__ __forceinline__ float exp_difference(float x) {
    return exp2f(x * LOG2_E);
}

// The sigmoid link of one logit, (0, 0) at -inf.
struct SigmoidCell {
    float weight; // sigmoid(z)
    float loss;   // softplus(z)
};

__device__ __forceinline__ SigmoidCell sigmoid_cell(float z) {
    const float e = exp_difference(-fabsf(z));
    // Not fmaxf, which would drop a NaN.
    const float linear = z > 0.0f ? z : 0.0f;
    return SigmoidCell{(z > 0.0f ? 1.0f : e) / (1.0f + e), linear + log1pf(e)};
}

// Backward: coefficient times the cell's weight. An absent cell and a row without weight give exactly 0, NaN or not.
__device__ __forceinline__ float backward_weight(int link, float z, float reference, float coefficient) {
    if (coefficient == 0.0f || z == -infinity()) {
        return 0.0f;
    }
    return coefficient * (link == SIGMOID_LINK ? sigmoid_cell(z).weight : exp_difference(z - reference));
}

// Three counts of one row over the cells of one tile, a byte each: tiles are at most 128 wide.
//   negatives: logits above -inf;  excluded: left out by their ids;  above: negatives not below or at the positive, so
//   that a NaN on either side counts against it.
enum CountIndex { NEGATIVES = 0, EXCLUDED = 1, ABOVE = 2 };
constexpr int COUNTS = 3;

__device__ __forceinline__ unsigned tally(float z, bool excluded, float positive) {
    const bool negative = z != -infinity();
    const bool above = negative && !(z <= positive);
    return (negative ? 1u : 0u) | (excluded ? 1u << 8 : 0u) | (above ? 1u << 16 : 0u);
}

__device__ __forceinline__ unsigned tallied(unsigned tallies, int index) {
    return tallies >> (8 * index) & 0xffu;
}
