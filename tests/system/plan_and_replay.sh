#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What plan predicts is what a run reads, byte for byte; what a run decides, a replay decides; what a
# machine would take, plan forecasts.
# timeout: 120
# processors: 1
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
many_ranks_or_end 0
polyreme=$POLYREME_BUILD/polyreme
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# check MODEL RANKS FLAGS...
check() {
    local model=$POLYREME_SOURCE/$1 ranks=$2 name="$1 on $2 ranks, ${*:3}"
    shift 2
    "$polyreme" plan "$model" --ranks "$ranks" "$@" --json | jq '.ranks[].read_bytes' > "$work/planned"
    mpirun -n "$ranks" "$polyreme" batch "$model" -i "$POLYREME_SOURCE/models/demo/requests.jsonl" \
        -o "$work/out.jsonl" --record "$work/events" --served-model-name x "$@" < /dev/null > "$work/log" 2>&1
    sed -n 's/.* \([0-9]*\) bytes of weights read.*/\1/p' "$work/log" > "$work/read"
    if ! diff "$work/planned" "$work/read" > "$work/diff" || [ ! -s "$work/read" ]; then
        echo "FAILED $name: predicted and read bytes differ:"; cat "$work/diff"; tail -n 3 "$work/log"
        failures=$((failures + 1))
    else
        echo "ok     $name: read $(tr '\n' ' ' < "$work/read")bytes as planned"
    fi
    local decided replayed
    decided=$(sed -n 's/.*decision hash \([0-9a-f]*\)/\1/p' "$work/log")
    replayed=$("$polyreme" simulate --replay "$work/events" | sed -n 's/decision hash //p')
    if [ -z "$decided" ] || [ "$decided" != "$replayed" ]; then
        echo "FAILED $name: decided '$decided', replayed '$replayed'"
        failures=$((failures + 1))
    else
        echo "ok     $name: decision hash $decided, replayed the same"
    fi
    # A record is enough to simulate the run it is of.
    "$polyreme" simulate --calibrate "$work/events" > "$work/predicted" 2>&1
    if ! grep -q '^requests answered .* 1\.000$' "$work/predicted"; then
        echo "FAILED $name: the simulation did not answer what the run answered:"; tail -n 3 "$work/predicted"
        failures=$((failures + 1))
    else
        echo "ok     $name: $(grep '^TTFT mean' "$work/predicted" | tr -s ' ') (recorded, predicted, ratio)"
    fi
}
check models/demo 3 --mixed 1x3
check models/demo 4 --prefill 1x2:tp=2 --decode 1x2
check tests/data/models/mixtral-tiny 3 --prefill 1x1 --decode 1x2
check tests/data/models/llama-tiny 4 --mixed 1x4:tp=4

# expect NAME TEXT COMMAND...: the command's output, errors included, has the text.
expect() {
    local name=$1 text=$2
    shift 2
    if "$@" 2>&1 | grep -qF -- "$text"; then
        echo "ok     $name"
    else
        echo "FAILED $name: no '$text' in: $*"
        failures=$((failures + 1))
    fi
}
plan=("$polyreme" plan "$POLYREME_SOURCE/models/demo" --ranks 4)
expect "a measured machine is marked validated" "validated  against" "${plan[@]}" --machine cpu
expect "another one is marked not validated" "not validated" "${plan[@]}" --machine mi300x
expect "a machine's memory is planned for" "Ranks    of 67.1 GiB each" "${plan[@]}" --machine h100
expect "split groups have a balance" "prefill lanes for each decode lane" \
    "${plan[@]}" --machine h200 --prefill 1x2 --decode 1x2
expect "an unknown machine is refused with those there are" "mi250x" "${plan[@]}" --machine v100
if [ "$("${plan[@]}" --json | jq '.forecast')" != null ]; then
    echo "FAILED without a machine there is no forecast"
    failures=$((failures + 1))
fi
forecast=$("${plan[@]}" --machine cpu --prompt-tokens 2000 --output-tokens 100 --json | jq '.forecast')
if jq -e '.validated and .prompt_tokens == 2000 and .ttft_s > 0 and .steps[0].tpot_s > 0 and
        .requests_per_s > 0 and (.output_tokens_per_s / .requests_per_s - 100 | fabs) < 1e-6 and
        .prefill_cost.kappa == 3072' > /dev/null <<< "$forecast"; then
    echo "ok     the forecast as JSON"
else
    echo "FAILED the forecast as JSON: $forecast"
    failures=$((failures + 1))
fi
trace=$POLYREME_SOURCE/tests/data/traces/azure2023_conv.csv.gz
split=("$polyreme" plan "$POLYREME_SOURCE/models/demo" --log-level error --split 4 --trace "$trace" --requests 1000)
best=$("${split[@]}" --cost h100-llama3-70b --json | jq -r '"\(.prefill_groups):\(.decode_groups) of \(.splits | length)"')
if [ "$best" = "3:1 of 3" ]; then
    echo "ok     the best split of four groups: $best"
else
    echo "FAILED the best split of four groups: $best"
    failures=$((failures + 1))
fi
expect "a split needs step times" "--machine" "${split[@]}"
expect "a split needs a workload" "--trace" "$polyreme" plan "$POLYREME_SOURCE/models/demo" --split 4 --machine cpu
exit "$((failures > 0))"
