#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
# processors: 1
# polyreme simulate: what a user can get wrong gives one line and the right exit code; a small run writes
# the rows it promises, and gives the same bytes again.
set -u
polyreme=$POLYREME_BUILD/polyreme
trace=$POLYREME_SOURCE/tests/data/traces/mooncake_conversation.jsonl.gz
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

fail() {
    echo "FAILED $*"
    failures=$((failures + 1))
}

# expect CODE PATTERN ARGUMENT...: one line on stderr with the pattern (grep -E).
expect() {
    local code=$1 pattern=$2 got
    shift 2
    "$polyreme" simulate "$@" > "$folder/out" 2> "$folder/err"
    got=$?
    if [ $got != "$code" ] || ! grep -qE -- "$pattern" "$folder/err" || [ "$(wc -l < "$folder/err")" != 1 ]; then
        fail "simulate $*: exit code $got, expected $code and one line with '$pattern':"
        cat "$folder/err"
    fi
}

printf '{"timestamp": 0, "input_length": 600, "output_length": 2, "hash_ids": [1, 2]}\n{"timestamp": 1}\n' > "$folder/bad.jsonl"
printf 'num_prefill_tokens,num_decode_tokens\n100,5\n' > "$folder/lengths.csv"
head -c 1000 "$trace" > "$folder/cut.gz"

expect 2 'give --trace FILE, or a record: --replay FILE or --calibrate FILE'
expect 4 'cannot read the trace .*nowhere' --trace "$folder/nowhere"
expect 4 'bad.jsonl line 2: "input_length"' --trace "$folder/bad.jsonl"
expect 4 'cut.gz is cut off' --trace "$folder/cut.gz"
expect 4 'does --block-tokens fit the trace' --trace "$trace" --block-tokens 16
expect 2 'no arrival times: give --rate' --trace "$folder/lengths.csv"
expect 2 "--groups '8,8': write prefill=P,decode=D" --trace "$trace" --groups 8,8
expect 2 "--groups 'prefill=0,decode=1'" --trace "$trace" --groups prefill=0,decode=1
expect 2 "--speed 'fast' is not a number" --trace "$trace" --speed 1,fast
expect 2 "--speed '0' is not a number above 0" --trace "$trace" --speed 0
expect 2 'empty entry' --trace "$trace" --policy lps,,rr
expect 2 "policy 'nosuch' is unknown" --trace "$trace" --requests 10 --policy nosuch
expect 2 'nosuch' --trace "$trace" --cost nosuch
expect 2 "--capacity 'slo-c' is unknown" --trace "$trace" --capacity slo-c
expect 2 'hold one run' --trace "$trace" --speed 1,2 --dump "$folder/run.csv"
expect 2 '--spans needs' --trace "$trace" --spans 10
expect 4 'cannot write .*nowhere' --trace "$trace" --dump "$folder/nowhere/run.csv"

run() {
    "$polyreme" simulate --trace "$trace" --requests 300 --policy round-robin "$@" 2>> "$folder/log"
}

run --speed 1.5 --dump "$folder/run.csv" --spans 50 > "$folder/table" || fail "a small run: $(cat "$folder/log")"
header=id,arrival,n_in,n_out,prefill_group,decode_group,hit_tokens,fetch_tokens,t_prefill_start,t_first,t_join,t_finish,tbt_mean,tbt_tail,tenant,priority,rejected
[ "$(head -n 1 "$folder/run.csv")" = "$header" ] || fail "header: $(head -n 1 "$folder/run.csv")"
[ "$(wc -l < "$folder/run.csv")" = 301 ] || fail "$(wc -l < "$folder/run.csv") lines of CSV, expected 301"
[ "$(wc -l < "$folder/run.spans.csv")" = 51 ] || fail "$(wc -l < "$folder/run.spans.csv") lines of spans"
grep -qE '^round-robin +1\.5 \|' "$folder/table" || fail "no row in the table: $(cat "$folder/table")"
awk -F, 'NR > 1 && !($10 >= $9 && $9 >= $2 && $12 >= $10) { bad = 1 } END { exit bad }' "$folder/run.csv" ||
    fail "times of a request run backwards"
run --speed 1.5 --dump "$folder/again.csv" > /dev/null
cmp -s "$folder/run.csv" "$folder/again.csv" || fail "the same run gave other bytes"

run --speed 1,2 --json > "$folder/run.json"
[ "$(jq '[.runs[].speed] == [1, 2] and .runs[0].finished == 300 and .runs[0].ttft_s.mean > 0' "$folder/run.json")" = true ] ||
    fail "JSON: $(head -c 400 "$folder/run.json")"
[ "$(jq -r .about.trace_sha256 "$folder/run.json")" = "$(sha256sum < "$trace" | cut -d ' ' -f 1)" ] ||
    fail "the trace's checksum is not sha256sum's"

run --capacity slo-b --json > "$folder/capacity.json"
[ "$(jq '.runs[0].goodput_slo_b >= 0.9 and .runs[0].speed > 0.1' "$folder/capacity.json")" = true ] ||
    fail "capacity: $(cat "$folder/capacity.json")"
grep -q 'missed' "$folder/log" || fail "the search for capacity told of no missed target"

"$polyreme" simulate --trace "$folder/lengths.csv" --rate 2 > "$folder/table" 2>&1 || fail "$(cat "$folder/table")"
exit "$((failures > 0))"
