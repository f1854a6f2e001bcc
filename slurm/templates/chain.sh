#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Polyreme, chain: a service that outlives its jobs. Each job submits its successor; that one starts before the
# limit, loads the model, takes over the endpoint file, and only then the old job ends. Clients that follow the
# endpoint file (polyreme chat --endpoint-file, or see docs/endpoint-file.md) lose no request.
#
#   sbatch FILE                start the service
#   sbatch FILE                and again, at any time, to move it: to new code, another node, other options
#   touch ENDPOINT.stop        no more successors; the job that runs serves until its end
#   scancel --name=NAME        end it now, successors too
#
#   job 1  load | serve ............................................ | drain
#   job 2                 waits for its time and for nodes | load | takes over, serve ...
#
# Both jobs need nodes at once for some minutes. Where a project may run one job only, submit with
# --dependency=singleton instead: the successor then starts after the end, with a gap as long as loading takes.
# For batch there is no need of a hand-over: the batch template continues from its journal.

#SBATCH --job-name=@JOB_NAME@
#SBATCH --nodes=@NODES@
#SBATCH --ntasks-per-node=@RANKS_PER_NODE@
#SBATCH --time=@TIME@
#SBATCH --partition=@PARTITION@
#SBATCH --account=@ACCOUNT@
# All GPUs of a node for each of its ranks, so that they reach each other's: no --gpus-per-task.
#SBATCH --gpus-per-node=@GPUS_PER_NODE@
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --output=%x-%j.log
# Should no successor have come: stop taking requests before the limit cuts them. The run does so by itself where it
# can read its end; this is for where it cannot.
#SBATCH --signal=B:USR1@90

set -euo pipefail
# module load ...    (the MPI that Polyreme was built with)
polyreme=@POLYREME@
model=@MODEL@
ranks_per_node=@RANKS_PER_NODE@
endpoint=@ENDPOINT_FILE@
# The successor may start so long before this job's limit: time to wait for nodes, and to load.
lead_minutes=@LEAD_MINUTES@
# This file: Slurm runs a copy.
script=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *Command=//p')

# Without this, some starts over several nodes crash (Slurm's PMIx, fence "mixed").
export SLURM_PMIX_FENCE=ring

# Text or number of a name in the endpoint file, "" if there is none.
field() { sed -n "s/^ *\"$1\": *\"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$endpoint" 2>/dev/null || true; }

# One key for the whole chain, readable by its owner alone: a key that each job made would be wrong for the other.
key=$endpoint.chain-key
if [[ ! -s $key ]]; then
    (umask 077 && head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$key.$SLURM_JOB_ID")
    mv -n "$key.$SLURM_JOB_ID" "$key"
    rm -f "$key.$SLURM_JOB_ID"
fi

# after:JOB+MINUTES is not before so long after this job's start. It may wait for nodes from then on.
submit_successor() {
    local minutes=$((($("$polyreme" job --json | sed -n 's/.*"end_unix_s": *\([0-9]*\).*/\1/p') - $(date +%s)) / 60))
    if [[ -e $endpoint.stop ]]; then
        echo "no successor: $endpoint.stop is there"
    elif ((minutes <= lead_minutes || minutes > 60 * 24 * 300)); then
        echo "no successor: this job ends in $minutes minutes, and a successor would start $lead_minutes before that"
    else
        sbatch --parsable --dependency="after:$SLURM_JOB_ID+$((minutes - lead_minutes))" "$script"
    fi
}

# Once the endpoint file names this job, clients come here; whoever was there before is told to end: it takes nothing
# new, and finishes what it has. A few seconds first, for clients that read the file a moment ago.
take_over() {
    local old=$1
    until [[ $(field job_id) == "$SLURM_JOB_ID" ]]; do sleep 1; done
    sleep 5
    echo "serving at $(field url) in place of job $old"
    scancel --signal=USR1 "$old" || true
}

old=$(field job_id)
# One chain, whichever job of it was started by hand: successors that wait were submitted by the job before.
scancel --user="$(id -un)" --name="$SLURM_JOB_NAME" --state=PENDING || true
submit_successor

# In the background, so that bash runs the traps while it waits.
cpus=$((SLURM_CPUS_ON_NODE / ranks_per_node))
srun --mpi=pmix --cpus-per-task="$((cpus > 0 ? cpus : 1))" --cpu-bind=cores --gpu-bind=none --kill-on-bad-exit=1 \
    "$polyreme" serve "$model" --host 0.0.0.0 --port 0 --endpoint-file "$endpoint" --api-key-file "$key"@OPTIONS@ &
step=$!
trap 'kill -USR1 "$step"' USR1  # srun passes it on to every rank
trap ':' TERM                   # scancel: Slurm tells the ranks itself; wait for them
watcher=
if [[ -n $old && $old != null && $old != "$SLURM_JOB_ID" ]]; then
    take_over "$old" &
    watcher=$!
fi
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do  # wait ends with every trap
    code=0
    wait "$step" || code=$?
done
if [[ -n $watcher ]]; then kill "$watcher" 2>/dev/null || true; fi
exit "$code"
