#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Everything there is to show on one GPU, in one call of under ten minutes: the kernel tests on the device, the memory
# and race checkers, golden texts and log probabilities, one hash on all layouts, each kernel beside its limit and beside
# PyTorch, whole models beside transformers. Rows and checks are kept as they come.
#
#   benchmarks/gpu/run.sh [--device cuda|hip|emulated|emulated64] [--results FOLDER] [--steps a,b,...]
#       [--build FOLDER | --packed FILE] [--work FOLDER] [--seconds N] [--moe-layers N] [--small]
#
# --results   where gpu.json (the record), gpu.jsonl (its lines), gpu.log and gpu-profile.txt go [$OUT, else
#             benchmarks/results]
# --steps     of: build tests golden layouts memcheck racecheck kernels peers dense moe profile [all]
# --build     a build tree; made or brought up to date unless build is not among the steps [build-gpu]
# --packed    an archive made by benchmarks/gpu/pack on another machine: nothing is built
# --work      where random models are written [/dev/shm or the temporary folder, whichever has room]
# --seconds   all of it; steps that would begin later are left out and said so [585]
# --moe-layers  of the 48 of the mixture; the rest is carried on along a line, and the row says so [16]
# --small     tiny shapes and the demo model: shows that every step runs; no rate of it means anything
#
# Exit code: 0, 1 when a check failed; a missed target is a row, no failure.
set -euo pipefail
source_folder=$(cd "$(dirname "$0")/../.." && pwd)
here=$source_folder/benchmarks/gpu
device=cuda results=${OUT:-$source_folder/benchmarks/results} build=$source_folder/build-gpu packed='' work=''
steps=build,tests,golden,layouts,memcheck,racecheck,kernels,peers,dense,moe,profile
total_s=585 moe_layers=16 small=false
command_line="benchmarks/gpu/run.sh $*"

while [[ $# -gt 0 ]]; do
    if [[ $1 == --help || $1 == -h ]]; then
        sed -n '3,/^set -/ { /^set -/d; s/^# \{0,1\}//; p }' "$0"
        exit 0
    fi
    if [[ $1 == --small ]]; then
        small=true
        shift
        continue
    fi
    [[ $# -ge 2 ]] || { echo "run.sh: $1 takes a value, or is not known" >&2; exit 2; }
    case $1 in
    --device) device=$2 ;;
    --results) results=$2 ;;
    --steps) steps=$2 ;;
    --build) build=$2 ;;
    --packed) packed=$2 ;;
    --work) work=$2 ;;
    --seconds) total_s=$2 ;;
    --moe-layers) moe_layers=$2 ;;
    *) echo "run.sh: $1 is not known" >&2; exit 2 ;;
    esac
    shift 2
done

mkdir -p "$results"
results=$(cd "$results" && pwd)
lines=$results/gpu.jsonl log=$results/gpu.log profile=$results/gpu-profile.txt
: > "$lines"
: > "$log"
scratch=$(mktemp -d)
models=''  # folder of random models
revision=''
background=()
# shellcheck disable=SC2317  # called by the trap
end_all() {
    local pid
    for pid in "${background[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$scratch" ${models:+"$models"}
}
trap end_all EXIT

# ---- Steps ----

wanted() { [[ ,$steps, == *,$1,* ]]; }
left_s() { echo $((total_s - SECONDS)); }
have_torch() { python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; }
failed=0

note() { # check ok seconds why
    printf '{"check": "%s", "ok": %s, "seconds": %s, "why": "%s"}\n' "$1" "$2" "$3" "$4" >> "$lines"
    printf '%-22s %-7s %4s s  %s\n' "$1" "$([[ $2 == true ]] && echo ok || echo FAILED)" "$3" "$4"
}

left_out() { # step why
    echo "left out: $1: $2" | tee -a "$log"
    printf '{"left_out_%s": "%s"}\n' "$1" "$2" >> "$lines"
}

# step NAME LIMIT_S COMMAND...: its words go to the log; failure is a failed check, and the rest goes on.
step() {
    local name=$1 limit=$2 begin=$SECONDS status=0 why=''
    shift 2
    local left
    if $small; then limit=$((limit * 5)); fi  # emulated kernels, under sanitizers too
    left=$(left_s)
    if ((left < 5)); then
        left_out "$name" "no time"
        return 0
    fi
    ((limit < left)) || limit=$left
    echo "==== $name: $*" >> "$log"
    timeout --kill-after=5 "$limit" "$@" >> "$log" 2>&1 || status=$?
    if ((status == 0)); then
        note "$name" true $((SECONDS - begin)) ''
        return 0
    fi
    ((status == 124 || status == 137)) && why="cut short after $limit s" || why="exit code $status, see gpu.log"
    note "$name" false $((SECONDS - begin)) "$why"
    failed=1
    return 0
}

# ---- What is run ----

# The packed libraries are for the packed programs alone: python3 has its own.
unpack() {
    local real=$scratch/real program
    mkdir "$real"
    tar -C "$real" -xzf "$packed"
    for program in "$real"/polyreme "$real"/gpu_bench "$real"/test_* "$real"/mpi/bin/*; do
        [[ -x $program ]] || continue
        {
            echo '#!/bin/sh'
            echo "export LD_LIBRARY_PATH='$real/lib'\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
            echo "export OPAL_PREFIX='$real/mpi' PMIX_INSTALL_PREFIX='$real/mpi' UCX_MODULE_DIR='$real/lib/ucx'"
            echo "export PMIX_MCA_mca_base_component_path='$real/lib/pmix2/lib/pmix'"
            echo "exec '$program' \"\$@\""
        } > "$scratch/${program##*/}"
        chmod +x "$scratch/${program##*/}"
    done
    export PATH=$scratch:$real/mpi/bin:$PATH  # mpirun starts orted
    programs=$scratch
    revision=$(cat "$real/packed_by")
}

if [[ -n $packed ]]; then
    unpack
else
    if wanted build; then
        mpi=ON
        command -v mpicc > /dev/null || mpi=OFF
        step build 240 "$source_folder/scripts/build" "$build" "-DPOLYREME_MPI=$mpi"
    fi
    programs=$build
fi
polyreme=$programs/polyreme
bench=$programs/gpu_bench
[[ -x $polyreme && -x $bench ]] || {
    echo "run.sh: no polyreme and gpu_bench in $programs: $([[ -s $log ]] && tail -n 5 "$log")" >&2
    exit 1
}
[[ -n $revision ]] || revision=$(git -C "$source_folder" rev-parse HEAD 2>/dev/null || echo unknown)
quick=() tiny=()
if $small; then
    quick=(--quick) tiny=(--small)
fi

# ---- Models: written while the checks run, which are not timed ----

make_models() {
    local need=2 room
    if wanted dense; then need=$((need + 17)); fi
    if wanted moe; then need=$((need + 2 + moe_layers * 5 / 4)); fi
    if [[ -z $work ]]; then
        work=${TMPDIR:-/tmp}
        room=$(df --output=avail -B1G /dev/shm 2>/dev/null | tail -n 1 || true)
        local memory
        memory=$(awk '/MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)
        if ((${room:-0} > need && memory > need + 24)); then work=/dev/shm; fi
    fi
    room=$(df --output=avail -B1G "$work" | tail -n 1)
    if ((room <= need)); then
        left_out models "$work has $room GB free, $need are needed: --work FOLDER, or a smaller --moe-layers"
        return
    fi
    models=$(mktemp -d "$work/polyreme-models.XXXXXX")
    local fewer=()
    ((moe_layers >= 48)) || fewer=(--fewer $((moe_layers / 2)))
    # timeout ends all of its group when it is ended.
    # shellcheck disable=SC2016
    timeout 240 bash -c '
        if [[ $4 == true ]]; then python3 "$0" --preset llama-8b --out "$1/dense" || exit; fi
        if [[ $5 == true ]]; then python3 "$0" --preset qwen3-30b-a3b --layers "$2" --out "$1/moe" $3; fi' \
        "$here/big_model.py" "$models" "$moe_layers" "${fewer[*]}" "$(wanted dense && echo true)" \
        "$(wanted moe && echo true)" >> "$log" 2>&1 &
    background+=($!)
}

dense_model='' moe_model=''
if wanted dense || wanted moe; then
    if $small; then
        dense_model=$source_folder/models/demo moe_model=$source_folder/tests/data/models/mixtral-tiny
    elif have_torch; then
        make_models
    else
        left_out models "python3 has no torch with a GPU, which writes them"
    fi
fi

# ---- Right? ----

if wanted tests; then
    found=()
    for source in "$source_folder"/tests/kernel/test_gpu_*.c; do
        name=$(basename "$source" .c)
        for program in "$programs/$name" "$programs/tests/$name"; do
            [[ ! -x $program ]] || found+=("$program")
        done
    done
    # shellcheck disable=SC2016
    step tests 120 bash -c '(($# > 0)) && printf "%s\n" "$@" | xargs -n 1 -P 4 env' tests "${found[@]}"
fi
if wanted golden; then
    step "golden texts" 60 python3 "$here/checks.py" demo --polyreme "$polyreme" --device "$device" "${quick[@]}"
    step "golden logprobs" 60 python3 "$here/checks.py" tiny --polyreme "$polyreme" --device "$device" "${quick[@]}"
fi
for tool in memcheck racecheck; do
    wanted $tool || continue
    if [[ $device == cuda ]] && command -v compute-sanitizer > /dev/null; then
        step $tool 60 compute-sanitizer --tool $tool --target-processes all --error-exitcode 9 \
            "$bench" --small --repeats 1 --device "$device" --out "$scratch/$tool.jsonl"
    else
        left_out $tool "compute-sanitizer, which is for cuda, is not here"
    fi
done

# ---- Fast? ----

for pid in "${background[@]}"; do
    if wait "$pid"; then
        dense_model=$models/dense moe_model=$models/moe
    else
        left_out models "they could not be written, see gpu.log"
    fi
done
background=()

if wanted kernels; then step kernels 150 "$bench" --device "$device" --out "$lines" "${tiny[@]}"; fi
peers=false
if wanted peers && $small; then
    left_out peers "shapes are tiny"
elif wanted peers && have_torch; then
    peers=true
    step "peer limits" 40 python3 "$here/peer.py" limits --out "$lines"
    step "peer kernels" 100 python3 "$here/peer.py" kernels --rows "$lines" --out "$lines"
elif wanted peers; then
    left_out peers "python3 has no torch with a GPU"
fi

# whole NAME MODEL SEQUENCES TOKENS TARGET MORE...
whole() {
    local name=$1 model=$2 sequences=$3 tokens=$4 target=$5
    shift 5
    step "decode $sequences x $name" 100 python3 "$here/whole_model.py" --polyreme "$polyreme" --device "$device" \
        --model "$model" --name "$name" --sequences "$sequences" --tokens "$tokens" --target "$target" --out "$lines" \
        "${tiny[@]}" "$@"
}
peer_whole() { # NAME MODEL SEQUENCES
    $peers || return 0
    step "peer $3 x $1" 90 python3 "$here/peer.py" model --model "$2" --name "$1" --sequences "$3" --out "$lines"
}
if wanted dense && [[ -n $dense_model ]]; then
    if $small; then
        whole demo "$dense_model" 2 4 8000
    else
        whole llama-8b "$dense_model" 1 512 200
        whole llama-8b "$dense_model" 256 256 8000
        peer_whole llama-8b "$dense_model" 1
        peer_whole llama-8b "$dense_model" 256
    fi
fi
if wanted moe && [[ -n $moe_model ]]; then
    if $small; then
        whole mixtral-tiny "$moe_model" 2 4 400
    else
        more=()
        [[ ! -d $moe_model-fewer ]] || more=(--fewer "$moe_model-fewer" --layers 48)
        whole qwen3-30b-a3b "$moe_model" 1 512 400 "${more[@]}"
        peer_whole "qwen3-30b-a3b$([[ ! -d $moe_model-fewer ]] || echo ", $moe_layers layers")" "$moe_model" 1
    fi
fi

# ---- The same on every layout? ----

if wanted layouts; then
    ranks=()
    if command -v mpirun > /dev/null && ! $small && ! "$polyreme" doctor 2>/dev/null | grep -q 'without MPI'; then
        # shellcheck source=scripts/mpi_environment disable=SC1091
        source "$source_folder/scripts/mpi_environment"
        ranks=(--mpirun mpirun)
    fi
    step layouts 200 python3 "$here/checks.py" layouts --polyreme "$polyreme" --device "$device" "${quick[@]}" "${ranks[@]}"
fi

# ---- The table ----

make_report() {
    python3 "$here/report.py" --lines "$lines" --out "$results/gpu.json" --missed "$scratch/missed" \
        --command "$command_line" --revision "$revision"
}
make_report > "$scratch/table"
if wanted profile && [[ $device == cuda ]] && ! $small && command -v ncu > /dev/null; then
    metrics=gpu__time_duration.sum,dram__throughput.avg.pct_of_peak_sustained_elapsed
    metrics+=,sm__throughput.avg.pct_of_peak_sustained_elapsed,sm__warps_active.avg.pct_of_peak_sustained_active
    metrics+=,sm__inst_executed_pipe_tensor.sum,lts__t_sector_hit_rate.pct,launch__registers_per_thread
    metrics+=,launch__occupancy_limit_registers,launch__occupancy_limit_shared_mem,launch__grid_size
    metrics+=,smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio
    metrics+=,smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio
    metrics+=,l1tex__data_bank_conflicts_pipe_lsu.sum
    while IFS= read -r name; do
        (($(left_s) > 20)) || { left_out profile "no time for $name"; break; }
        {
            echo "==== $name"
            timeout 20 ncu --clock-control none --target-processes all --metrics "$metrics" --launch-skip 4 --launch-count 4 \
                "$bench" --device "$device" --only "$name" --repeats 1 --out "$scratch/profile.jsonl" 2>&1 ||
                echo "ncu failed"
        } >> "$profile"
    done < "$scratch/missed"
fi
cat "$scratch/table"
echo "results: $results/gpu.json, $SECONDS s"
exit "$failed"
