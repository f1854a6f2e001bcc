#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 60
# processors: 1
# What a user can get wrong on the command line gives one line that says what to do, and the right
# exit code. Nothing here starts MPI.
set -u
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/models/demo
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset POLYREME_MODEL
failures=0

# expect CODE PATTERN ARGUMENT...: exit code, and a pattern (grep -E) that the output has.
expect() {
    local code=$1 pattern=$2 got
    shift 2
    "$polyreme" "$@" > "$folder/out" 2>&1
    got=$?
    if [ $got != "$code" ] || ! grep -qE -- "$pattern" "$folder/out"; then
        echo "polyreme $*: exit code $got, expected $code and '$pattern' in:"
        cat "$folder/out"
        failures=$((failures + 1))
    fi
    if [ "$code" = 2 ] && [ $# -gt 0 ] && [ "$(wc -l < "$folder/out")" != 1 ]; then
        echo "polyreme $*: more than one line:"
        cat "$folder/out"
        failures=$((failures + 1))
    fi
}

expect 0 '^polyreme [0-9]+\.[0-9]+\.[0-9]+$' --version
expect 0 '^Usage: polyreme COMMAND' --help
expect 2 '^Usage: polyreme COMMAND'
expect 0 '^Usage: polyreme plan MODEL' plan --help
expect 0 '--lease-steps' help plan
expect 0 '--lease-steps' plan --help=all
expect 2 "unknown command 'paln': did you mean 'plan'" paln
expect 2 "unknown command 'zzz': see polyreme --help" zzz
expect 2 'MODEL is missing' plan
expect 2 'unknown option --max-num-seq: did you mean --max-num-seqs' plan "$model" --max-num-seq 3
expect 2 'max-num-seqs 0 is out of bounds: it must be from 1 to 65536' plan "$model" --max-num-seqs=0
expect 2 '--block-size 24: it must be a multiple of 16' plan "$model" --block-size 24
expect 2 '--device gpu: use auto, cpu, cuda or hip' plan "$model" --device gpu
expect 2 '--ranks needs a value' plan "$model" --ranks
expect 2 "'extra' is one argument too many" plan "$model" extra
expect 2 '--max-num-batched-tokens 8 is less than --max-num-seqs 64' \
    plan "$model" --max-num-batched-tokens 8
expect 2 'nearest that fits: --mixed 1x4:tp=4 or 1x6:tp=2' plan "$model" --ranks 6 --mixed 1x6:tp=4
expect 2 '--decode is missing' plan "$model" --ranks 2 --prefill 1x1
expect 2 'is not a layout' plan "$model" --mixed two
expect 2 'the model has 2048 positions' plan "$model" --max-model-len 4k
expect 4 'nowhere' plan "$folder/nowhere"
expect 6 'raise --memory' plan "$model" --memory 10MiB

expect 2 '--input FILE is missing' batch "$model"
expect 2 '--temperature -1 is out of bounds: it must be from 0 to 100' generate "$model" --temperature -1
expect 2 "--top-k 'x' is not a whole number" generate "$model" --top-k x
expect 4 'nowhere' generate "$folder/nowhere" -p text

expect 2 "no port 99999|--port 99999 is out of bounds" serve "$model" --port 99999
expect 4 'absent.pem' serve "$model" --port 0 --ssl-certfile "$folder/absent.pem" --ssl-keyfile "$folder/absent.pem"
expect 2 "hermes" serve "$model" --port 0 --tool-call-parser nosuch
expect 4 'absent.jinja' serve "$model" --port 0 --chat-template "$folder/absent.jinja"
echo secret > "$folder/key" && chmod 644 "$folder/key"
expect 2 'chmod' serve "$model" --port 0 --api-key-file "$folder/key"
expect 4 'nowhere' serve "$folder/nowhere" --port 0

expect 2 '--url names no server' chat --url node7 -p hello
expect 2 '--url and --endpoint-file name two servers' top --url http://node7 --endpoint-file "$folder/e"
expect 4 "endpoint file $folder/absent" top --endpoint-file "$folder/absent"
expect 2 '--interval 0 is out of bounds' top --interval 0

echo '{"max-num-seqs": 12, "input": "of another command"}' > "$folder/good.json"
echo '{"max-num-seq": 12}' > "$folder/bad.json"
expect 0 '^max-num-seqs = 12  \(file\)$' plan "$model" --config "$folder/good.json" --show-config
expect 2 'bad.json: max-num-seq: did you mean .*max-num-seqs' plan "$model" --config "$folder/bad.json"
expect 2 'absent.json: No such file' plan "$model" --config "$folder/absent.json"
export POLYREME_MAX_NUM_SEQS=13
expect 0 '^max-num-seqs = 13  \(environment\)$' plan "$model" --config "$folder/good.json" --show-config
expect 0 '^max-num-seqs = 14  \(flag\)$' plan "$model" --max-num-seqs 14 --show-config
unset POLYREME_MAX_NUM_SEQS
POLYREME_MAX_NUM_SEQ=1 expect 2 'POLYREME_MAX_NUM_SEQ belongs to no option' plan "$model"

expect 0 'tp 1: the smallest that fits' plan "$model" --ranks 4
expect 0 '^Layout .*--prefill 1x2:tp=2 --decode 1x4$' \
    plan "$model" --ranks 6 --prefill 1x2:tp=2 --decode 1x4
expect 0 '"kv_blocks_per_lane": [1-9]' plan "$model" --json
expect 0 '^ok +version' doctor
expect 0 '"findings"' doctor --json

[ $failures = 0 ]
