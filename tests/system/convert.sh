#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# polyreme convert: a converted model gives the bytes of the original on every layout, quantised and not, read
# and in place; what is wrong with a use is said in one line.
# timeout: 600
# processors: 1
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
polyreme=$POLYREME_BUILD/polyreme
requests=$POLYREME_SOURCE/tests/data/requests/layout_hash.jsonl
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
failures=0

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

hash_of() { # name model ranks flags -> hash; two models must have the same name to have the same bytes
    local name=$1 model=$2 ranks=$3 launch=()
    shift 3
    [ "$ranks" -gt 1 ] && launch=(mpirun -n "$ranks")
    "${launch[@]}" "$polyreme" batch "$model" -i "$requests" -o "$work/out.jsonl" --served-model-name "$name" \
        --trust-request-chat-template --max-model-len 192 "$@" < /dev/null > "$work/log" 2>&1 || {
        tail -n 5 "$work/log" >&2
        echo failed
        return
    }
    sort "$work/out.jsonl" | sha256sum | cut -c1-16
}

rows() {
    cat <<'ROWS'
1
1 --load mmap --threads 2
1 --load read --cpu-isa reference
2 --mixed 1x2:tp=2
2 --mixed 1x2
2 --mixed 1x2:tp=2 --load mmap
4 --mixed 1x4:tp=4
4 --prefill 1x1 --decode 1x3
ROWS
}

compare() { # model quantization
    local model=$POLYREME_SOURCE/$1 kind=$2 name ranks flags expected hash
    name=${model##*/}
    local converted=$work/$name-$kind
    "$polyreme" convert "$model" --output "$converted" --quantization "$kind" > "$work/log" 2>&1 || {
        cat "$work/log"
        fail "convert $1 $kind"
        return
    }
    "$polyreme" convert "$converted" --verify > "$work/log" 2>&1 || fail "verify $1 $kind: $(cat "$work/log")"
    expected=$(hash_of "$name" "$model" 1 --quantization "$kind")
    # As stored, but by read calls.
    hash=$(hash_of "$name" "$model" 1 --quantization "$kind" --load read --threads 2)
    [ "$hash" = "$expected" ] || fail "$1 $kind --load read: $hash, not $expected"
    while read -r ranks flags; do
        [ "$ranks" -gt 1 ] && ! $many_ranks && continue
        # shellcheck disable=SC2086
        hash=$(hash_of "$name" "$converted" "$ranks" $flags)
        if [ "$hash" = "$expected" ] && [ ${#hash} -eq 16 ]; then
            echo "  same $hash  $name $kind, ranks $ranks $flags"
        else
            fail "$name $kind, ranks $ranks $flags: $hash, not $expected"
        fi
    done < <(rows)
}

many_ranks=false
have_many_ranks && many_ranks=true
for kind in none int8 int4; do
    compare models/demo "$kind"
done
compare tests/data/models/llama-tiny none
compare tests/data/models/llama-tiny int4
compare tests/data/models/mixtral-tiny none

# ---- what is said ----------------------------------------------------------------------------

demo=$POLYREME_SOURCE/models/demo
expect() { # code text command...
    local code=$1 text=$2 status=0
    shift 2
    "$@" > "$work/said" 2>&1 < /dev/null || status=$?
    if [ "$status" -ne "$code" ] || ! grep -qF -- "$text" "$work/said" || [ "$(wc -l < "$work/said")" -ne 1 ]; then
        fail "$* gave $status, not $code with '$text': $(cat "$work/said")"
    fi
}
mkdir "$work/full" "$work/locked"
touch "$work/full/file"
chmod a-w "$work/locked"
expect 2 "Name a new directory with --output DIR" "$polyreme" convert "$demo"
expect 2 "is not empty: name a new directory or empty that one" "$polyreme" convert "$demo" -o "$work/full"
expect 2 "is converted already: name the original model" "$polyreme" convert "$work/demo-int8" -o "$work/again"
expect 4 "cannot make the directory" "$polyreme" convert "$demo" -o "$work/none/there"
expect 4 "config.json" "$polyreme" convert "$work/full" -o "$work/again"
expect 2 "to verify: convert it first" "$polyreme" convert "$demo" --verify
[ "$(id -u)" -eq 0 ] || expect 4 "cannot write to" "$polyreme" convert "$demo" -o "$work/locked"
[ -e "$work/again" ] && fail "a failed convert left a directory"
expect 2 "was converted with quantization int8" "$polyreme" generate "$work/demo-int8" -p a -n 1 --quantization int4 --log-level error
cp -r "$work/demo-none" "$work/cut"
truncate -s 1000000 "$work/cut/polyreme.weights"
expect 4 "copy it or convert the model again" "$polyreme" generate "$work/cut" -p a -n 1 --log-level error
cp "$work/demo-none/polyreme.weights" "$work/cut/polyreme.weights"
printf 'x' | dd of="$work/cut/polyreme.weights" bs=1 seek=500000 conv=notrunc status=none
expect 4 "is damaged: convert the model again" "$polyreme" convert "$work/cut" --verify
for file in config.json tokenizer.json tokenizer_config.json generation_config.json chat_template.jinja; do
    cmp -s "$demo/$file" "$work/demo-none/$file" || fail "$file is not that of the model"
done
[ "$("$polyreme" plan "$work/demo-int8" --json | jq -r .quantization)" = int8 ] || fail "plan does not see int8"

"$polyreme" generate "$work/demo-none" -p a -n 1 > /dev/null 2> "$work/log"
grep -q 'weights: .* read, .* taken as converted by 1 rank x .* GB/s; .*% on huge pages$' "$work/log" ||
    fail "no line on the weights: $(cat "$work/log")"
"$polyreme" generate "$work/demo-none" -p a -n 1 --load mmap --log-level debug > /dev/null 2> "$work/log"
grep -q 'weights: .* used in place by 1 rank after' "$work/log" || fail "no line on weights in place"
grep -q 'start-up .* s: MPI .*, model .*, weights .*, KV .*, groups' "$work/log" || fail "no parts of the start"

[ "$failures" -eq 0 ] && echo "converted models are the same models"
many_ranks_or_end "$failures"
exit "$((failures > 0))"
