// Logarithm and exponential that give the same bits as src/portable.rs does on the host: the same lines, in operations
// that IEEE 754 rounds correctly. Every fused operation is written out, so that the compiler has none to choose.
#pragma once

#include "element.cuh"

constexpr double LN_2_HIGH = 0x1.62e42fee00000p-1;
constexpr double LN_2_LOW = 0x1.a39ef35793c76p-33;
constexpr double WIDE_LOG2_E = 1.4426950408889634074;
constexpr double SQRT_2 = 1.41421356237309504880;
constexpr double HALF_SQRT_2 = 0.707106781186547524401;

// ln((1 + s) / (1 - s)) = 2 s (1 + s^2 / 3 + s^4 / 5 + ...) for |s| up to 0.172.
__device__ __forceinline__ double twice_atanh(double s) {
    const double z = __dmul_rn(s, s);
    double sum = 1.0 / 25.0;
#pragma unroll
    for (int k = 11; k >= 0; k--) {
        sum = fma(sum, z, 1.0 / (2 * k + 1));
    }
    return __dmul_rn(__dadd_rn(s, s), sum);
}

// The natural logarithm; -inf at 0, NaN below, and x itself for +inf and NaN.
__device__ __forceinline__ double portable_ln(double x) {
    const double top = __longlong_as_double(0x7ff0000000000000ll);
    if (!(x > 0.0) || x == top) {
        return x == 0.0 ? -top : (x < 0.0 ? __longlong_as_double(0x7ff8000000000000ll) : x);
    }
    // Below the normal range the exponent field says nothing.
    int shift = 0;
    if (x < 0x1.0p-1022) {
        x = __dmul_rn(x, 0x1.0p54);
        shift = 54;
    }
    const i64 bits = __double_as_longlong(x);
    int exponent = static_cast<int>(bits >> 52) - 1023 - shift;
    double mantissa = __longlong_as_double((bits & 0x000fffffffffffffll) | 0x3ff0000000000000ll);
    if (mantissa > SQRT_2) {
        mantissa = __dmul_rn(mantissa, 0.5);
        exponent++;
    }
    const double f = __dadd_rn(mantissa, -1.0);
    const double e = exponent;
    return fma(e, LN_2_HIGH, fma(e, LN_2_LOW, twice_atanh(f / __dadd_rn(2.0, f))));
}

// ln(1 + x) for x above -1, exact for small x too.
__device__ __forceinline__ double portable_ln_1p(double x) {
    const double whole = __dadd_rn(1.0, x);
    if (whole > HALF_SQRT_2 && whole < SQRT_2) {
        return twice_atanh(x / __dadd_rn(2.0, x));
    }
    return portable_ln(whole);
}

// (e^r - 1) / r = 1 + r / 2! + r^2 / 3! + ... for |r| up to 0.35.
__device__ __forceinline__ double divided_exp_m1(double r) {
    const double factorials[14] = {2.0,           6.0,           24.0,           120.0,        720.0,
                                   5040.0,        40320.0,       362880.0,       3628800.0,    39916800.0,
                                   479001600.0,   6227020800.0,  87178291200.0,  1307674368000.0};
    double sum = 1.0 / 20922789888000.0;
#pragma unroll
    for (int k = 13; k >= 0; k--) {
        sum = fma(sum, r, 1.0 / factorials[k]);
    }
    return fma(sum, r, 1.0);
}

// e^x; 0 below -708, where the result would leave the normal range, +inf above 709.
__device__ __forceinline__ double portable_exp(double x) {
    if (x != x) {
        return x;
    }
    if (x < -708.0) {
        return 0.0;
    }
    if (x > 709.0) {
        return __longlong_as_double(0x7ff0000000000000ll);
    }
    const double k = floor(fma(x, WIDE_LOG2_E, 0.5));
    const double r = fma(k, -LN_2_LOW, fma(k, -LN_2_HIGH, x));
    const double power = __longlong_as_double((static_cast<i64>(k) + 1023) << 52);
    return __dmul_rn(fma(r, divided_exp_m1(r), 1.0), power);
}

// e^x - 1 for x up to 0.
__device__ __forceinline__ double portable_exp_m1(double x) {
    return x > -0.34 ? __dmul_rn(x, divided_exp_m1(x)) : __dadd_rn(portable_exp(x), -1.0);
}
