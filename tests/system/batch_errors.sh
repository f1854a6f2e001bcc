#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Bad input of a batch: each fault has one line that says what to do, and the rest goes on.
# timeout: 240
# processors: 1
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/tests/data/models/llama-tiny
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# expect NAME EXIT-CODE TEXT COMMAND...: the command ends with the code and says the text once.
expect() {
    local name=$1 code=$2 text=$3
    shift 3
    "$@" > "$work/out" 2> "$work/err"
    local got=$?
    local said
    said=$(cat "$work/out" "$work/err" | grep -cF -- "$text")
    if [ "$got" -ne "$code" ] || [ "$said" -ne 1 ]; then
        echo "FAILED $name: exit $got (expected $code), said '$text' $said times"
        sed 's/^/    /' "$work/err" | tail -n 5
        failures=$((failures + 1))
    else
        echo "ok     $name: $(cat "$work/out" "$work/err" | grep -F -- "$text" | head -n 1 | cut -c1-150)"
    fi
}

good='{"custom_id":"good","method":"POST","url":"/v1/completions","body":{"prompt":"abc","max_tokens":3}}'
echo "$good" > "$work/good.jsonl"
batch() { "$polyreme" batch "$@" --log-level warn; }

# ---- The run cannot start ----
expect "missing model" 4 "no-such-model" batch "$work/no-such-model" -i "$work/good.jsonl" -o "$work/o"
expect "missing input" 4 "cannot read input" batch "$model" -i "$work/nothing" -o "$work/o"
expect "unwritable output" 4 "cannot write output" batch "$model" -i "$work/good.jsonl" -o /nonexistent/o
expect "no output" 2 "give a file with -o" batch "$model" -i "$work/good.jsonl"
expect "no prompt" 2 "-p TEXT" "$polyreme" generate "$model" --log-level warn
expect "unknown option" 2 "did you mean" batch "$model" -i "$work/good.jsonl" -o "$work/o" --max-num-seq 3
expect "context too long" 2 "--max-model-len" batch "$model" -i "$work/good.jsonl" -o "$work/o" --max-model-len 100000
expect "layout beyond the ranks" 2 "--mixed" batch "$model" -i "$work/good.jsonl" -o "$work/o" --mixed 1x4
expect "prefill without decode" 2 "--decode" batch "$model" -i "$work/good.jsonl" -o "$work/o" --prefill 1x1
expect "too few KV blocks" 2 "--kv-blocks" batch "$model" -i "$work/good.jsonl" -o "$work/o" --kv-blocks 2

cp -r "$model" "$work/cut"
chmod -R u+w "$work/cut"
truncate -s -100 "$work/cut/model.safetensors"
expect "truncated weights" 4 "model.safetensors" batch "$work/cut" -i "$work/good.jsonl" -o "$work/o"
sed 's/"model_type": *"llama"/"model_type": "gemma2"/' "$model/config.json" > "$work/cut/config.json"
expect "another family" 4 "llama, qwen2, qwen3, qwen3_moe and mixtral" batch "$work/cut" -i "$work/good.jsonl" -o "$work/o"

# ---- Single lines fail, in their place; the good ones are answered ----
long=$(printf 'a%.0s' $(seq 300))
cat > "$work/mixed.jsonl" <<LINES
$good
{"custom_id": broken
{"custom_id":"empty","url":"/v1/completions","body":{"prompt":""}}
{"custom_id":"long","url":"/v1/completions","body":{"prompt":"$long"}}
{"custom_id":"greedy-max","url":"/v1/completions","body":{"prompt":"abc","max_tokens":9999}}
{"custom_id":"good","url":"/v1/completions","body":{"prompt":"again"}}
{"custom_id":"chat","url":"/v1/chat/completions","body":{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}}
{"custom_id":"last","url":"/v1/completions","body":{"prompt":"xyz","max_tokens":2}}
LINES
batch "$model" -i "$work/mixed.jsonl" -o "$work/mixed.out" 2> "$work/err"
[ $? -eq 3 ] || { echo "FAILED mixed lines: exit code is not 3"; failures=$((failures + 1)); }
check_line() { # NUMBER TEXT
    if sed -n "$1p" "$work/mixed.out" | grep -qF -- "$2"; then
        echo "ok     line $1: $(sed -n "$1p" "$work/mixed.out" | grep -o '"message":"[^"]*"' | cut -c1-140)"
    else
        echo "FAILED line $1 lacks '$2': $(sed -n "$1p" "$work/mixed.out")"
        failures=$((failures + 1))
    fi
}
check_line 1 '"status_code":200'
check_line 2 'line 2 is not JSON'
check_line 3 'the prompt is empty'
check_line 4 'context_length_exceeded'
check_line 5 'set max_tokens to at most'
check_line 6 'duplicate_custom_id'
check_line 7 'image_url'
check_line 8 '"status_code":200'
[ "$(wc -l < "$work/mixed.out")" -eq 8 ] || { echo "FAILED: not 8 lines"; failures=$((failures + 1)); }
expect "validation without a run" 3 "2 lines can be run, 6 would be refused" batch "$model" -i "$work/mixed.jsonl" --validate-only

# ---- What the queue does not take, or a target that cannot be met, is answered 429 ----
cat > "$work/queue.jsonl" <<LINES
{"custom_id":"first","url":"/v1/completions","body":{"prompt":"abcd","max_tokens":2}}
{"custom_id":"second","url":"/v1/completions","body":{"prompt":"efgh","max_tokens":2}}
LINES
batch "$model" -i "$work/queue.jsonl" -o "$work/mixed.out" --max-num-seqs 1 --queue-tokens 1 2> "$work/err"
check_line 1 '"status_code":200'
check_line 2 '"status_code":429'
check_line 2 'the queue holds as many prompt tokens as it may'

# ---- A journal that cannot be gone on with, or need not ----
head -n 4 "$POLYREME_SOURCE/tests/data/requests/layout_hash.jsonl" > "$work/four.jsonl"
end_early() { # a batch that dies in a write of its journal
    rm -rf "$work/j" "$work/j.journal" "$work/j.state"
    { (ulimit -c 0 && ulimit -f 2 && exec "$polyreme" batch "$model" -i "$work/four.jsonl" -o "$work/j" --log-level warn); } 2> /dev/null
    [ -s "$work/j.journal/000001.journal" ] && [ ! -e "$work/j" ] || { echo "FAILED: no journal is left"; failures=$((failures + 1)); }
}
resume() { batch "${other_model:-$model}" -o "$work/j" --resume "$@"; }
expect "a stream cannot be resumed" 2 "--resume needs a journal: give a file with -o" batch "$model" -i "$work/good.jsonl" -o - --resume
expect "a part that is none" 2 "the third of four is 2/4" batch "$model" -i "$work/good.jsonl" -o "$work/o" --part 4/4
expect "the state of nothing" 4 "there is no batch of" "$polyreme" batch --state "$work/nothing"
end_early
expect "the state of a killed batch" 7 "failed: " "$polyreme" batch --state "$work/j"
expect "a journal is not written over" 2 "go on with --resume, or remove it" batch "$model" -i "$work/four.jsonl" -o "$work/j"
sed 's/"max_tokens":/"max_tokens":1/' "$work/four.jsonl" > "$work/changed.jsonl"
expect "an input that has changed" 2 "line 1 of the input is not the one" resume -i "$work/changed.jsonl"
head -n 1 "$work/four.jsonl" > "$work/shorter.jsonl"
expect "an input that is shorter" 2 "the input has ended after 1 lines" resume -i "$work/shorter.jsonl"
other_model=$POLYREME_SOURCE/tests/data/models/mixtral-tiny \
    expect "another model" 2 "was begun with: model llama-tiny" resume -i "$work/four.jsonl"
expect "another context" 2 "now it is: model llama-tiny" resume -i "$work/four.jsonl" --max-model-len 99
printf x | dd of="$work/j.journal/000001.journal" bs=1 seek=40 conv=notrunc 2> /dev/null
expect "a damaged journal is gone on with" 0 "is damaged" resume -i "$work/four.jsonl"
expect "nothing to resume" 0 "done: 4 requests, 4 answered" "$polyreme" batch --state "$work/j"
batch "$model" -i "$work/four.jsonl" -o "$work/whole" --journal off
cmp -s "$work/j" "$work/whole" || { echo "FAILED: other answers after damage"; failures=$((failures + 1)); }

# ---- Many ranks say it once ----
many_ranks_or_end "$failures"
expect "tp that does not divide" 2 "tp 8" mpirun -n 8 "$polyreme" batch "$model" -i "$work/good.jsonl" -o "$work/o" --mixed 1x8:tp=8
expect "a policy that is not there" 2 "policy 'nosuch' is unknown" mpirun -n 2 "$polyreme" batch "$model" -i "$work/good.jsonl" -o "$work/o" --policy nosuch
expect "one line from many ranks" 4 "no-such-model" mpirun -n 3 "$polyreme" batch "$work/no-such-model" -i "$work/good.jsonl" -o "$work/o"
exit "$((failures > 0))"
