#!/usr/bin/env bash
# Runs what the bundle holds on this machine's GPU, within ten minutes: tests, compute-sanitizer on a few of them,
# benchmarks. Leaves everything in one folder, a line for each stage in its `summary`.
#   run.sh [--emulate] [RESULTS]       default results-<date and time> beside this script
# --emulate rehearses it without a GPU on the emulator: fewer cases, no sanitizer, times that mean nothing.
# Needs bash and the driver. compute-sanitizer and a Python with PyTorch are used if they are there.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

emulate=
if [ "${1:-}" = --emulate ]; then
    emulate=1
    shift
fi
results=${1:-$here/results-$(date +%Y%m%d-%H%M%S)}
mkdir -p "$results"
results=$(cd "$results" && pwd)
summary=$results/summary
deadline=$((SECONDS + 590))
failed=0

# stage NAME SECONDS COMMAND...: runs it with its output in NAME.log, for so long at most as is left.
stage() {
    local name=$1 most=$2 begin=$SECONDS left=$((deadline - SECONDS)) status
    shift 2
    if [ "$left" -lt 5 ]; then
        echo "$name: no time left" | tee -a "$summary"
        failed=1
        return
    fi
    timeout "$((most < left ? most : left))" "$@" >"$results/$name.log" 2>&1 </dev/null
    status=$?
    case $status in
        0) echo "$name: ok, $((SECONDS - begin)) s" ;;
        124) echo "$name: stopped after $((SECONDS - begin)) s" ;;
        *) echo "$name: FAILED ($status), $((SECONDS - begin)) s" ;;
    esac | tee -a "$summary"
    [ "$status" = 0 ] || failed=1
}

skip() { echo "$1: skipped, $2" | tee -a "$summary"; }

{
    date --utc
    cat "$here/built"
    uname -srm
    grep -m1 'model name' /proc/cpuinfo
    [ -n "$emulate" ] && echo "emulated: times mean nothing" || nvidia-smi
} >"$results/machine" 2>&1

# The mutants are the emulator's, and their list is in the sources.
tests=(--skip mutants::)
if [ -n "$emulate" ]; then
    export PTX_EMULATOR=force PTX_EMULATOR_LIBRARY=$here/libptx_emulator.so INBATCH_EMULATED_CASES=4
else
    export PTX_EMULATOR=never INBATCH_CASES=48
fi
stage driver 30 "$here/driver_tests"
stage tests 240 "$here/tests" "${tests[@]}"

# A block that meets several tiles, plain kernels and tensor cores of every shape, the bank, integer atomics, class tables,
# gathered negatives.
selection=(same_bits::repeated_steps oracle::features mma::poison_in_the_workspace bank::warm_up
    frequency::the_same_bits sampling::samples_of_everything table::the_same_bits_again row_negatives::gradients_of_every_type
    hard_negatives::shapes_around_the_tile)
sanitizer=$(PATH=$PATH:/usr/local/cuda/bin:/opt/cuda/bin command -v compute-sanitizer)
if [ -n "$emulate" ]; then
    skip sanitizer "the emulator has its own checks, which were on"
elif [ -z "$sanitizer" ]; then
    skip sanitizer "no compute-sanitizer on PATH or in /usr/local/cuda/bin"
else
    for tool in memcheck racecheck initcheck synccheck; do
        stage "sanitizer-$tool" 40 "$sanitizer" --tool "$tool" --error-exitcode 9 "$here/tests" "${selection[@]}"
    done
fi

export CRITERION_HOME=$results/criterion
short=(--bench --noplot --warm-up-time 0.2 --measurement-time 0.6 --sample-size 10)
if [ -n "$emulate" ]; then
    stage bench 60 env LD_PRELOAD="$PTX_EMULATOR_LIBRARY" PTX_EMULATOR_CHECKS=none "$here/bench" "${short[@]}" f32/64/.*/256
else
    stage bench 120 "$here/bench" "${short[@]}"
fi

peers=("$here/peers/run.py" --ours "$here/peer_step" --device cuda --records "$results")
if ! python3 -c 'import numpy, torch' 2>/dev/null; then
    skip peers "no Python with PyTorch and NumPy"
elif [ -n "$emulate" ]; then
    stage peers 120 env LD_PRELOAD="$PTX_EMULATOR_LIBRARY" python3 "${peers[@]}" \
        --peers --sizes 64 --dims 32 --dtypes bf16 --bank-rows 32 --bank-columns 96 --rounds 2
else
    stage peers 150 python3 "${peers[@]}" \
        --sizes 4096 16384 --dims 128 --dtypes bf16 --bank-rows 4096 --bank-columns 262144 --rounds 7
fi

echo "$([ $failed = 0 ] && echo ok || echo FAILED), $SECONDS s in all: $results" | tee -a "$summary"
exit $failed
