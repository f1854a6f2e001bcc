#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Polyreme, hetjob: a batch whose prefill and decode ranks have nodes of different kinds. Prefill computes much,
# decode mostly reads memory: a heterogeneous job asks for each in its own terms, and both start together.
#
#   sbatch FILE                      start; the same line continues what an earlier job has left
#   squeue --me                      NUMBER+0 and NUMBER+1: the two components
#   polyreme batch --state OUTPUT    how far it is
#
# One srun over both components gives one MPI_COMM_WORLD: ranks of the first come first, and prefill takes them.

# ---- Component 0: prefill ----
#SBATCH --job-name=@JOB_NAME@
#SBATCH --nodes=@PREFILL_NODES@
#SBATCH --ntasks-per-node=@RANKS_PER_NODE@
#SBATCH --time=@TIME@
#SBATCH --partition=@PARTITION@
#SBATCH --account=@ACCOUNT@
# All GPUs of a node for each of its ranks, so that they reach each other's: no --gpus-per-task.
#SBATCH --gpus-per-node=@GPUS_PER_NODE@
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
# A second way to learn of the end, beside libslurm.
#SBATCH --signal=B:USR2@60

# ---- Component 1: decode. What differs, and what does not carry over ----
#SBATCH hetjob
#SBATCH --nodes=@DECODE_NODES@
#SBATCH --ntasks-per-node=@RANKS_PER_NODE@
#SBATCH --time=@TIME@
#SBATCH --partition=@DECODE_PARTITION@
#SBATCH --account=@ACCOUNT@
#SBATCH --gpus-per-node=@GPUS_PER_NODE@
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --requeue

set -euo pipefail
# module load ...    (the MPI that Polyreme was built with)
polyreme=@POLYREME@
model=@MODEL@
input=@INPUT@
output=@OUTPUT@
ranks_per_node=@RANKS_PER_NODE@
prefill_ranks=$((ranks_per_node * SLURM_JOB_NUM_NODES_HET_GROUP_0))
decode_ranks=$((ranks_per_node * SLURM_JOB_NUM_NODES_HET_GROUP_1))

# Without this, some starts over several nodes crash (Slurm's PMIx, fence "mixed").
export SLURM_PMIX_FENCE=ring

# What is left to do when all is answered.
complete() { :; }

#include before_run.sh

# One group for each role; "2x4" instead of "1x8" would be two groups of four. Not bound by Slurm: nodes of the
# components may have different cores, and each rank takes its share of its node's.
# In the background, so that bash runs the traps while it waits.
srun --mpi=pmix --het-group=0,1 --cpu-bind=none --gpu-bind=none --kill-on-bad-exit=1 \
    "$polyreme" batch "$model" --input "$input" --output "$output" --resume \
    --prefill "1x$prefill_ranks" --decode "1x$decode_ranks"@OPTIONS@ &
#include after_run.sh
