#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What a serving run tells the world, held against the contracts by readers that know nothing of ours: /metrics by Prometheus'
# client library, KV events by pyzmq and msgpack, endpoints.yaml against llm-d's limits. One process, and three ranks.
# timeout: 180
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
"$POLYREME_SOURCE/scripts/python_environment" "$POLYREME_BUILD/venv" || exit
python=$POLYREME_BUILD/venv/bin/python
here=$POLYREME_SOURCE/tests/system
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1
failures=0

# expect NAME COMMAND...: it ends with 0.
expect() {
    local name=$1
    shift
    if "$@" > "$work/out" 2>&1; then
        echo "ok     $name: $(tail -n 1 "$work/out")"
    else
        echo "FAILED $name:"
        tail -n 20 "$work/out"
        failures=$((failures + 1))
    fi
}

# wait_for COMMAND...: until it succeeds, 30 s at most.
wait_for() {
    for ((i = 0; i < 300; i++)); do
        "$@" > "$work/waited" 2>&1 && return
        sleep 0.1
    done
    echo "FAILED to see: $*"
    cat "$work/waited" "$work/log"
    failures=$((failures + 1))
    return 1
}

observe() { # NAME COMMAND...
    local name=$1 url port pid
    shift
    rm -f "$work/endpoint.json" "$work/events"
    "$@" serve "$POLYREME_SOURCE/models/demo" --port 0 --endpoint-file "$work/endpoint.json" --kv-events "ipc://$work/events" \
        --kv-events-replay "ipc://$work/replay" --trace-file "$work/trace.json" "${layout[@]}" > "$work/log" 2>&1 &
    pid=$!
    wait_for test -s "$work/endpoint.json" || { kill -9 $pid; return; }
    url=$(jq -r .url "$work/endpoint.json")
    port=$(jq -r .port "$work/endpoint.json")
    expect "$name: KV events" "$python" "$here/kv_events.py" "ipc://$work/events" "kv@127.0.0.1:$port@demo" \
        --replay "ipc://$work/replay" --url "${url%/v1}"
    expect "$name: a chat" "$POLYREME_BUILD/polyreme" chat --endpoint-file "$work/endpoint.json" -p "And it came to pass" --max-tokens 8
    expect "$name: metrics" "$python" "$here/metrics_contract.py" "${url%/v1}" demo
    expect "$name: top" "$POLYREME_BUILD/polyreme" top --endpoint-file "$work/endpoint.json" --once
    expect "$name: endpoints.yaml" "$python" "$here/endpoints_contract.py" "$work/endpoints.yaml" 127.0.0.1 "$port"
    kill -TERM "$(jq -r .pid "$work/endpoint.json")"
    wait $pid
    expect "$name: exit code $?" test $? -eq 0
    expect "$name: endpoints.yaml at the end" "$python" "$here/endpoints_contract.py" "$work/endpoints.yaml"
    expect "$name: the endpoint file is gone" test ! -e "$work/endpoint.json"
    expect "$name: the timeline" "$python" -c "import json; print(len(json.load(open('$work/trace.json'))), 'events')"
}

layout=()
observe "one process" "$POLYREME_BUILD/polyreme"
many_ranks_or_end "$failures"
layout=(--prefill 1x1 --decode 1x2)
observe "three ranks" mpirun -n 3 "$POLYREME_BUILD/polyreme"
exit "$((failures > 0))"
