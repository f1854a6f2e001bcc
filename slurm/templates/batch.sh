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

if "$polyreme" batch --state "$output" 2>/dev/null; then
    echo "nothing to do: $output is complete"
    exit 0
fi

# Requests that have their line by now, as a sum.
settled() { "$polyreme" batch --state "$output" 2>/dev/null | sed -n 's/.* \([0-9]*\) answered, \([0-9]*\) refused.*/\1+\2/p' || true; }
before=$(($(settled) + 0))

# Ranks that know the end use their time better than a signal would: they stop when what they would begin could not be
# ended in time.
ends=$("$polyreme" job --json 2>/dev/null | sed -n 's/.*"end_unix_s": *\([0-9]*\).*/\1/p' || true)
step='' cancelled=''
trap 'kill -USR1 "$step" || true' USR1  # srun passes it on to every rank
trap '[[ ${ends:-0} != 0 ]] || kill -USR1 "$step" || true' USR2
trap 'cancelled=1' TERM  # scancel: Slurm tells the ranks itself

# srun runs in the background: bash runs a trap only while it waits, not while a program is in the foreground.
# --cpus-per-task is said here because srun no longer takes it from sbatch; cores of a rank lie together.
cpus=$((SLURM_CPUS_ON_NODE / ranks_per_node))
srun --mpi=pmix --cpus-per-task="$((cpus > 0 ? cpus : 1))" --cpu-bind=cores --gpu-bind=none --kill-on-bad-exit=1 \
    "$polyreme" batch "$model" --input "$input" --output "$output" --resume@OPTIONS@ &
step=$!
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do  # wait ends with every trap
    code=0
    wait "$step" || code=$?
done

state=0
"$polyreme" batch --state "$output" || state=$?
if [[ $state == 0 ]]; then rm -f "$output.idle_runs"; fi
if [[ $state != 7 ]]; then  # 0: done. Anything else: nothing that a next run could continue
    exit "$((code > state ? code : state))"
fi
if [[ -n $cancelled ]]; then
    echo "cancelled: what was done is kept, and sbatch continues it"
    exit "$code"
fi
if [[ $code == 2 || $code == 4 ]]; then  # a wrong option; a model or file that is not there
    echo "the run says what is wrong above: once it is right, sbatch continues"
    exit "$code"
fi
# Runs that get nowhere would go on for ever: three in a row are enough. More, where one answer takes several jobs.
most_idle_runs=3
idle=0
if (($(settled) + 0 <= before)); then idle=$(($(cat "$output.idle_runs" 2>/dev/null || echo 0) + 1)); fi
echo "$idle" >"$output.idle_runs"
if ((idle >= most_idle_runs)); then
    rm -f "$output.idle_runs"
    echo "$idle runs in a row have finished no request: not requeued. Is --time long enough, does the log tell of faults?"
    exit "$((code ? code : state))"
fi
echo "to be continued: requeued"
scontrol requeue "$SLURM_JOB_ID"
