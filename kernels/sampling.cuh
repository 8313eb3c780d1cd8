// What the host passes to the kernels of frequency.cu and sampling.cu, by value. src/cuda/arguments.rs holds the same
// structs; both sides assert the sizes. Apart from arguments.cuh, which every kernel of the loss is compiled from.
#pragma once

#include "portable.cuh"

// The frequency estimator's counters, in device memory.
struct FrequencyState {
    u64 step;    // steps made
    u64 unknown; // ids met that have no bucket
};
static_assert(sizeof(FrequencyState) == 16, "mirror of src/cuda/arguments.rs");

struct FrequencyArguments {
    const i64* ids;         // [count]
    u64* last_step;         // [hashes, buckets] A
    float* interval;        // [hashes, buckets] B
    FrequencyState* state;
    float* log_q;           // [count], null: not wanted
    u64 count;
    u64 buckets;
    u64 seed;
    int hashes;
    int direct;             // whether ids are buckets
    float learning_rate;
    float kept;             // 1 - learning_rate
    float low;              // intervals outside low..high count as its end
    float high;
    int advance;            // whether the read ends the step
    int padding;
};
static_assert(sizeof(FrequencyArguments) == 96, "mirror of src/cuda/arguments.rs");

// The frequency counter's sums, in device memory.
struct CounterState {
    u64 total;   // ids counted
    u64 unknown; // ids met that have no count
};
static_assert(sizeof(CounterState) == 16, "mirror of src/cuda/arguments.rs");

struct CounterArguments {
    const i64* ids;       // [count]
    u64* counts;          // [size]
    CounterState* state;
    float* log_q;         // [count]
    u64 count;
    u64 size;
    double draws;
};
static_assert(sizeof(CounterArguments) == 56, "mirror of src/cuda/arguments.rs");

// A sampler's counters, in device memory.
struct SamplerState {
    u64 call;  // samples drawn so far
    u64 tries; // draws that the last sample took
};
static_assert(sizeof(SamplerState) == 16, "mirror of src/cuda/arguments.rs");

// The order of src/cuda/sampler.rs.
enum Law { UNIFORM = 0, LOG_UNIFORM = 1, UNIGRAM = 2 };

struct SampleArguments {
    const u64* threshold;      // [range - reserved], unigram: the alias table
    const unsigned* alias;     // [range - reserved]
    const double* probability; // [range - reserved]
    SamplerState* state;
    i64* ids;                  // [count] written by a sample, read by sampler_log_q
    float* log_q;              // [count]
    i64* keys;                 // [slots] ids met so far, without replacement
    unsigned* first;           // [slots] the draw that brought each of them first
    u64 count;
    u64 slots;                 // a power of two, at least twice the ids that may be met
    u64 range;
    u64 reserved;
    u64 seed;
    u64 limit;                 // draws after which to give up, without replacement
    double log_range;
    int law;
    int unique;
};
static_assert(sizeof(SampleArguments) == 128, "mirror of src/cuda/arguments.rs");

constexpr int MAX_POOLS = 8;

struct MixedLogQArguments {
    const float* log_q[MAX_POOLS]; // [count] each
    double log_scale[MAX_POOLS];   // -inf: a pool without columns
    double log_total;
    float* mixed;                  // [count]
    u64 count;
    int pools;
    int padding;
};
static_assert(sizeof(MixedLogQArguments) == 160, "mirror of src/cuda/arguments.rs");

struct KeepArguments {
    const float* log_shares; // [count]
    float* weights;          // [count]
    SamplerState* state;
    u64 count;
    u64 seed;
    double log_threshold;
};
static_assert(sizeof(KeepArguments) == 48, "mirror of src/cuda/arguments.rs");
