#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Polyreme, serve: OpenAI's API on all ranks of a job, until the job ends.
#
#   sbatch FILE
#   polyreme chat --endpoint-file ENDPOINT    talk to it, from any machine that reaches the node
#   polyreme top --endpoint-file ENDPOINT     watch it
#   scancel --signal=USR1 JOB                 end it in order: open replies are finished first
#
# ENDPOINT appears when the model is loaded, and says where (url) and with which key (api_key_file). From outside the
# cluster: ssh -L 8000:HOST:PORT login-node, with host and port from ENDPOINT; then http://127.0.0.1:8000/v1.

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
# Replies that are open when the limit comes would be cut: stop taking new ones before. The run does so by itself
# where it can read its end; this is for where it cannot.
#SBATCH --signal=B:USR2@90

set -euo pipefail
# module load ...    (the MPI that Polyreme was built with)
polyreme=@POLYREME@
model=@MODEL@
ranks_per_node=@RANKS_PER_NODE@
endpoint=@ENDPOINT_FILE@

# Without this, some starts over several nodes crash (Slurm's PMIx, fence "mixed").
export SLURM_PMIX_FENCE=ring

ends=$("$polyreme" job --json 2>/dev/null | sed -n 's/.*"end_unix_s": *\([0-9]*\).*/\1/p' || true)
step=''
trap 'kill -USR1 "$step" || true' USR1  # srun passes it on to every rank
trap '[[ ${ends:-0} != 0 ]] || kill -USR1 "$step" || true' USR2  # the end is near: ranks that know it see to it themselves
trap ':' TERM  # scancel: Slurm tells the ranks itself; wait for them

# All interfaces, since clients come from other nodes, and any free port, since others may serve on this node too.
# The key in ENDPOINT.key is made anew and readable by you alone.
# In the background, so that bash runs the trap while it waits.
cpus=$((SLURM_CPUS_ON_NODE / ranks_per_node))
srun --mpi=pmix --cpus-per-task="$((cpus > 0 ? cpus : 1))" --cpu-bind=cores --gpu-bind=none --kill-on-bad-exit=1 \
    "$polyreme" serve "$model" --host 0.0.0.0 --port 0 --endpoint-file "$endpoint"@OPTIONS@ &
step=$!
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do  # wait ends with every trap
    code=0
    wait "$step" || code=$?
done
exit "$code"
