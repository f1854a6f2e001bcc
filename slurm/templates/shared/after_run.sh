# SPDX-License-Identifier: BSD-3-Clause
step=$!
# Now and then a step stays although its ranks are gone, and would until the job's limit: it is ended once the run has
# said its last word and nothing has followed for so long.
patience=60
last_word() { echo "$(stat -c %Y "$output.state" 2>/dev/null) $("$polyreme" batch --state "$output" 2>/dev/null)"; }
end_stale_step() {
    local begun word seen='' since=0
    begun=$(last_word)
    while sleep 5; do
        word=$(last_word)
        if [[ $word != "$seen" || $word == "$begun" || $word == *" running: "* ]]; then
            seen=$word since=0
        elif (((since += 5) >= patience)); then
            echo "the run is over, but its step stays: ended"
            kill "$step"
            sleep 5
            kill -9 "$step"
        fi
    done 2>/dev/null
}
end_stale_step &
watch=$!
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do  # wait ends with every trap
    code=0
    wait "$step" || code=$?
done
kill "$watch" 2>/dev/null || true

state=0
"$polyreme" batch --state "$output" || state=$?
if [[ $state == 0 ]]; then
    rm -f "$output.idle_runs"
    complete
    if ((code > 128)); then code=0; fi  # of the launcher, not of the run
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
