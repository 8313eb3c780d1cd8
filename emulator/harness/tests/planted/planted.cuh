// Each defect is a kernel `name` with its mended twin `name_mended`: one source, with the mended line behind a constant.
// All kernels take (out, in, n): n floats each.
#pragma once

#define PAIR(name)                                                                                               \
    template <bool mended> static __device__ void name##_body(float *out, const float *in, int n);                \
    extern "C" __global__ void name(float *out, const float *in, int n) { name##_body<false>(out, in, n); }       \
    extern "C" __global__ void name##_mended(float *out, const float *in, int n) { name##_body<true>(out, in, n); } \
    template <bool mended> static __device__ void name##_body(float *out, const float *in, int n)
