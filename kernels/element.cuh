// Storage types, widening to f32 and rounding back, without toolkit headers; warp reductions.
#pragma once

struct f16 {
    unsigned short bits;
};

struct bf16 {
    unsigned short bits;
};

typedef long long i64;
typedef unsigned long long u64;

constexpr unsigned FULL_WARP = 0xffffffffu;
constexpr int WARP = 32;

__device__ __forceinline__ float infinity() {
    return __int_as_float(0x7f800000);
}

__device__ __forceinline__ float not_a_number() {
    return __int_as_float(0x7fc00000);
}

__device__ __forceinline__ float widen(float value) {
    return value;
}

__device__ __forceinline__ float widen(f16 value) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
    return wide;
}

__device__ __forceinline__ float widen(bf16 value) {
    return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
}

__device__ __forceinline__ void narrow(float value, float& out) {
    out = value;
}

__device__ __forceinline__ void narrow(float value, f16& out) {
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(value));
}

// Nearest, ties to even; compute_75 has no instruction for it. A NaN keeps its top bits and is made quiet.
__device__ __forceinline__ void narrow(float value, bf16& out) {
    const unsigned bits = __float_as_uint(value);
    const unsigned rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const unsigned quiet = (bits >> 16) | 0x40u;
    out.bits = static_cast<unsigned short>((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

// Elements in one 128-bit load.
template <typename T>
struct Vector {
    static constexpr int WIDTH = 16 / sizeof(T);
};

// Reads of global memory that nobody writes while the kernel runs.
__device__ __forceinline__ float read_only(const float* source) {
    return __ldg(source);
}

template <typename T>
__device__ __forceinline__ T read_only(const T* source) {
    return T{__ldg(&source->bits)};
}

__device__ __forceinline__ void read_aligned(const float* source, float (&out)[4]) {
    const float4 raw = __ldg(reinterpret_cast<const float4*>(source));
    out[0] = raw.x;
    out[1] = raw.y;
    out[2] = raw.z;
    out[3] = raw.w;
}

template <typename T>
__device__ __forceinline__ void read_aligned(const T* source, float (&out)[8]) {
    const uint4 raw = __ldg(reinterpret_cast<const uint4*>(source));
    const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        T low, high;
        low.bits = static_cast<unsigned short>(words[i]);
        high.bits = static_cast<unsigned short>(words[i] >> 16);
        out[2 * i] = widen(low);
        out[2 * i + 1] = widen(high);
    }
}

// The butterfly leaves the same bits in every lane: each step adds the same two numbers in both.
template <typename V>
__device__ __forceinline__ V warp_sum(V value) {
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) {
        value += __shfl_xor_sync(FULL_WARP, value, step);
    }
    return value;
}

__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) {
        value = fmaxf(value, __shfl_xor_sync(FULL_WARP, value, step));
    }
    return value;
}

// One over the L2 norm of a row, in two factors: x / |x| = (x * scale) * inverse. `scale` is a power of two
// that brings the largest element near 1, so that squares neither overflow nor underflow, whatever
// the row's range. A zero row has inverse 0. Called by a whole warp; every lane gets the result.
template <typename T>
__device__ __forceinline__ float2 inverse_norm(const T* row, int dim, int lane) {
    float largest = 0.0f;
#pragma unroll 1
    for (int d = lane; d < dim; d += WARP) {
        largest = fmaxf(largest, fabsf(widen(row[d])));
    }
    largest = warp_max(largest);
    // The exponent field of 2^-floor(log2(largest)), kept normal.
    const int exponent = static_cast<int>(__float_as_uint(largest) >> 23);
    // Of a zero row 1, so that a gradient times both factors is 0 and not inf * 0.
    const int inverted = largest == 0.0f ? 127 : min(max(254 - exponent, 1), 254);
    const float scale = __uint_as_float(static_cast<unsigned>(inverted) << 23);
    float sum = 0.0f;
#pragma unroll 1
    for (int d = lane; d < dim; d += WARP) {
        const float scaled = widen(row[d]) * scale;
        sum = fmaf(scaled, scaled, sum);
    }
    sum = warp_sum(sum);
    return make_float2(scale, sum == 0.0f ? 0.0f : 1.0f / sqrtf(sum));
}

// An element of a row as the loss sees it: normalised if asked, 1 and 1 otherwise.
template <typename T>
__device__ __forceinline__ float unit(T value, float2 norm) {
    return widen(value) * norm.x * norm.y;
}

__device__ __forceinline__ float2 norm_of(const float2* norms, i64 index) {
    return norms == nullptr ? make_float2(1.0f, 1.0f) : norms[index];
}

// The score of a user and an item by a whole warp, in one order wherever it is formed: equal embeddings tie. Every lane
// gets it.
template <typename T>
__device__ __forceinline__ float
warp_score(const T* user, float2 user_norm, const T* item, float2 item_norm, int dim, int lane) {
    float score = 0.0f;
#pragma unroll 1
    for (int d = lane; d < dim; d += WARP) {
        score = fmaf(unit(user[d], user_norm), unit(item[d], item_norm), score);
    }
    return warp_sum(score);
}
