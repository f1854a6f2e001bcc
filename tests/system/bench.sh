#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 400
# polyreme bench: every request of a scaled trace is finished, comes when its time comes, and its row adds
# up; blocks shared in the trace are cache hits; the run's record replays.
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/models/demo
trace=$POLYREME_SOURCE/tests/data/traces/mooncake_conversation.jsonl.gz
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

fail() {
    echo "FAILED $*"
    failures=$((failures + 1))
}

# expect CODE PATTERN ARGUMENT...
expect() {
    local code=$1 pattern=$2 got
    shift 2
    "$polyreme" bench "$model" "$@" --log-level error > "$folder/out" 2> "$folder/err"
    got=$?
    if [ $got != "$code" ] || ! grep -qE -- "$pattern" "$folder/err"; then
        fail "bench $*: exit code $got, expected $code and '$pattern': $(cat "$folder/err")"
    fi
}

expect 2 '--trace FILE is missing'
expect 2 "--speed '1,2' is not one number" --trace "$trace" --speed 1,2
expect 2 'the model takes 2048: scale more' --trace "$trace" --scale-tokens 32
expect 2 'scale less' --trace "$trace" --requests 10 --scale-tokens 1024

# Two requests that share 16 blocks of 512 tokens, the second a second later.
ids=$(seq -s ', ' 1 16)
{
    echo "{\"timestamp\": 0, \"input_length\": 8192, \"output_length\": 512, \"hash_ids\": [$ids]}"
    echo "{\"timestamp\": 2000, \"input_length\": 8500, \"output_length\": 512, \"hash_ids\": [$ids, 99]}"
} > "$folder/shared.jsonl"

# check NAME ROWS COMMAND...: runs it with a dump and a record.
check() {
    local name=$1 rows=$2
    shift 2
    if ! "$@" --dump "$folder/run.csv" --record "$folder/events" --json < /dev/null > "$folder/run.json" 2> "$folder/err"; then
        fail "$name: $(tail -n 3 "$folder/err")"
        return
    fi
    [ "$(wc -l < "$folder/run.csv")" = $((rows + 1)) ] || fail "$name: $(wc -l < "$folder/run.csv") lines of CSV"
    [ "$(jq .runs[0].finished "$folder/run.json")" = "$rows" ] || fail "$name: not all finished"
    awk -F, 'NR > 1 && !($9 >= $2 && $10 >= $9 && $12 >= $10 && $5 >= 0) { print; bad = 1 } END { exit bad }' \
        "$folder/run.csv" || fail "$name: a row does not add up"
    "$polyreme" simulate --replay "$folder/events" > "$folder/replayed" 2>&1 || fail "$name: $(tail -n 1 "$folder/replayed")"
    grep -q "$(jq -r .scheduler.decision_hash "$folder/run.json")" "$folder/replayed" || fail "$name: another decision hash"
    echo "done: $name"
}

check "one process" 2 "$polyreme" bench "$model" --trace "$folder/shared.jsonl"
[ "$(sed -n 3p "$folder/run.csv" | cut -d , -f 7)" = 128 ] || fail "the second request found $(sed -n 3p "$folder/run.csv")"
check "from the trace" 40 "$polyreme" bench "$model" --trace "$trace" --requests 40 --speed 10

many_ranks_or_end "$failures"
check "3 ranks" 40 mpirun -n 3 "$polyreme" bench "$model" --trace "$trace" --requests 40 --speed 5 --prefill 1x1 --decode 1x2
awk -F, 'NR > 1 && $4 > 1 && !($6 == 0 && $11 >= $10) { bad = 1 } END { exit bad }' "$folder/run.csv" ||
    fail "a request joined no decode group"
exit "$((failures > 0))"
