#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A serving run under load and abuse, a small version of benchmarks/serve/run: streams are not mixed up, and say the
# same on one rank and on two; idle connections, bad readers and garbage hurt nobody else; in the end all is let go.
# timeout: 180
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
polyreme=$POLYREME_BUILD/polyreme
load=$POLYREME_BUILD/benchmarks/load
model=$POLYREME_SOURCE/models/demo
work=$(mktemp -d)
job=
trap '[ -n "$job" ] && kill -9 $(pgrep -P "$job") "$job" 2> /dev/null; rm -rf "$work"' EXIT
failures=0
verdict() { # NAME CONDITION-STATUS DETAIL
    if [ "$2" -eq 0 ]; then echo "ok     $1: $3"; else
        echo "FAILED $1: $3"
        tail -n 25 "$work/log" "$work/said" | sed 's/^/    /'
        failures=$((failures + 1))
    fi
}
serve() { # COMMAND... : until the endpoint file is there
    "$@" --port 0 --endpoint-file "$work/endpoint.json" > "$work/log" 2>&1 < /dev/null &
    job=$!
    for _ in $(seq 400); do [ -s "$work/endpoint.json" ] && break; sleep 0.05; done
}
row() { jq -r "select(.measure == \"$1\").value" "$work/rows"; }
run() { # NAME MEASURE WORDS OF THE CLIENT...
    local name=$1 measure=$2 mode=$3
    shift 3
    "$load" "$mode" "$work/endpoint.json" "$@" > "$work/rows" 2> "$work/said"
    verdict "$name" "$?" "$measure $(row "$measure")"
}
end() { # NAME
    kill "$(jq .pid "$work/endpoint.json")"
    wait "$job"
    local code=$?
    job=
    verdict "$1" "$code" "exit code $code, $(grep -c -E 'ERROR|Sanitizer|runtime error' "$work/log") faults in the log"
    grep -E 'ERROR|Sanitizer|runtime error' "$work/log" > "$work/said"
    [ ! -s "$work/said" ] || verdict "a quiet log" 1 "$(head -n 1 "$work/said")"
}

# As many as descriptors allow, on both ends.
idle=$(($(ulimit -Hn) < 1600 ? $(ulimit -Hn) - 600 : 1000))

serve "$polyreme" serve "$model" --max-num-seqs 128 --max-num-batched-tokens 256
run "streams say what the same requests say alone" streams streams 300 tokens=16 reference="$work/reference"
run "idle connections cost others nothing" request_ms_max idle "$idle"
end "one process ends in order after it"

serve "$polyreme" serve "$model" --read-timeout 1 --idle-timeout 2 --stream-buffer 64KiB
run "bad readers and senders are let go" requests_answered_meanwhile slow 6
run "garbage changes nothing" connections garbage 5
end "one process ends in order after abuse"

many_ranks_or_end "$failures"

serve mpirun -n 2 "$polyreme" serve "$model" --prefill 1x1 --decode 1x1 --read-timeout 1 --idle-timeout 2 \
    --stream-buffer 64KiB
run "streams say the same on two ranks" streams streams 300 tokens=16 reference="$work/reference"
run "two ranks let go of bad readers and senders" requests_answered_meanwhile slow 3
run "garbage changes nothing on two ranks" connections garbage 3
end "two ranks end in order after abuse"
exit "$((failures > 0))"
