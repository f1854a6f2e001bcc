#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What `polyreme emit sbatch` prints: every kind of job script is one that Slurm takes and shellcheck has nothing to
# say of, whatever names and options are in it; what cannot be is refused with a line that says why.
# timeout: 120
# resource: slurm
set -u
source "$POLYREME_SOURCE/tests/system/slurm_nodes"
cp "$model/requests.jsonl" "in put's.jsonl"
cp "$model/requests.jsonl" 'in $(touch oops).jsonl'
kinds="batch batch-array hetjob serve chain scaling"
emit() { "$polyreme" emit sbatch "$@"; }
for kind in $kinds; do
    given=()
    case $kind in serve | chain) ;; *) given=(-i "in put's.jsonl" -o "out \"put\".jsonl") ;; esac
    emit "$kind" --model "$model" "${given[@]}" --partition main --run-options='--max-num-seqs 16' > "$kind.sh"
    verdict "$kind is printed" "$?" "$(wc -l < "$kind.sh") lines"
    sbatch --test-only "$kind.sh" > test.txt 2>&1
    verdict "sbatch takes $kind" "$?" "$(tail -n 1 test.txt)"
    if command -v shellcheck > /dev/null; then
        shellcheck "$kind.sh" > shellcheck.txt 2>&1
        verdict "shellcheck has nothing to say of $kind" "$?" "$(wc -l < shellcheck.txt) lines"
    fi
    grep -qE '@[A-Z_]+@|SPDX' "$kind.sh"
    verdict "nothing of $kind is left open" "$([ $? -eq 1 ]; echo $?)" "no @NAME@"
    emit "$kind" --model "$model" "${given[@]}" > bare.sh && bash -n bare.sh && grep -q '^##SBATCH --account=ACCOUNT' bare.sh
    verdict "what is not given stays to be filled in, in $kind" "$?" "##SBATCH --account=ACCOUNT"
done
emit batch --model "$model" -i 'in $(touch oops).jsonl' -o "out 'put\".jsonl" > names.sh
eval "$(sed -n '/^\(input\|output\)=/p' names.sh)"
verdict "a name is what it was, quotes and all" \
    "$([ "${input:-}" = "$work/in \$(touch oops).jsonl" ] && [ "${output:-}" = "$work/out 'put\".jsonl" ] && [ ! -e oops ]; echo $?)" \
    "$(sed -n 's/^input=//p' names.sh)"

listed=$(emit | grep -cE "^  ($(tr ' ' '|' <<< "$kinds")) ")
verdict "without a kind they are listed" "$([ "$listed" = 6 ]; echo $?)" "$listed of 6"

refused() { # PATTERN ARGUMENTS
    local pattern=$1 text code
    shift
    text=$(emit "$@" 2>&1 > out.sh)
    code=$?
    verdict "refused: $pattern" \
        "$([ $code -ne 0 ] && [ "$(wc -l <<< "$text")" -eq 1 ] && grep -q -- "$pattern" <<< "$text" && [ ! -s out.sh ]; echo $?)" "exit code $code: $text"
}
requests=(-i "$model/requests.jsonl")
refused "did you mean 'batch'" bathc --model "$model"
refused "batch needs --model" batch "${requests[@]}"
refused "batch needs --input" batch --model "$model"
refused "nowhere/config.json: No such file" serve --model nowhere
refused "nothing.jsonl: No such file" batch --model "$model" -i nothing.jsonl
refused "serve has no place for it" serve --model "$model" --parts 3
refused "a time as for Slurm" serve --model "$model" --time 1h
refused "letters, digits" serve --model "$model" --partition "a b"
refused "8 ranks do not fit" scaling --model "$model" "${requests[@]}" --rank-counts 1,8 --nodes 2
refused "leaves nothing before the successor" chain --model "$model" --time 10
refused "must be one line" serve --model "$model" --run-options=$'--port 1\nrm x'
exit "$((failures > 0))"
