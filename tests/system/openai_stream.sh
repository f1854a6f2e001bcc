#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What `polyreme batch` answers, a server answers too, whole and streamed: for every request of the hash suite and
# for chats with tools, schemas and logprobs; from one process and from five ranks.
# timeout: 600
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
"$POLYREME_SOURCE/scripts/python_environment" "$POLYREME_BUILD/venv" || exit
python=$POLYREME_BUILD/venv/bin/python
requests=$POLYREME_SOURCE/tests/data/requests
flags=(--chat-template "$POLYREME_SOURCE/tests/data/chat/chatml_tools.jinja" --trust-request-chat-template)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
export PYTHONDONTWRITEBYTECODE=1

compare() { # LAYOUT
    local name
    for name in layout_hash chats; do
        "$python" "$POLYREME_SOURCE/tests/openai/compare_batch.py" "$requests/$name.jsonl" "$work/$name" "$1" \
            "${flags[@]}" || failures=$((failures + 1))
    done
}

for name in layout_hash chats; do
    "$POLYREME_BUILD/polyreme" batch "$POLYREME_SOURCE/models/demo" -i "$requests/$name.jsonl" -o "$work/$name" \
        "${flags[@]}" --log-level error
    code=$?
    { [ "$code" -eq 0 ] || { [ "$name" = chats ] && [ "$code" -eq 3 ]; }; } || failures=$((failures + 1))
done
compare one
many_ranks_or_end "$failures"
compare five
exit "$((failures > 0))"
