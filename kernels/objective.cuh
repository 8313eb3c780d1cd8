// The row functions of src/objective.rs, on the device. tests compare the two on a grid.
#pragma once

#include "element.cuh"

// The order of the host's table in src/cuda/rows.rs.
enum ObjectiveKind {
    SOFTMAX = 0,
    ADDITIVE_MARGIN = 1,
    DECOUPLED = 2,
    CORRECTED_LOG_Q = 3,
    DEBIASED = 4,
    SIGMOID = 5,
};

struct RowInputs {
    float x;                   // LSE - z+; sum softplus(z) under the sigmoid link
    float z_positive;
    float negatives;           // n
    float inverse_temperature;
    float log_rest;            // lambda log(1 - q_+)
};

struct RowTerm {
    float loss;
    float negative;            // a
    float positive;            // b
    float inverse_temperature; // the derivative that does not go through logits
};

// Sampled softmax of a row with negatives at x = LSE - z+: loss = softplus(x), a = b = sigmoid(x), with full relative
// accuracy on converged rows.
__device__ __forceinline__ RowTerm sampled_softmax_at(float x) {
    const float e = expf(-fabsf(x));
    const float loss = fmaxf(x, 0.0f) + log1pf(e);
    const float sigmoid = x >= 0.0f ? 1.0f / (1.0f + e) : e / (1.0f + e);
    // fmaxf drops a NaN; the loss must not.
    return RowTerm{isnan(x) ? x : loss, sigmoid, sigmoid, 0.0f};
}

// w (LSE' - s+) with w = sigmoid(LSE' - log n - s+) held constant.
__device__ __forceinline__ RowTerm corrected_log_q(const RowInputs& row) {
    const float x = row.x + row.log_rest;
    const float weight = sampled_softmax_at(x - logf(row.negatives)).negative;
    return RowTerm{weight * x, weight, weight, 0.0f};
}

// log(1 + G / e^{z+}), G the estimate or its bound, whichever is larger.
__device__ __forceinline__ RowTerm debiased(const RowInputs& row, float prior) {
    const float x = row.x;
    if (isnan(x)) {
        return RowTerm{x, x, x, x};
    }
    const float taken = row.negatives * prior;
    const float bound = logf(row.negatives) - row.inverse_temperature - row.z_positive;
    const float e = expf(-fabsf(x));
    const float shrunk = x >= 0.0f ? 1.0f - taken * e : e - taken;
    const float log_rest = log1pf(-prior);
    const float estimate = shrunk > 0.0f ? fmaxf(x, 0.0f) + logf(shrunk) - log_rest : -infinity();
    if (estimate <= bound) {
        RowTerm term = sampled_softmax_at(bound);
        term.negative = 0.0f;
        term.inverse_temperature = -term.positive;
        return term;
    }
    const float rest = 1.0f - prior - taken;
    const float loss = x >= 0.0f ? x + log1pf(rest * e) - log_rest : log1pf(shrunk / (1.0f - prior));
    const float mass = x >= 0.0f ? 1.0f / (1.0f + e * rest) : e / (e + rest);
    return RowTerm{loss, mass, mass, 0.0f};
}

__device__ __forceinline__ RowTerm objective(int kind, float parameter, const RowInputs& row) {
    switch (kind) {
    case ADDITIVE_MARGIN:
        return sampled_softmax_at(row.x + parameter);
    case DECOUPLED:
        return RowTerm{row.x, 1.0f, 1.0f, 0.0f};
    case CORRECTED_LOG_Q:
        return corrected_log_q(row);
    case DEBIASED:
        return debiased(row, parameter);
    case SIGMOID: {
        const RowTerm positive = sampled_softmax_at(-row.z_positive);
        return RowTerm{row.x + positive.loss, 1.0f, positive.positive, 0.0f};
    }
    default:
        return sampled_softmax_at(row.x);
    }
}
