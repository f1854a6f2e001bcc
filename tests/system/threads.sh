#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Threads of a rank: how many, where they are bound, what is said about it, and that the threads that serve
# and decide are not on the one core of the thread that computes.
# timeout: 120
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/models/demo
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2> /dev/null; rm -rf "$work"' EXIT
failures=0
cores=$(nproc)

check() { # name, condition's status
    if [ "$2" -eq 0 ]; then
        echo "ok     $1"
    else
        echo "FAILED $1"
        failures=$((failures + 1))
    fi
}

# says NAME TEXT COMMAND...: a line of the command's output, errors included, matches.
says() {
    local name=$1 text=$2
    shift 2
    "$@" < /dev/null > "$work/said" 2>&1
    grep -qE -- "$text" "$work/said"
    check "$name" $?
}

generate=("$polyreme" generate "$model" -p "Once upon" -n 8 --temperature 0)

says "one thread is what was asked for" "threads of a rank: 1 thread on " "${generate[@]}" --threads 1
says "--bind off binds nothing" "not bound: " "${generate[@]}" --threads 1 --bind off
says "OMP_NUM_THREADS changes nothing" "threads of a rank: 1 thread on 1 core" \
    env OMP_NUM_THREADS=7 taskset -c "$(taskset -pc $$ | sed 's/.*[:,-] *//')" "${generate[@]}"
says "more threads than cores run, with a warning" "WARN --threads $((cores + 1)): .* take turns" \
    "${generate[@]}" --threads $((cores + 1))
[ "$(grep -c WARN "$work/said")" -eq 1 ]
check "and the warning is one line" $?
says "a number of threads is asked for, not a word" "--threads 'some' is not a whole number" "${generate[@]}" --threads some

if "$polyreme" doctor | grep -q 'hwloc 2'; then
    large='pack:2 numa:4 core:16 pu:2'
    says "plan cuts a large node by NUMA nodes" 'mpirun -n 8 --map-by ppr:1:numa:PE=16 --bind-to core' \
        env HWLOC_SYNTHETIC="$large" "$polyreme" plan "$model"
    says "and says so for srun" 'srun -n 8 --cpus-per-task=16 ' env HWLOC_SYNTHETIC="$large" "$polyreme" plan "$model"
    says "plan divides cores by ranks" '"threads_per_rank": 32' \
        env HWLOC_SYNTHETIC="$large" "$polyreme" plan "$model" --ranks 4 --json
    says "doctor advises the same" 'mpirun -n 8 --map-by ppr:1:numa:PE=16' env HWLOC_SYNTHETIC="$large" "$polyreme" doctor
fi

# Which CPUs each thread of a live server may use, by the thread's name.
"$polyreme" serve "$model" --uds "$work/socket" --threads 2 --bind on > "$work/log" 2>&1 &
server=$!
for _ in $(seq 200); do
    [ -S "$work/socket" ] && grep -q controller "/proc/$server/task"/*/comm 2> /dev/null && break
    sleep 0.1
done
sleep 0.2
all=$(sed -n 's/^Cpus_allowed_list:\t//p' /proc/self/status)
for task in "/proc/$server/task"/*; do
    name=$(cat "$task/comm")
    [ "${task##*/}" = "$server" ] && name=worker
    printf '%s %s\n' "$name" "$(sed -n 's/^Cpus_allowed_list:\t//p' "$task/status")"
done > "$work/places"
kill "$server"
wait "$server"
server=
for name in http controller; do
    grep -qx "$name $all" "$work/places"
    check "the $name thread may use all cores" $?
done
if [ "$cores" -gt 1 ]; then
    for name in worker kernels; do
        grep -qE "^$name [0-9]+\$" "$work/places"
        check "the $name thread is on a core of its own" $?
    done
    [ "$(grep -E '^(worker|kernels) ' "$work/places" | cut -d' ' -f2 | sort -u | wc -l)" -eq 2 ]
    check "on two different cores" $?
fi
[ "$failures" -eq 0 ] || cat "$work/places"

many_ranks_or_end "$failures"
says "ranks that share the cores divide them" "threads of a rank: $((cores / 4 > 1 ? cores / 4 : 1)) thread" \
    mpirun --bind-to none -n 4 "${generate[@]}"
grep -q WARN "$work/said"
check "without a warning" $((!$?))
says "ranks that are told to share cores say so" "WARN .*--threads $cores: $((2 * cores)) threads take turns on $cores" \
    mpirun --bind-to none -n 2 "${generate[@]}" --threads "$cores"
exit "$((failures > 0))"
