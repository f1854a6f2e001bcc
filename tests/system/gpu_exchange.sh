#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A model of experts on emulated GPUs: one hash on every layout, whatever carries the rows, with decode steps as graphs and
# without; and the log says what was used.
# timeout: 300
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/tests/data/models/mixtral-tiny
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
[ -e "$POLYREME_BUILD/polyreme_emulated.so" ] || { echo "no emulated back end in this build"; exit 77; }

request() { # number prompt further
    printf '{"custom_id":"%s","method":"POST","url":"/v1/completions","body":{"prompt":"%s","ignore_eos":true,"logprobs":2,%s}}\n' \
        "$1" "$2" "$3"
}

{
    request 1 'In the beginning' '"max_tokens":6,"temperature":0'
    request 2 'In the beginning was the' '"max_tokens":5,"temperature":0.9,"seed":5'
    request 3 'Many' '"max_tokens":6,"temperature":0'
} > "$work/in.jsonl"

# Ranks, flags, then what the log must say.
rows() {
    cat <<'ROWS'
1|--device-graphs off|exchange: none
1||has recorded decode steps of 4 rows
2|--mixed 1x2|exchange: direct, from GPU to GPU
2|--mixed 1x2 --exchange direct|has recorded decode steps of
2|--mixed 1x2 --device-graphs off|exchange: direct, from GPU to GPU
2|--mixed 1x2:tp=2|exchange: direct, from GPU to GPU
2|--mixed 1x2 --exchange messages|exchange: staged in pinned memory, by messages
2|--mixed 1x2:tp=2 --exchange shared|exchange: staged in pinned memory, by shared memory
4|--mixed 1x4:tp=2|has recorded decode steps of
ROWS
}

many_ranks=false
have_many_ranks && many_ranks=true
expected=
while IFS='|' read -r ranks flags say; do
    launch=()
    if [ "$ranks" -gt 1 ]; then
        $many_ranks || continue
        launch=(mpirun -n "$ranks")
    fi
    rm -f "$work/out.jsonl"
    # shellcheck disable=SC2086
    "${launch[@]}" "$polyreme" batch "$model" -i "$work/in.jsonl" -o "$work/out.jsonl" --journal off --device emulated \
        --max-model-len 32 --max-num-seqs 4 --max-num-batched-tokens 16 --log-level debug $flags \
        < /dev/null > "$work/log" 2>&1
    hash=$(sort "$work/out.jsonl" 2> /dev/null | sha256sum | cut -c1-16)
    verdict=same
    [ -n "$expected" ] || expected=$hash
    grep -q "$say" "$work/log" || verdict=SILENT
    [[ $flags != *off* ]] || ! grep -q 'has recorded' "$work/log" || verdict=RECORDED
    [ "$hash" = "$expected" ] && [ "$(wc -l < "$work/out.jsonl")" -eq 3 ] || verdict=DIFFERENT
    if [ $verdict != same ]; then
        failures=$((failures + 1))
        tail -n 5 "$work/log"
    fi
    printf '  %-9s %s  ranks %s  %s\n' "$verdict" "$hash" "$ranks" "$flags"
done < <(rows)

[ "$failures" -eq 0 ] && echo "one hash, whatever carries the rows" || echo "$failures rows differ"
many_ranks_or_end "$failures"
exit "$((failures > 0))"
