#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# --trace-file tells every request's phases and every step; --log-format json makes each line an object.
# timeout: 60
# processors: 1
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/models/demo
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# expect NAME FILE FILTER: the jq filter says true of the whole file.
expect() {
    if [ "$(jq -s "$3" "$2" 2>&1)" = true ]; then
        echo "ok     $1"
    else
        echo "FAILED $1: $(jq -s "$3" "$2" 2>&1 | head -n 3)"
        failures=$((failures + 1))
    fi
}

# check NAME COMMAND...: eight requests with a timeline.
check() {
    local name=$1 trace=$work/trace.json
    shift
    "$@" "$polyreme" batch "$model" -i "$model/requests.jsonl" -o "$work/out.jsonl" --trace-file "$trace" \
        --log-format json $layout < /dev/null 2> "$work/log" || { echo "FAILED $name"; failures=$((failures + 1)); }
    expect "$name: eight requests, each with all phases opened and closed once" "$trace" '
        [.[0][] | select(.cat == "request" and .ph != "n")] | group_by(.id) | length == 8 and
        all(map(.ph + .name) == ["brequest", "bqueued", "equeued", "bprefill", "eprefill", "bdecode", "edecode", "erequest"])'
    expect "$name: the steps of a lane do not overlap" "$trace" '
        [.[0][] | select(.ph == "X")] | length > 10 and (group_by([.pid, .tid]) |
        all([.[] | [.ts, .ts + .dur]] as $step | all(range(1; $step | length); $step[.][0] >= $step[. - 1][1] - 0.002)))'
    expect "$name: counters of queue and KV" "$trace" '
        [.[0][] | select(.ph == "C") | .name] | unique == ["KV blocks in use", "sequences"]'
    expect "$name: log lines are objects" "$work/log" '
        length > 5 and all(keys == ["level", "rank", "text", "time"] and .level == "INFO")'
}

layout=
check "one process"
many_ranks_or_end "$failures"
layout="--prefill 1x1 --decode 1x2"
check "three ranks" mpirun -n 3
expect "three ranks: handovers are told" "$work/trace.json" 'any(.[0][]; .name == "handover")'
exit $((failures > 0))
