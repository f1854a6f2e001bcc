#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A rank that is killed, stops answering or sends damaged KV: the job ends within seconds with one line
# that names it, whole lines are kept, nothing hangs and nothing is left.
# timeout: 240
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
source "$POLYREME_SOURCE/tests/system/job_ranks"
many_ranks_or_end 0
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/tests/data/models/mixtral-tiny
work=$(mktemp -d)
job=
trap '[ -n "$job" ] && kill -9 $(pgrep -P "$job") "$job" 2> /dev/null; rm -rf "$work"' EXIT
failures=0
verdict() { # NAME CONDITION-STATUS DETAIL
    if [ "$2" -eq 0 ]; then echo "ok     $1: $3"; else
        echo "FAILED $1: $3"
        sed 's/^/    /' "$work/err" | tail -n 25
        failures=$((failures + 1))
    fi
}
for i in $(seq 3000); do
    echo "{\"custom_id\":\"r$i\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":\"abc r$i\",\"max_tokens\":150,\"ignore_eos\":true}}"
done > "$work/long.jsonl"

start() { # MPIRUN-FLAGS -- FLAGS: a job of three ranks that has answered something
    local launch=()
    while [ "$1" != -- ]; do launch+=("$1") && shift; done
    shift
    rm -f "$work/out.jsonl"
    mpirun "${launch[@]}" -n 3 "$polyreme" batch "$model" -i "$work/long.jsonl" -o "$work/out.jsonl" \
        --journal off --order completion --log-level warn "$@" > "$work/err" 2>&1 &
    job=$!
    for _ in $(seq 300); do [ -s "$work/out.jsonl" ] && break; sleep 0.1; done
    pids=$(pgrep -P "$job")
}
# The job has ended by itself with an error, our one line (at most LINES) says PATTERN, and what is
# written is whole. With --enable-recovery mpirun itself ends with 0 whatever its ranks say: then "any".
check_end() { # NAME PATTERN [LINES [any]]
    local said lines whole
    said=$(grep -c ' ERROR ' "$work/err")
    lines=$(wc -l < "$work/out.jsonl")
    whole=$(jq -c .custom_id "$work/out.jsonl" 2> /dev/null | wc -l)
    [ "$code" != 0 ] || [ "${4:-}" = any ] || code=unexpected
    [ "$code" != hangs ] && [ "$code" != unexpected ] && [ "$said" -ge 1 ] && [ "$said" -le "${3:-1}" ] &&
        grep ' ERROR ' "$work/err" | grep -qE "$2" &&
        [ "$lines" -gt 0 ] && [ "$lines" -lt 3000 ] && [ "$lines" -eq "$whole" ] && [ "$left" -eq 0 ]
    verdict "$1" "$?" "exit code $code after $took s, $lines lines, $whole whole, $left processes left: $(
        grep ' ERROR ' "$work/err" | cut -d' ' -f2- | tr '\n' '|')"
}

split=(--prefill 1x1 --decode 1x2)
start -- "${split[@]}"
kill -9 "$(rank_pid 2)"
await_end 40
check_end "a killed decode rank ends the job" 'rank 2 \(decode group 1\)'

start --enable-recovery -- "${split[@]}" --respawn off
kill -9 "$(rank_pid 2)"
await_end 40
check_end "so does one that mpirun would live without" 'rank 2 \(decode group 1\)' 1 any

start --enable-recovery -- --mixed 1x3 --respawn off
kill -9 "$(rank_pid 1)"
await_end 40
check_end "a killed rank of a mixed group too" 'rank 1 \(mixed group 0\)' 1 any

start --enable-recovery -- "${split[@]}"
kill -9 "$(rank_pid 0)"
await_end 40
check_end "a killed controller ends its workers" 'rank 0 \(the controller\) is lost' 2 any

start -- --mixed 1x3 --comm-timeout 3000
kill -STOP "$(rank_pid 2)"
await_end 60
check_end "a stuck rank of a group is named by the others" 'rank 2 did not answer within 3000 ms'

start -- --prefill 1x2 --decode 1x1 --comm-timeout 3000
kill -STOP "$(rank_pid 2)"
await_end 60
# Either the controller misses the group's signs, or a prefill rank that wants to send to it speaks first.
check_end "a stuck rank that is alone in its group ends the job" 'decode group 1|rank 2 did not answer within 1500 ms'

# ---- Damaged KV ----
head -n 40 "$work/long.jsonl" > "$work/short.jsonl"
run_split() { # OUTPUT
    timeout 60 mpirun -n 2 "$polyreme" batch "$model" -i "$work/short.jsonl" -o "$1" --prefill 1x1 --decode 1x1 \
        --log-level error > "$work/err" 2>&1
}
run_split "$work/intact.jsonl"
verdict "KV that arrives intact" "$?" "$(wc -l < "$work/intact.jsonl") answers"
POLYREME_TEST_CORRUPT_KV=1 run_split "$work/damaged.jsonl"
code=$?
same=$(grep '"status_code":200' "$work/damaged.jsonl" | sort | comm -12 - <(sort "$work/intact.jsonl") | wc -l)
refused=$(grep -c 'damaged at the decode group in 8 attempts' "$work/damaged.jsonl")
verdict "KV that arrives damaged is computed again or refused" \
    "$([ $((same + refused)) -eq 40 ] && { [ "$code" -eq 0 ] || [ "$code" -eq 3 ]; }; echo $?)" \
    "exit code $code, $same answers the same, $refused refused after 8 attempts"

run_lanes() { # OUTPUT
    timeout 60 mpirun -n 4 "$polyreme" batch "$model" -i "$POLYREME_SOURCE/tests/data/requests/shared_prefixes.jsonl" \
        -o "$1" --mixed 4x1 --max-num-seqs 2 --max-num-batched-tokens 32 > "$work/err" 2>&1
}
run_lanes "$work/intact.jsonl"
# How many prefixes are fetched depends on how the ranks take turns, and may be none.
lost=0 tries=0 same=72 code=0
while [ "$lost" -eq 0 ] && [ "$tries" -lt 10 ] && [ "$same" -eq 72 ] && [ "$code" -eq 0 ]; do
    tries=$((tries + 1))
    rm -rf "$work"/damaged.jsonl*
    POLYREME_TEST_CORRUPT_KV=1 run_lanes "$work/damaged.jsonl"
    code=$?
    same=$(sort "$work/damaged.jsonl" | comm -12 - <(sort "$work/intact.jsonl") | wc -l)
    lost=$(sed -n 's/.* handovers and \([0-9]*\) gathers arrived damaged.*/\1/p' "$work/err")
    lost=${lost:-0}
done
verdict "a prefix that arrives damaged from another lane is computed" \
    "$([ "$same" -eq 72 ] && [ "$code" -eq 0 ] && [ "$lost" -gt 0 ]; echo $?)" \
    "exit code $code, $same of 72 answers the same, $lost gathers lost, in run $tries"
exit "$((failures > 0))"
