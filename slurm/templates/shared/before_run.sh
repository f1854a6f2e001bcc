# SPDX-License-Identifier: BSD-3-Clause
if "$polyreme" batch --state "$output" 2>/dev/null; then
    echo "nothing to do: $output is complete"
    complete
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
