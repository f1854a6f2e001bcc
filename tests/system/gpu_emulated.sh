#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The whole program on emulated GPUs: one hash for each back end on every layout, and the CPU's text.
# timeout: 300
# A row is: ranks, flags. The first row of each back end is its reference (one process).
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/models/demo
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
[ -e "$POLYREME_BUILD/polyreme_emulated.so" ] || { echo "no emulated back end in this build"; exit 77; }

rows() {
    cat <<'ROWS'
1
1 --max-num-batched-tokens 5 --no-enable-prefix-caching
2 --mixed 1x2:tp=2
2 --mixed 1x2 --exchange messages
2 --prefill 1x1 --decode 1x1
ROWS
}

request() { # number prompt further
    printf '{"custom_id":"%s","method":"POST","url":"/v1/completions","body":{"prompt":"%s","ignore_eos":true,"logprobs":2,%s}}\n' \
        "$1" "$2" "$3"
}

{
    request 1 'In the beginning' '"max_tokens":3,"temperature":0'
    request 2 'In the beginning was the' '"max_tokens":2,"temperature":0.9,"seed":5'
    request 3 'Many' '"max_tokens":3,"temperature":0'
} > "$work/in.jsonl"

run_row() { # device ranks flags -> hash; the answers are in out.jsonl
    local device=$1 ranks=$2 launch=()
    shift 2
    [ "$ranks" -gt 1 ] && launch=(mpirun -n "$ranks")
    rm -f "$work/out.jsonl"
    if ! "${launch[@]}" "$polyreme" batch "$model" -i "$work/in.jsonl" -o "$work/out.jsonl" --journal off --device "$device" \
        --max-model-len 32 --max-num-seqs 3 "$@" < /dev/null > "$work/log" 2>&1; then
        tail -n 20 "$work/log" >&2
        echo failed
        return
    fi
    sort "$work/out.jsonl" | sha256sum | cut -c1-16
}

# The same texts, and logprobs within 1e-2 of each other.
compare_with_cpu() {
    python3 - "$work/cpu.jsonl" "$work/out.jsonl" <<'PYTHON'
import json, sys
cpu, gpu = ([json.loads(line)["response"]["body"]["choices"][0] for line in open(name)] for name in sys.argv[1:])
assert len(cpu) == len(gpu) == 3, "answers are missing"
for want, got in zip(cpu, gpu):
    assert want["text"] == got["text"], f"{want['text']!r} became {got['text']!r}"
    for a, b in zip(want["logprobs"]["token_logprobs"], got["logprobs"]["token_logprobs"], strict=True):
        assert abs(a - b) < 1e-2, f"logprob {a} became {b}"
PYTHON
}

many_ranks=false
have_many_ranks && many_ranks=true
run_row cpu 1 > /dev/null
cp "$work/out.jsonl" "$work/cpu.jsonl"
for device in emulated emulated64; do
    expected=
    while read -r ranks flags; do
        if [ "$ranks" -gt 1 ] && ! $many_ranks; then continue; fi
        # shellcheck disable=SC2086
        hash=$(run_row $device "$ranks" $flags)
        verdict=same
        if [ -z "$expected" ]; then
            expected=$hash
            grep -q 'device: emulated GPU' "$work/log" || verdict=CPU
            compare_with_cpu || verdict=UNLIKE
        fi
        [ "$hash" = "$expected" ] && [ ${#hash} -eq 16 ] || verdict=DIFFERENT
        [ $verdict = same ] || failures=$((failures + 1))
        printf '  %-9s %s  %-10s ranks %s  %s\n' "$verdict" "$hash" "$device" "$ranks" "$flags"
    done < <(rows)
done

refuse() { # flags, then what the line must say
    local say=${*: -1}
    if "$polyreme" generate "$from" --prompt x --max-tokens 1 "${@:1:$#-1}" < /dev/null > "$work/log" 2>&1; then
        echo "  accepted: ${*:1:$#-1}"
        failures=$((failures + 1))
    elif [ "$(grep -c ERROR "$work/log")" -ne 1 ] || ! grep -q "ERROR.*$say" "$work/log"; then
        echo "  another refusal of ${*:1:$#-1}:"
        cat "$work/log"
        failures=$((failures + 1))
    fi
}
from=$model
refuse --device emulated --quantization int8 'leave --quantization away, or use --device cpu'
refuse --device emulated:7 'there are emulated:0'
refuse --device emulated:GPU-nobody 'there are emulated:0'
refuse --device abacus 'use auto, cpu, cuda or hip'
"$polyreme" convert "$model" -o "$work/converted" > "$work/log" 2>&1 || cat "$work/log"
from=$work/converted
refuse --device emulated 'was converted for --device cpu'

[ "$failures" -eq 0 ] && echo "one hash on every layout, and the CPU's text" || echo "$failures rows differ"
many_ranks_or_end "$failures"
exit "$((failures > 0))"
