#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What a model writes under 200 generated schemas validates with python-jsonschema, and is the same
# where sequences are preempted and handed over in the middle of their grammars.
# timeout: 300
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
"$POLYREME_SOURCE/scripts/python_environment" "$POLYREME_BUILD/venv" || exit
python=$POLYREME_BUILD/venv/bin/python
polyreme=$POLYREME_BUILD/polyreme
script=$POLYREME_SOURCE/tests/system/structured_output.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

run() { # answers flags...
    local answers=$1
    shift
    "$@" batch "$POLYREME_SOURCE/models/demo" -i "$work/requests.jsonl" -o "$work/$answers" \
        --max-model-len 512 "${flags[@]}" < /dev/null > "$work/log" 2>&1 || {
        tail -n 20 "$work/log"
        failures=$((failures + 1))
    }
}

compare() { # answers name
    local preempted
    preempted=$(sed -n 's/.* \([0-9]*\) preemptions.*/\1/p' "$work/log")
    if cmp -s "$work/plain" "$work/$1"; then
        echo "the same bytes on $2, ${preempted:-?} preemptions"
    else
        echo "DIFFERENT bytes on $2"
        failures=$((failures + 1))
    fi
}

"$python" "$script" write "$work/requests.jsonl"
flags=()
run plain "$polyreme"
"$python" "$script" check "$work/requests.jsonl" "$work/plain" || failures=$((failures + 1))
flags=(--kv-blocks 34 --max-num-seqs 32)
run preempted "$polyreme"
compare preempted "one process with few blocks"
[ "$(sed -n 's/.* \([0-9]*\) preemptions.*/\1/p' "$work/log")" != 0 ] || failures=$((failures + 1))
if have_many_ranks; then
    flags=(--prefill 1x1 --decode 1x2:tp=2 --kv-blocks 34 --max-num-seqs 32)
    run handed mpirun -n 3 "$polyreme"
    compare handed "3 ranks, prefill apart from decode"
fi
many_ranks_or_end "$failures"
exit "$((failures > 0))"
