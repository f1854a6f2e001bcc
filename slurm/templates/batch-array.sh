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
whole=@OUTPUT@
# Not SLURM_ARRAY_TASK_COUNT, which is 1 where one part is submitted again.
parts=@PARTS@

output=$whole.part$SLURM_ARRAY_TASK_ID

# Without this, some starts over several nodes crash (Slurm's PMIx, fence "mixed").
export SLURM_PMIX_FENCE=ring

# Puts the parts together once all are there. Two that end at once both do it, each into a file of its own that
# is then renamed: whoever is last writes the same again.
complete() {
    local i draft=$whole.$SLURM_JOB_ID
    local files=()
    for ((i = 0; i < parts; i++)); do
        [[ -e $whole.part$i ]] || return 0
        files+=("$whole.part$i")
    done
    cat "${files[@]}" >"$draft"
    mv "$draft" "$whole"
    echo "all $parts parts are done: $whole"
}

#include before_run.sh

# In the background, so that bash runs the traps while it waits.
cpus=$((SLURM_CPUS_ON_NODE / ranks_per_node))
srun --mpi=pmix --cpus-per-task="$((cpus > 0 ? cpus : 1))" --cpu-bind=cores --gpu-bind=none --kill-on-bad-exit=1 \
    "$polyreme" batch "$model" --input "$input" --output "$output" --part "$SLURM_ARRAY_TASK_ID/$parts" --resume@OPTIONS@ &
#include after_run.sh
