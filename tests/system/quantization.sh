#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Quantised weights: the whole forward pass stays near that of the stored weights, int8 nearer than int4, for
# every way a checkpoint stores its matrices; the program says what it does, and plan counts it.
# timeout: 120
# processors: 1
set -eu
polyreme=$POLYREME_BUILD/polyreme
demo=$POLYREME_SOURCE/models/demo
models=$POLYREME_SOURCE/tests/data/models
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo {3..100} > "$work/tokens"
echo {200..120} >> "$work/tokens"
for model in qwen2 qwen3 llama-linear qwen3-moe qwen3-moe-fused mixtral-tiny; do
    "$POLYREME_BUILD/benchmarks/distributions" "$models/$model" --tokens "$work/tokens" > "$work/found"
    jq -r --arg model "$model" '"\($model): KL int8 \(.kinds[1].kl_mean), int4 \(.kinds[2].kl_mean)"' "$work/found"
    jq -e '.positions == 179 and .kinds[1].kl_mean > 0 and .kinds[1].kl_mean < 0.04 and .kinds[2].kl_mean < 0.4
        and .kinds[1].kl_mean < .kinds[2].kl_mean and .kinds[1].greedy_agreement > 0.75' "$work/found" > /dev/null
done

"$polyreme" generate "$demo" -p a -n 1 --quantization int4 > /dev/null 2> "$work/log"
grep -q 'weights quantised to int4, lm_head to int8$' "$work/log"
"$polyreme" generate "$demo" -p a -n 1 > /dev/null 2> "$work/log"
grep -q 'weights as stored$' "$work/log"

status=0
"$polyreme" generate "$demo" -p a --quantization int3 > /dev/null 2> "$work/log" || status=$?
[ "$status" -eq 2 ]
[ "$(cat "$work/log")" = \
    "polyreme generate: --quantization 'int3' is unknown: use one of none|int8|int4" ]

plan() { "$polyreme" plan "$demo" --json --quantization "$1" | jq "$2"; }
[ "$(plan none .ranks[0].read_bytes)" = "$(plan int4 .ranks[0].read_bytes)" ]
[ "$(plan int8 .ranks[0].weight_bytes)" -lt "$(plan none '.ranks[0].weight_bytes * 0.6 | floor')" ]
[ "$(plan int4 .ranks[0].weight_bytes)" -lt "$(plan int8 '.ranks[0].weight_bytes * 0.7 | floor')" ]
[ "$(plan int4 .quantization)" = '"int4"' ]
echo "quantised weights behave"
