#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Polyreme, array: a JSONL file of requests in parts, each a job of its own. For many small jobs that slip into gaps
# of the queue; a part that fails or hits its time limit concerns no other.
#
#   sbatch FILE             all parts; the same line continues those that are unfinished, the others end at once
#   sbatch --array=3 FILE   part 3 alone
#   squeue --me             one line for each part that runs, one for those that wait
#
# Part I answers the I-th piece of the input into OUTPUT.partI; whoever ends last puts the pieces together.

#SBATCH --job-name=@JOB_NAME@
# Parts from 0; at most so many (after %) run at once.
#SBATCH --array=0-@LAST_PART@%@PARTS_AT_ONCE@
#SBATCH --nodes=@NODES@
#SBATCH --ntasks-per-node=@RANKS_PER_NODE@
#SBATCH --time=@TIME@
#SBATCH --partition=@PARTITION@
#SBATCH --account=@ACCOUNT@
# All GPUs of a node for each of its ranks, so that they reach each other's: no --gpus-per-task.
#SBATCH --gpus-per-node=@GPUS_PER_NODE@
#SBATCH --exclusive
#SBATCH --mem=0
# A requeued part writes to the same log again.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
# A second way to learn of the end, beside libslurm.
#SBATCH --signal=B:USR2@60

set -euo pipefail
# module load ...    (the MPI that Polyreme was built with)
polyreme=@POLYREME@
model=@MODEL@
ranks_per_node=@RANKS_PER_NODE@
input=@INPUT@
output=@OUTPUT@
# Not SLURM_ARRAY_TASK_COUNT, which is 1 where one part is submitted again.
parts=@PARTS@

part=$output.part$SLURM_ARRAY_TASK_ID

# Without this, some starts over several nodes crash (Slurm's PMIx, fence "mixed").
export SLURM_PMIX_FENCE=ring

# Puts the parts together once all are there. Two that end at once both do it, each into a file of its own that
# is then renamed: whoever is last writes the same again.
gather() {
    local i whole=$output.$SLURM_JOB_ID
    local files=()
    for ((i = 0; i < parts; i++)); do
        [[ -e $output.part$i ]] || return 0
        files+=("$output.part$i")
    done
    cat "${files[@]}" >"$whole"
    mv "$whole" "$output"
    echo "all $parts parts are done: $output"
}

if "$polyreme" batch --state "$part" 2>/dev/null; then
    gather
    exit 0
fi

# Requests that have their line by now, as a sum.
settled() { "$polyreme" batch --state "$part" 2>/dev/null | sed -n 's/.* \([0-9]*\) answered, \([0-9]*\) refused.*/\1+\2/p' || true; }
before=$(($(settled) + 0))

ends=$("$polyreme" job --json 2>/dev/null | sed -n 's/.*"end_unix_s": *\([0-9]*\).*/\1/p' || true)
step='' cancelled=''
trap 'kill -USR1 "$step" || true' USR1  # srun passes it on to every rank
trap '[[ ${ends:-0} != 0 ]] || kill -USR1 "$step" || true' USR2  # the end is near: ranks that know it see to it themselves
trap 'cancelled=1' TERM  # scancel: Slurm tells the ranks itself

# In the background, so that bash runs the traps while it waits.
cpus=$((SLURM_CPUS_ON_NODE / ranks_per_node))
srun --mpi=pmix --cpus-per-task="$((cpus > 0 ? cpus : 1))" --cpu-bind=cores --gpu-bind=none --kill-on-bad-exit=1 \
    "$polyreme" batch "$model" --input "$input" --output "$part" --part "$SLURM_ARRAY_TASK_ID/$parts" --resume@OPTIONS@ &
step=$!
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do  # wait ends with every trap
    code=0
    wait "$step" || code=$?
done

state=0
"$polyreme" batch --state "$part" || state=$?
if [[ $state == 0 ]]; then rm -f "$part.idle_runs"; fi
if [[ $state == 0 ]]; then gather; fi
if [[ $state != 7 ]]; then exit "$((code > state ? code : state))"; fi
if [[ -n $cancelled || $code == 2 || $code == 4 ]]; then
    echo "not requeued: cancelled, or an option or file is wrong. sbatch continues"
    exit "$code"
fi
# Runs that get nowhere would go on for ever: three in a row are enough. More, where one answer takes several jobs.
most_idle_runs=3
idle=0
if (($(settled) + 0 <= before)); then idle=$(($(cat "$part.idle_runs" 2>/dev/null || echo 0) + 1)); fi
echo "$idle" >"$part.idle_runs"
if ((idle >= most_idle_runs)); then
    rm -f "$part.idle_runs"
    echo "$idle runs in a row have finished no request: not requeued. Is --time long enough, does the log tell of faults?"
    exit "$((code ? code : state))"
fi
echo "to be continued: requeued"
scontrol requeue "$SLURM_JOB_ID"  # this part's own number, not the array's
