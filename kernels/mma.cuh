// The tensor cores' instructions and the fragments they take. Compute capability 8.0 and later.
//
// mma.sync m16n8k16: a warp multiplies A (16 x 16) by B (16 x 8). With g = lane / 4 and t = lane % 4 a lane holds of the sum
// the columns 2t, 2t + 1 of rows g and g + 8. Two sums side by side, rounded to 16 bits, are an A fragment as they
// stand: the weights go from the first product into the second without leaving their registers.
#pragma once

#include "element.cuh"

// A and B fragments of one product, two elements to a register.
struct FragmentA {
    unsigned at[4];
};

struct FragmentB {
    unsigned at[2];
};

// sum += a * b.
__device__ __forceinline__ void multiply(float (&sum)[4], const FragmentA& a, const FragmentB& b, f16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a.at[0]), "r"(a.at[1]), "r"(a.at[2]), "r"(a.at[3]), "r"(b.at[0]), "r"(b.at[1]));
}

__device__ __forceinline__ void multiply(float (&sum)[4], const FragmentA& a, const FragmentB& b, bf16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a.at[0]), "r"(a.at[1]), "r"(a.at[2]), "r"(a.at[3]), "r"(b.at[0]), "r"(b.at[1]));
}

// Two sums as 16-bit elements, the first one in the lower half.
__device__ __forceinline__ unsigned pack(float first, float second, f16) {
    unsigned packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(second), "f"(first));
    return packed;
}

__device__ __forceinline__ unsigned pack(float first, float second, bf16) {
    unsigned packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(second), "f"(first));
    return packed;
}

// 2^x. Results below the normal range are 0.
__device__ __forceinline__ float exp2_approximate(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

// Four 8 x 8 matrices; lane i names row i % 8 of matrix i / 8.
__device__ __forceinline__ void load_matrices(unsigned (&to)[4], unsigned address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

__device__ __forceinline__ void load_matrices_transposed(unsigned (&to)[4], unsigned address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// Embeddings lie in shared memory by rows of PITCH bytes (a multiple of 128). The 16-byte pieces of a row are permuted by
// an exclusive or with the row's number, so that eight rows of one piece, which is what ldmatrix reads, lie in
// different banks.
template <int PITCH>
__device__ __forceinline__ unsigned piece_address(unsigned base, int row, int piece) {
    return base + row * PITCH + ((piece ^ (row & 7)) << 4);
}

// The 16 rows from `row` on, dimensions 16 step and up, as an A fragment.
template <int PITCH>
__device__ __forceinline__ void load_a(FragmentA& to, unsigned base, int row, int step, int lane) {
    load_matrices(to.at, piece_address<PITCH>(base, row + lane % 16, 2 * step + lane / 16));
}

// The same rows as the B fragments of two products: rows are the columns of B, first 8 and last 8.
template <int PITCH>
__device__ __forceinline__ void load_b(FragmentB (&to)[2], unsigned base, int row, int step, int lane) {
    unsigned at[4];
    load_matrices(at, piece_address<PITCH>(base, row + lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2));
    to[0] = FragmentB{{at[0], at[1]}};
    to[1] = FragmentB{{at[2], at[3]}};
}

// The same rows as the B fragments of two products of the second kind: rows are the rows of B, dimensions 16 step and up
// its columns.
template <int PITCH>
__device__ __forceinline__ void load_b_transposed(FragmentB (&to)[2], unsigned base, int row, int step, int lane) {
    unsigned at[4];
    load_matrices_transposed(at, piece_address<PITCH>(base, row + lane % 16, 2 * step + lane / 16));
    to[0] = FragmentB{{at[0], at[1]}};
    to[1] = FragmentB{{at[2], at[3]}};
}
