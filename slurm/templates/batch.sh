#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Polyreme, batch: a JSONL file of requests, answered exactly once, in as many runs as it takes.
#
#   sbatch FILE                         start; the same line continues what an earlier job has left
#   polyreme batch --state OUTPUT       how far it is: done, running, preempted or failed, with counts
#   sbatch --dependency=singleton FILE  any number of these queue up behind each other: jobs of one name run one
#                                       at a time, each continues, and those that find nothing to do end at once
#
# Before the time limit the run stops taking requests, finishes what it can, and keeps the rest in OUTPUT.journal.
# This script then gives the job back to the queue under its own number (requeue), and the next run continues.

#SBATCH --job-name=@JOB_NAME@
#SBATCH --nodes=@NODES@
#SBATCH --ntasks-per-node=@RANKS_PER_NODE@
#SBATCH --time=@TIME@
#SBATCH --partition=@PARTITION@
#SBATCH --account=@ACCOUNT@
# GPUs belong to the node, not to a task: --gpus-per-task would hide each rank's neighbours from it, and with them the
# direct copies between GPUs. Ranks choose their own among all that they see.
#SBATCH --gpus-per-node=@GPUS_PER_NODE@
# Whole nodes, with all their cores and memory.
#SBATCH --exclusive
#SBATCH --mem=0
# A requeued job writes to the same log again: append, or the first run's lines are lost.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
# A second way to learn of the end, for sites where Slurm does not tell the ranks the first (libslurm): USR2 to this
# script, one to two minutes before.
#SBATCH --signal=B:USR2@60

set -euo pipefail
# module load ...    (the MPI that Polyreme was built with)
polyreme=@POLYREME@
model=@MODEL@
ranks_per_node=@RANKS_PER_NODE@
input=@INPUT@
output=@OUTPUT@

# Without this, ranks can leave MPI_Init too early: some starts over several nodes crash (Slurm's PMIx, fence "mixed").
export SLURM_PMIX_FENCE=ring

# What is left to do when all is answered.
complete() { :; }

#include before_run.sh

# srun runs in the background: bash runs a trap only while it waits, not while a program is in the foreground.
# --cpus-per-task is said here because srun no longer takes it from sbatch; cores of a rank lie together.
cpus=$((SLURM_CPUS_ON_NODE / ranks_per_node))
srun --mpi=pmix --cpus-per-task="$((cpus > 0 ? cpus : 1))" --cpu-bind=cores --gpu-bind=none --kill-on-bad-exit=1 \
    "$polyreme" batch "$model" --input "$input" --output "$output" --resume@OPTIONS@ &
#include after_run.sh
