#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Prefill and decode as two components of a heterogeneous job, interrupted and requeued, and a scaling study: job scripts of
# `polyreme emit sbatch` on a real Slurm. What comes out are the bytes of one process.
# timeout: 420
# resource: slurm
set -u
source "$POLYREME_SOURCE/tests/system/slurm_nodes"

for i in $(seq 40); do
    echo "{\"custom_id\":\"r$i\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":\"And he went $i\",\"max_tokens\":$((10 + i % 30)),\"ignore_eos\":true}}"
done > in.jsonl
"$polyreme" batch "$model" -i in.jsonl -o expected.jsonl --journal off --log-level warn
verdict "an undisturbed run" "$?" "$(wc -l < expected.jsonl) lines"
emit() { # KIND OUTPUT ARGUMENTS
    "$polyreme" emit sbatch "$1" --model "$model" -i in.jsonl -o "$2" "${@:3}" > "$1.sh"
}

emit hetjob het.jsonl --prefill-nodes 1 --decode-nodes 2 --run-options='--max-num-seqs 4'
sed -i 's/^patience=60/patience=15/' hetjob.sh
job=$(sbatch --parsable --output=het.log hetjob.sh)
for _ in $(seq 300); do
    "$polyreme" batch --state het.jsonl 2> /dev/null | grep -q ' [1-9][0-9]* answered' && break
    sleep 0.1
done
grep -q -- '--prefill 1x1 --decode 1x2' het.log
verdict "both components are one world: prefill on the first, decode on the second" "$?" \
    "$(grep -o 'layout: .*' het.log), components $(job_field "$job+0" NumNodes) and $(job_field "$job+1" NumNodes) nodes"
scancel --signal=USR1 "$job"
for _ in $(seq 300); do grep -q 'requeued' het.log && break; sleep 0.2; done
verdict "interrupted it is preempted and requeued as a whole" "$(grep -q '^preempted: ' het.log; echo $?)" "$(grep '^preempted: ' het.log)"
state=$(start_again "$job" 1 60)
state=$(await_state "$job" "$ended" 90)
cmp expected.jsonl het.jsonl
verdict "started again it completes, with the same bytes" "$([ $? -eq 0 ] && [ "$state" = COMPLETED ]; echo $?)" "$state"

# A step that stays: here an srun that never ends.
mkdir bin
printf '#!/bin/sh\n%s "$@"\nexec sleep 600\n' "$(command -v srun)" > bin/srun
chmod +x bin/srun
emit hetjob stale.jsonl --prefill-nodes 1 --decode-nodes 1
sed -i 's/^patience=60/patience=5/' hetjob.sh
job=$(PATH="$PWD/bin:$PATH" sbatch --parsable --output=stale.log hetjob.sh)
state=$(await_state "$job" "$ended" 90)
cmp expected.jsonl stale.jsonl
verdict "a step that stays when its run is over is ended" \
    "$([ $? -eq 0 ] && [ "$state" = COMPLETED ] && grep -q 'its step stays: ended' stale.log; echo $?)" "$state: $(tail -n 1 stale.log)"

emit scaling study --nodes 4 --rank-counts 1,2,4
job=$(sbatch --parsable --output=scaling.log scaling.sh)
state=$(await_state "$job" "$ended" 120)
cmp expected.jsonl study/4.jsonl
verdict "a scaling study ends with a row for each number of ranks, and the same bytes" \
    "$([ $? -eq 0 ] && [ "$state" = COMPLETED ] && [ "$(grep -cE '^(1,1|2,2|4,4),[0-9.]+,[0-9.]+,[0-9.]+,[0-9.]+$' study/scaling.csv)" = 3 ]; echo $?)" \
    "$state: $(tail -n +2 study/scaling.csv | paste -sd' ')"
exit "$((failures > 0))"
