#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Batches by job scripts of `polyreme emit sbatch` on a real Slurm: over four nodes, interrupted and requeued, cancelled, as an
# array. What comes out are the bytes of one process that nobody disturbed.
# timeout: 600
# resource: slurm
set -u
source "$POLYREME_SOURCE/tests/system/slurm_nodes"

for i in $(seq 80); do
    echo "{\"custom_id\":\"r$i\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":\"And he went $i\",\"max_tokens\":$((10 + i % 40)),\"ignore_eos\":true}}"
done > in.jsonl
"$polyreme" batch "$model" -i in.jsonl -o expected.jsonl --journal off --log-level warn
verdict "an undisturbed run" "$?" "$(wc -l < expected.jsonl) lines"
few=--max-num-seqs\ 4  # so that there is time to interrupt it
emit() { # KIND OUTPUT ARGUMENTS
    "$polyreme" emit sbatch "$1" --model "$model" -i in.jsonl -o "$2" "${@:3}" > "${2%.jsonl}.sh"
}
submit() { sbatch --parsable --output="${1%.sh}.log" "$1"; } # SCRIPT
check_same() { # NAME JOB-STATE OUTPUT
    local same=different
    cmp -s expected.jsonl "$3" && same=equal
    verdict "$1" "$([ "$2" = COMPLETED ] && [ $same = equal ]; echo $?)" \
        "job $2, $same to the undisturbed run; state: $("$polyreme" batch --state "$3" 2>&1)"
}
# The run has answered something and has more to do.
await_answers() { # OUTPUT
    local text
    for _ in $(seq 300); do
        text=$("$polyreme" batch --state "$1" 2> /dev/null)
        grep -q ' [1-9][0-9]* answered' <<< "$text" && return
        sleep 0.1
    done
}

# ---- Four nodes, undisturbed ----
emit batch whole.jsonl --nodes 4
job=$(submit whole.sh)
check_same "four nodes" "$(await_state "$job" "$ended" 90)" whole.jsonl
nodes=$(job_field "$job" NumNodes)
verdict "they are four" "$([ "$nodes" = 4 ] && grep -q 'they are on several nodes' whole.log; echo $?)" "$nodes nodes"
job=$(submit whole.sh)
state=$(await_state "$job" "$ended" 30)
verdict "a job with nothing to do ends at once" \
    "$([ "$state" = COMPLETED ] && grep -q 'nothing to do' whole.log; echo $?)" "$state: $(tail -n 1 whole.log)"

# ---- The time limit comes: Slurm's USR1 to the script, and from it to the ranks ----
emit batch usr1.jsonl --nodes 2 --run-options="$few"
job=$(submit usr1.sh)
await_answers usr1.jsonl
scancel --batch --signal=USR1 "$job"
state=$(start_again "$job" 1 60)
text=$("$polyreme" batch --state usr1.jsonl)
verdict "USR1 to the script: the run is preempted and the job requeued" \
    "$(grep -q '; signal 10 \|^preempted\|^running' <<< "$text" && grep -q '^preempted: ' usr1.log && grep -q requeued usr1.log; echo $?)" \
    "$(grep '^preempted: ' usr1.log), then $state"
check_same "started again it completes" "$(await_state "$job" "$ended" 90)" usr1.jsonl

# ---- scancel with a signal reaches the ranks ----
for signal in USR1 TERM; do
    out=$signal.jsonl
    emit batch "$out" --nodes 2 --run-options="$few"
    job=$(submit "$signal.sh")
    await_answers "$out"
    scancel --signal=$signal "$job"
    state=$(start_again "$job" 1 60)
    verdict "scancel --signal=$signal: preempted, requeued" "$(grep -q '^preempted: ' "$signal.log"; echo $?)" \
        "$(grep '^preempted: ' "$signal.log"), then $state"
    check_same "and it completes" "$(await_state "$job" "$ended" 90)" "$out"
done

# ---- scancel means it: no requeue; sbatch goes on ----
emit batch cancelled.jsonl --nodes 2 --run-options="$few"
job=$(submit cancelled.sh)
await_answers cancelled.jsonl
scancel "$job"
state=$(await_state "$job" "$ended" 40)
sleep 1
later=$(job_field "$job" JobState)
text=$("$polyreme" batch --state cancelled.jsonl)
verdict "a cancelled job stays cancelled, and what it did is kept" \
    "$([ "$state $later" = "CANCELLED CANCELLED" ] && [ $? -eq 0 ] && grep -q '^preempted: ' <<< "$text"; echo $?)" "$state, $text"

# ---- Runs that get nowhere: a program that is killed at once ----
printf '#!/bin/bash\n[ "$2" = --state ] && exec "%s" "$@"\nkill -9 $$\n' "$polyreme" > killed
chmod +x killed
sed "s|^polyreme=.*|polyreme=$work/killed|" cancelled.sh > nowhere.sh
job=$(submit nowhere.sh)
for run in 1 2; do start_again "$job" $run 60 > state.txt; done
state=$(await_state "$job" "$ended" 30)
verdict "after three runs that got nowhere there is no fourth" \
    "$([ "$state" = FAILED ] && [ "$(grep -c 'to be continued' nowhere.log)" = 2 ] && grep -q '3 runs in a row' nowhere.log; echo $?)" \
    "$state after $(grep -c 'to be continued' nowhere.log) requeues: $(tail -n 1 nowhere.log)"
job=$(submit cancelled.sh)
check_same "submitted again it completes" "$(await_state "$job" "$ended" 90)" cancelled.jsonl

# ---- An array: two nodes for each of four parts, two at a time ----
emit batch-array array.jsonl --nodes 2 --parts 4
job=$(sbatch --parsable --output=array-%a.log array.sh)
state=
for part in 0 1 2 3; do state="$state $(await_state "${job}_$part" "$ended" 120)"; done
cmp expected.jsonl array.jsonl
verdict "the parts of an array make the whole" "$?" "parts:$state, $(wc -l < array.jsonl) lines"

# ---- Not for ever ----
emit batch hopeless.jsonl --nodes 1
sed -i "s|^model=.*|model=$work/gone|" hopeless.sh
job=$(submit hopeless.sh)
state=$(await_state "$job" "$ended" 40)
verdict "a model that is not there is not tried again" "$([ "$state" = FAILED ] && ! grep -q requeued hopeless.log; echo $?)" \
    "$state: $(tail -n 1 hopeless.log)"
exit "$((failures > 0))"
