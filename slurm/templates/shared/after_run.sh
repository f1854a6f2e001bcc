# SPDX-License-Identifier: BSD-3-Clause
step=$!
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do  # wait ends with every trap
    code=0
    wait "$step" || code=$?
done

state=0
"$polyreme" batch --state "$output" || state=$?
if [[ $state == 0 ]]; then
    rm -f "$output.idle_runs"
    complete
fi
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
