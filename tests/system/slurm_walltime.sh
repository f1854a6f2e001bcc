#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A batch whose job has two minutes, on a real Slurm: it leaves before the limit what it could not end, its job is requeued by
# itself and completes, with the bytes of an undisturbed run. A limit that is moved while the job runs counts.
# timeout: 400
# resource: slurm
set -u
source "$POLYREME_SOURCE/tests/system/slurm_nodes"

for i in $(seq 1600); do
    echo "{\"custom_id\":\"r$i\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":\"And he went $i\",\"max_tokens\":$((40 + i % 40)),\"ignore_eos\":true}}"
done > in.jsonl
"$polyreme" batch "$model" -i in.jsonl -o expected.jsonl --journal off --log-level warn
verdict "an undisturbed run" "$?" "$(wc -l < expected.jsonl) lines"

# The first run is slow and keeps most of its two minutes free: what is read of them is what counts.
# shellcheck disable=SC2016
"$polyreme" emit sbatch batch --model "$model" -i in.jsonl -o out.jsonl --nodes 2 --time 2 \
    --run-options='--max-num-seqs $((SLURM_RESTART_COUNT > 0 ? 64 : 1)) --walltime-reserve $((SLURM_RESTART_COUNT > 0 ? 20 : 85))' > job.sh
sed -i 's/^ranks_per_node=/SLURM_RESTART_COUNT=${SLURM_RESTART_COUNT:-0}\n&/' job.sh
job=$(sbatch --parsable --output=job.log job.sh)
for _ in $(seq 1000); do grep -q requeued job.log 2> /dev/null && break; sleep 0.1; done
verdict "what cannot end in time is left for the next job" \
    "$(grep -q 'walltime: [0-9]* requests of those read are left' job.log && grep -q '^preempted: .*; walltime$' job.log && ! grep -q 'TIME LIMIT' job.log; echo $?)" \
    "$(grep -o 'walltime: .*' job.log | head -n 1); $(grep '^preempted: ' job.log)"
state=$(start_again "$job" 1 60)
verdict "the job is requeued by itself" "$([ "$state" = RUNNING ]; echo $?)" "$state"
state=$(await_state "$job" "$ended" 130)
cmp expected.jsonl out.jsonl
verdict "and completes, with the same bytes" "$([ $? -eq 0 ] && [ "$state" = COMPLETED ]; echo $?)" \
    "$state; $("$polyreme" batch --state out.jsonl)"

# A service says in its endpoint file until when; it looks at the limit every half minute.
"$polyreme" emit sbatch serve --model "$model" --endpoint-file run.json --time 20 --run-options='--host 127.0.0.1' > serve.sh
job=$(sbatch --parsable --output=serve.log serve.sh)
for _ in $(seq 300); do [ -s run.json ] && break; sleep 0.1; done
first=$(jq .end_unix_s run.json)
scontrol update JobId="$job" TimeLimit=5
limit=$(date -d "$(job_field "$job" EndTime)" +%s)
for _ in $(seq 500); do [ "$(jq .end_unix_s run.json)" = "$limit" ] && break; sleep 0.1; done
verdict "a limit that is moved while the job runs counts" \
    "$([ "$(jq .end_unix_s run.json)" = "$limit" ] && [ $((first - limit)) -eq 900 ]; echo $?)" \
    "scontrol $limit, $(jq .end_unix_s run.json), before $first"
scancel "$job"
exit "$((failures > 0))"
