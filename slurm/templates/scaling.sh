#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Polyreme, scaling: how much faster do more ranks answer the same requests? One allocation, one run for each number
# of ranks, one after the other, and a table at the end. The answers must be the same for all: that is checked.
#
#   sbatch FILE
#   cat FOLDER/scaling.csv
#
# What to look for: efficiency is speed-up over ranks, against the smallest run. Where it falls below a half, more
# ranks are better spent on a second job. Take enough requests that the smallest run lasts minutes.

#SBATCH --job-name=@JOB_NAME@
#SBATCH --nodes=@NODES@
#SBATCH --ntasks-per-node=@RANKS_PER_NODE@
#SBATCH --time=@TIME@
#SBATCH --partition=@PARTITION@
#SBATCH --account=@ACCOUNT@
# All GPUs of a node for each of its ranks, so that they reach each other's: no --gpus-per-task.
#SBATCH --gpus-per-node=@GPUS_PER_NODE@
# Nobody else on the nodes, or the times say little.
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --output=%x-%j.log

set -euo pipefail
# module load ...    (the MPI that Polyreme was built with)
polyreme=@POLYREME@
model=@MODEL@
input=@INPUT@
folder=@OUTPUT@
rank_counts=(@RANK_COUNTS@)
ranks_per_node=@RANKS_PER_NODE@

# Without this, some starts over several nodes crash (Slurm's PMIx, fence "mixed").
export SLURM_PMIX_FENCE=ring

mkdir -p "$folder"
table=$folder/scaling.csv
echo "ranks,nodes,seconds,tokens_per_s,speedup,efficiency" >"$table"
cpus=$((SLURM_CPUS_ON_NODE / ranks_per_node))
first_ranks='' first_rate=''

for ranks in "${rank_counts[@]}"; do
    nodes=$(((ranks + ranks_per_node - 1) / ranks_per_node))
    if ((nodes > SLURM_JOB_NUM_NODES)); then
        echo "$ranks ranks need $nodes nodes of $ranks_per_node ranks, and there are $SLURM_JOB_NUM_NODES: left out"
        continue
    fi
    # Nodes are filled one after the other, as few as hold the ranks; the cores of a rank are as many in every run.
    srun --mpi=pmix --nodes="$nodes" --ntasks="$ranks" --ntasks-per-node="$ranks_per_node" --distribution=block:block \
        --cpus-per-task="$((cpus > 0 ? cpus : 1))" --cpu-bind=cores --gpu-bind=none --kill-on-bad-exit=1 \
        "$polyreme" batch "$model" --input "$input" --output "$folder/$ranks.jsonl" --journal off@OPTIONS@ \
        >"$folder/$ranks.log" 2>&1 || { tail -n 5 "$folder/$ranks.log" && exit 1; }
    # "... requests answered, 0 refused in 1.18 s: ... output tokens, 153 tokens/s out; ..."
    read -r seconds rate < <(sed -n 's/.* refused in \([0-9.]*\) s:.* \([0-9.]*\) tokens\/s out.*/\1 \2/p' "$folder/$ranks.log")
    : "${first_ranks:=$ranks}" "${first_rate:=$rate}"
    awk -v ranks="$ranks" -v nodes="$nodes" -v seconds="$seconds" -v rate="$rate" -v first="$first_ranks" -v base="$first_rate" \
        'BEGIN { s = rate / base; printf "%d,%d,%s,%s,%.2f,%.2f\n", ranks, nodes, seconds, rate, s, s * first / ranks }' >>"$table"
    cmp "$folder/$first_ranks.jsonl" "$folder/$ranks.jsonl" || { echo "$ranks ranks answer differently" && exit 1; }
done
awk -F, '{ printf "%8s %8s %10s %14s %10s %12s\n", $1, $2, $3, $4, $5, $6 }' "$table"
