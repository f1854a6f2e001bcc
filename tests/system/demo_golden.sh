#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The demo model's greedy text equals transformers' in float32 (--dtype float32: bfloat16 weights round
# their activations otherwise): 20 prompts x 64 tokens, one process and four ranks with prefill and decode
# apart.
# timeout: 120
# processors: 1
set -eu
source "$POLYREME_SOURCE/tests/system/many_ranks"
polyreme=$POLYREME_BUILD/polyreme
golden=$POLYREME_SOURCE/tests/data/golden
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compare() {
    jq -c '{custom_id, text: .response.body.choices[0].text}' "$work/out.jsonl" > "$work/texts.jsonl"
    diff "$golden/demo_expected.jsonl" "$work/texts.jsonl"
    echo "$1: $(wc -l < "$work/texts.jsonl") texts of 64 tokens equal transformers'"
}

"$polyreme" batch "$POLYREME_SOURCE/models/demo" -i "$golden/demo_requests.jsonl" -o "$work/out.jsonl" --dtype float32 --log-level warn
compare "one process"
many_ranks_or_end 0
mpirun -n 4 "$polyreme" batch "$POLYREME_SOURCE/models/demo" -i "$golden/demo_requests.jsonl" \
    -o "$work/out.jsonl" --dtype float32 --log-level warn --prefill 1x1 --decode 1x3
compare "four ranks"
