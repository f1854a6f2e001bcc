#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Serving by job scripts of `polyreme emit sbatch` on a real Slurm: found through the endpoint file, ended in order, and
# handed on from job to job while a client that follows the endpoint file loses no request.
# timeout: 300
# resource: slurm
set -u
source "$POLYREME_SOURCE/tests/system/slurm_nodes"
# All nodes are this machine: clients need no more than its loopback.
emit() { "$polyreme" emit sbatch "$1" --model "$model" --endpoint-file run.json --run-options='--host 127.0.0.1'  "${@:2}" > "$1.sh"; } # KIND ARGUMENTS
field() { jq -r ".$1 // empty" run.json 2> /dev/null; }
await_job() { for _ in $(seq 300); do [ "$(field job_id)" = "$1" ] && return; sleep 0.1; done; } # JOB
say() { "$polyreme" chat --endpoint-file run.json --max-tokens 4 --temperature 0 -p 'Who was Saul?' 2>> chat.log; }

emit serve --nodes 2
job=$(sbatch --parsable --output=serve.log serve.sh)
await_job "$job"
answer=$(say)
verdict "a client finds the job through the endpoint file" "$([ -n "$answer" ]; echo $?)" "at $(field url): $answer"
scancel --batch --signal=USR1 "$job"
state=$(await_state "$job" "$ended" 30)
verdict "USR1 to the script ends it in order" "$([ "$state" = COMPLETED ] && [ ! -e run.json ] && grep -q 'drained' serve.log; echo $?)" "$state"

# ---- A chain ----
emit chain --nodes 2 --time 20 --lead-minutes 5
job=$(sbatch --parsable --output=first.log chain.sh)
await_job "$job"
# Whole answers one after the other, each from whoever the file names at that moment.
follow() {
    while [ ! -e stop ]; do
        text=$(say)
        if [ "$text" = "$answer" ]; then echo "$text" >> answers; else echo "$text" >> failed; fi
    done
}
touch answers
follow &
client=$!
for _ in $(seq 100); do [ "$(wc -l < answers)" -ge 3 ] && break; sleep 0.1; done
key=$(cat "$(field api_key_file)") url=$(field url)
# One that is long, at the old job: it is under way when that is told to end.
long() {
    curl -sN "$url/completions" -H "Authorization: Bearer $key" \
        -d '{"prompt":"And he went","max_tokens":1000,"ignore_eos":true,"stream":true}' > stream 2>> chat.log
}
successor=$(squeue -h -n polyreme-chain -t PENDING -o '%i %E')
verdict "a job submits its successor" "$(grep -q "after:$job+1[0-9]" <<< "$successor"; echo $?)" "$successor"

next=$(sbatch --parsable --output=second.log chain.sh)
await_job "$next"
before=$(wc -l < answers)
long &
stream=$!
state=$(await_state "$job" "$ended" 60)
verdict "the successor takes over, and the old job ends in order" \
    "$([ "$state" = COMPLETED ] && [ "$(field job_id)" = "$next" ] && [ "$(field state)" = ready ] && grep -q "in place of job $job" second.log; echo $?)" \
    "$state; $(grep 'in place of' second.log)"
pending=$(squeue -h -n polyreme-chain -t PENDING -o '%E' | paste -sd' ')
verdict "there is one chain still: the first job's successor has gone" \
    "$([ "$(wc -w <<< "$pending")" = 1 ] && grep -q "after:$next+" <<< "$pending"; echo $?)" "waits: $pending"
for _ in $(seq 100); do [ "$(wc -l < answers)" -ge $((before + 10)) ] && break; sleep 0.1; done
touch stop
wait "$client"
wait "$stream"
verdict "what the old job had begun it has finished" \
    "$(grep -q '"finish_reason":"length"' stream && grep -q '^data: \[DONE\]' stream; echo $?)" "$(grep -c '^data: ' stream) events"
verdict "a client that follows the endpoint file loses no request" \
    "$([ ! -e failed ] && [ "$(wc -l < answers)" -ge $((before + 3)) ]; echo $?)" \
    "$(wc -l < answers) answered ($before before the hand-over), $(cat failed 2> /dev/null | wc -l) failed"
scancel --name=polyreme-chain
state=$(await_state "$next" "$ended" 30)
verdict "scancel ends the chain" "$([ "$state" = CANCELLED ] && [ -z "$(squeue -h -n polyreme-chain -t PENDING)" ]; echo $?)" "$state"
exit "$((failures > 0))"
