#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# One hash: the same requests on every layout give the same bytes, logprobs included.
# timeout: 900
# A row is: ranks, flags. The first row of each model is the reference (one process); so is a row with =
# before its ranks, which begins another hash (KV in float32 is not rounded, so its bytes are others; so are
# those of int8 and int4 weights).
# A second table does the same with prompts that share openings; there prefixes must move between lanes
# (+ before the ranks), or must not (-). ~: groups must change their roles on the way. !: one process begins and
# dies in a write of its journal, the row's layout resumes.
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
polyreme=$POLYREME_BUILD/polyreme
data=$POLYREME_SOURCE/tests/data/requests
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

common_rows() {
    cat <<'ROWS'
1 --cpu-isa auto
1 --cpu-isa reference
1 --threads 1
1 --threads 2 --bind on
1 --threads 3 --max-num-batched-tokens 64
1 --max-num-batched-tokens 16 --max-num-seqs 16
1 --max-num-batched-tokens 64 --max-num-seqs 4
1 --max-num-batched-tokens 256 --no-enable-prefix-caching
1 --kv-blocks 12 --max-num-seqs 8
1 --kv-blocks 12 --max-num-seqs 32 --no-enable-prefix-caching
1 --shuffle-seed 7
1 --block-size 32
2 --mixed 1x2
2 --mixed 1x2:tp=2
2 --mixed 1x2:tp=2 --exchange messages
2 --mixed 1x2:tp=2 --threads 2
2 --prefill 1x1 --decode 1x1
3 --mixed 1x3 --control tcp
3 --prefill 1x1 --decode 1x2:tp=2 --max-num-batched-tokens 64
3 --dedicated-controller --mixed 1x2
4 --mixed 1x4:tp=4
4 --mixed 1x4:tp=2 --exchange messages
4 --mixed 1x4:tp=4 --exchange shared
5 --mixed 1x5 --exchange messages
4 --mixed 2x2:tp=2 --no-enable-prefix-caching
4 --prefill 1x2:tp=2 --decode 1x2 --kv-blocks 12 --max-num-seqs 16
4 --prefill 1x2 --decode 1x2:tp=2 --shuffle-seed 3
5 --mixed 1x5 --max-num-batched-tokens 16 --max-num-seqs 16
5 --prefill 1x1 --decode 1x4:tp=4
8 --mixed 1x8:tp=4 --shuffle-seed 11
8 --prefill 2x2:tp=2 --decode 1x4:tp=2 --max-num-batched-tokens 64
~4 --prefill 2x1 --decode 2x1 --max-num-seqs 4 --balance rotate --balance-period 0.005
~7 --prefill 3x1 --decode 2x2:tp=2 --max-num-seqs 4 --balance rotate --balance-period 0.005
!4 --prefill 1x2:tp=2 --decode 1x2
!5 --mixed 1x5 --max-num-batched-tokens 16 --max-num-seqs 16
=1 --kv-cache-dtype float32
4 --prefill 1x2:tp=2 --decode 1x2 --kv-cache-dtype float32
=1 --quantization int8
1 --quantization int8 --cpu-isa reference
1 --quantization int8 --cpu-isa avx2 --threads 2 --max-num-batched-tokens 64 --max-num-seqs 4
4 --quantization int8 --prefill 1x2:tp=2 --decode 1x2 --shuffle-seed 3
4 --quantization int8 --mixed 1x4:tp=4 --kv-blocks 12 --max-num-seqs 16
=1 --quantization int4
1 --quantization int4 --cpu-isa reference
1 --quantization int4 --cpu-isa avx2 --threads 2 --max-num-batched-tokens 16 --max-num-seqs 16
4 --quantization int4 --prefill 1x2:tp=2 --decode 1x2 --shuffle-seed 5
5 --quantization int4 --prefill 1x1 --decode 1x4:tp=4
ROWS
}

gather_rows() {
    cat <<'ROWS'
1
+4 --mixed 4x1 --max-num-seqs 2 --max-num-batched-tokens 32
-4 --mixed 4x1 --max-num-seqs 2 --max-num-batched-tokens 32 --policy lps:gather=0
+4 --mixed 1x4 --max-num-seqs 2 --max-num-batched-tokens 32
+4 --mixed 2x2:tp=2 --max-num-seqs 2 --max-num-batched-tokens 32
4 --mixed 4x1 --max-num-seqs 2 --kv-blocks 17
+3 --prefill 2x1 --decode 1x1 --max-num-seqs 2 --max-num-batched-tokens 32
+5 --prefill 2x2:tp=2 --decode 1x1 --max-num-seqs 2 --max-num-batched-tokens 32
~4 --prefill 3x1 --decode 1x1 --max-num-seqs 2 --max-num-batched-tokens 32 --balance rotate --balance-period 0.005
ROWS
}

run_row() { # model requests ranks flags -> hash
    local model=$1 requests=$2 ranks=$3 out=$work/out.jsonl
    shift 3
    local launch=()
    [ "$ranks" -gt 1 ] && launch=(mpirun -n "$ranks")
    rm -rf "$out" "$out.journal" "$out.state"
    if [ "$want" = '!' ]; then
        (ulimit -c 0 && ulimit -f 24 && exec "$polyreme" batch "$model" -i "$requests" -o "$out" \
            --trust-request-chat-template --max-model-len 192) < /dev/null > "$work/log" 2>&1
        set -- "$@" --resume
    fi 2> /dev/null
    if ! "${launch[@]}" "$polyreme" batch "$model" -i "$requests" -o "$out" --trust-request-chat-template --max-model-len 192 \
        "$@" < /dev/null > "$work/log" 2>&1; then
        tail -n 20 "$work/log" >&2
        echo failed
        return
    fi
    [ "$(wc -l < "$out")" = "$(wc -l < "$requests")" ] || { echo incomplete; return; }
    grep -q '"status_code":4' "$out" && { echo refused; return; }
    sort "$out" | sha256sum | cut -c1-16
}

many_ranks=false
have_many_ranks && many_ranks=true

run_table() { # model requests table
    local model=$1 requests=$2 expected='' ranks flags gathers changes want hash verdict preempted
    printf '%s, %s\n' "$model" "${requests##*/}"
    while read -r ranks flags; do
        [[ $ranks == =* ]] && { ranks=${ranks#=}; expected=; }
        want=${ranks//[0-9]/}
        ranks=${ranks#[+~!-]}
        if [ "$ranks" -gt 1 ] && ! $many_ranks; then continue; fi
        # shellcheck disable=SC2086
        hash=$(run_row "$POLYREME_SOURCE/$model" "$requests" "$ranks" $flags)
        expected=${expected:-$hash}
        verdict=same
        if [ "$hash" != "$expected" ] || [ ${#hash} -ne 16 ]; then
            verdict=DIFFERENT
            failures=$((failures + 1))
        fi
        if [ "$want" = '!' ] && ! grep -q 'resumed: ' "$work/log"; then
            verdict=ANEW
            failures=$((failures + 1))
        fi
        gathers=$(sed -n 's/.* \([0-9]*\) gathers.*/\1/p' "$work/log")
        if { [ "$want" = + ] && [ "${gathers:-0}" -eq 0 ]; } || { [ "$want" = - ] && [ "${gathers:-1}" -ne 0 ]; }; then
            verdict=GATHERS
            failures=$((failures + 1))
        fi
        changes=$(sed -n 's/.* \([0-9]*\) role changes.*/\1/p' "$work/log")
        if [ "$want" = '~' ] && [ "${changes:-0}" -eq 0 ]; then
            verdict=ROLES
            failures=$((failures + 1))
        fi
        preempted=$(sed -n 's/.* \([0-9]*\) preemptions.*/\1/p' "$work/log")
        printf '  %-9s %s  ranks %s  %-70s preemptions %s, gathers %s, role changes %s\n' \
            "$verdict" "$hash" "$ranks" "$flags" "${preempted:-?}" "${gathers:-?}" "${changes:-?}"
    done < <("$3")
}

for model in models/demo tests/data/models/llama-tiny tests/data/models/mixtral-tiny; do
    run_table "$model" "$data/layout_hash.jsonl" common_rows
    run_table "$model" "$data/shared_prefixes.jsonl" gather_rows
done
[ "$failures" -eq 0 ] && echo "one hash per model on every layout" || echo "$failures rows differ"
many_ranks_or_end "$failures"
exit "$((failures > 0))"
