#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Idle ranks sleep; a signal on any rank ends all of them with whole result lines, while they run and while they
# load; a second one ends its rank, whatever hangs; end of input ends all.
# timeout: 180
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
source "$POLYREME_SOURCE/tests/system/job_ranks"
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/tests/data/models/mixtral-tiny
work=$(mktemp -d)
job=
trap '[ -n "$job" ] && kill -9 $(pgrep -P "$job") "$job" 2> /dev/null; rm -rf "$work"' EXIT
failures=0
verdict() { # NAME CONDITION-STATUS DETAIL
    if [ "$2" -eq 0 ]; then echo "ok     $1: $3"; else echo "FAILED $1: $3"; failures=$((failures + 1)); fi
}
request() { # ID TOKENS
    echo "{\"custom_id\":\"$1\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":\"abc $1\",\"max_tokens\":$2,\"ignore_eos\":true}}"
}
# CPU ticks that the ranks of the job with this output file have used.
ticks() { cat $(pgrep -f "polyreme batch .*$1" | sed 's|.*|/proc/&/stat|') 2>/dev/null |
    awk '/\(polyreme\)/ { sum += $14 + $15 } END { print sum + 0 }'; }

# ---- One process ----
for i in $(seq 400); do request "r$i" $((i > 1 ? 200 : 5)); done > "$work/long.jsonl"
stop_one() { # SIGNAL EXIT-CODE
    rm -f "$work/stop.jsonl"
    "$polyreme" batch "$model" -i "$work/long.jsonl" -o "$work/stop.jsonl" --journal off --log-level warn 2> "$work/err" &
    local pid=$!
    for _ in $(seq 200); do [ -s "$work/stop.jsonl" ] && break; sleep 0.05; done
    kill "-$1" "$pid"
    wait "$pid"
    local code=$?
    local lines whole
    lines=$(wc -l < "$work/stop.jsonl")
    whole=$(jq -c .custom_id "$work/stop.jsonl" 2> "$work/jq" | wc -l)
    verdict "SIG$1 stops one process" "$([ $code -eq "$2" ] && [ "$lines" -gt 0 ] && [ "$lines" -lt 400 ] && [ "$lines" = "$whole" ]; echo $?)" \
        "exit code $code, $lines whole lines of 400"
}
stop_one TERM 143
stop_one INT 130
stop_one USR1 138

# A model whose tokenizer comes through a pipe: loading lasts until it is written, and only then sees the signal.
mkdir "$work/slow"
ln -s "$model"/* "$work/slow"
rm "$work/slow/tokenizer.json"
mkfifo "$work/slow/tokenizer.json"
# Returns when the processes are so far that a signal no longer simply kills them.
await_handlers() { # PID...
    local pid mask
    for pid in "$@"; do
        for _ in $(seq 200); do
            mask=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$pid/status" 2> /dev/null)
            grep -qx polyreme "/proc/$pid/comm" 2> /dev/null && [ $((0x${mask:-0} & 0x200)) -ne 0 ] && break
            sleep 0.05
        done
    done
}
open_tokenizer() { timeout 20 cp "$model/tokenizer.json" "$work/slow/tokenizer.json"; }

SLURM_JOB_ID=1 "$polyreme" serve "$work/slow" --port 0 --endpoint-file "$work/endpoint" 2> "$work/err" &
job=$!
for _ in $(seq 100); do [ -e "$work/endpoint.key" ] && break; sleep 0.05; done
made=$([ -e "$work/endpoint.key" ] && echo made || echo none)
kill "$job"
open_tokenizer
wait "$job"
code=$?
verdict "SIGTERM while a server loads takes the key it made along" \
    "$([ $code -eq 0 ] && [ "$made" = made ] && [ ! -e "$work/endpoint.key" ]; echo $?)" "exit code $code, key $made"

"$polyreme" batch "$work/slow" -i "$work/long.jsonl" -o "$work/slow.jsonl" --journal off 2> "$work/err" &
job=$!
await_handlers "$job"
begin=$SECONDS
kill "$job"
sleep 0.1
kill "$job"
wait "$job"
code=$?
verdict "a second signal ends one that hangs while it loads" \
    "$([ $code -eq 143 ] && [ $((SECONDS - begin)) -le 3 ]; echo $?)" "exit code $code after $((SECONDS - begin)) s"
job=

many_ranks_or_end "$failures"

# ---- Idle: a pipe that says nothing for a while; three ranks, prefill and decode apart ----
mkfifo "$work/pipe"
mpirun -n 3 "$polyreme" batch "$model" -i - -o "$work/idle.jsonl" --journal off --prefill 1x1 --decode 1x2 \
    --log-level warn < "$work/pipe" &
job=$!
exec 9> "$work/pipe"
request first 8 >&9
for _ in $(seq 200); do [ -s "$work/idle.jsonl" ] && break; sleep 0.1; done
verdict "a request from a pipe is answered while the pipe stays open" "$([ -s "$work/idle.jsonl" ]; echo $?)" \
    "$(wc -l < "$work/idle.jsonl") line"
before=$(ticks "$work/idle.jsonl")
sleep 4
used=$(($(ticks "$work/idle.jsonl") - before))
# Three ranks over 4 s at 100 ticks a second could burn 1200; asleep they use a handful.
verdict "three idle ranks sleep" "$([ "$before" -gt 0 ] && [ "$used" -le 60 ]; echo $?)" "$used of 1200 ticks in 4 s"
request second 8 >&9
exec 9>&-
wait "$job"
verdict "end of input ends all ranks" "$?" "exit code 0, $(wc -l < "$work/idle.jsonl") lines"

# ---- A signal on any rank of several ----
pid_of() { # RANK|mpirun
    if [ "$1" = mpirun ]; then echo "$job"; else rank_pid "$1"; fi
}
start_ranks() { # RANKS FLAGS: a job that has answered something
    local ranks=$1
    shift
    rm -f "$work/many.jsonl"
    mpirun -n "$ranks" "$polyreme" batch "$model" -i "$work/long.jsonl" -o "$work/many.jsonl" --journal off "$@" \
        --log-level warn 2> "$work/err" &
    job=$!
    for _ in $(seq 200); do [ -s "$work/many.jsonl" ] && break; sleep 0.05; done
    pids=$(pgrep -P "$job")
}
stop_ranks() { # SIGNAL RANK|mpirun EXIT-CODE RANKS FLAGS
    local signal=$1 who=$2 expected=$3 lines
    shift 3
    start_ranks "$@"
    kill "-$signal" "$(pid_of "$who")"
    await_end 20
    lines=$(wc -l < "$work/many.jsonl")
    verdict "SIG$signal to $([ "$who" = mpirun ] || echo 'rank ')$who stops all of $1 ranks, ${*:2}" \
        "$([ "$code" = "$expected" ] && [ "$left" -eq 0 ] && ! grep -q ' ERROR ' "$work/err" &&
            grep -q "stopped by signal $(kill -l "$signal") " "$work/err" && [ "$lines" -lt 400 ] &&
            [ "$lines" = "$(jq -c .custom_id "$work/many.jsonl" | wc -l)" ]; echo $?)" \
        "exit code $code after $took s, $lines whole lines, $left ranks left"
}
stop_ranks TERM 0 143 2 --mixed 1x2
stop_ranks USR1 2 138 3 --prefill 1x2 --decode 1x1
stop_ranks INT 1 130 3 --mixed 1x3
stop_ranks USR1 mpirun 138 3 --mixed 1x3
# mpirun passes SIGTERM on and kills a second later: then the exit code is its own, and the answers are out.
stop_ranks TERM mpirun 1 2 --mixed 1x2

# With a journal the run is not stopped, but interrupted: it will go on.
mpirun -n 3 "$polyreme" batch "$model" -i "$work/long.jsonl" -o "$work/kept.jsonl" --mixed 1x3 --log-level warn 2> "$work/err" &
job=$!
for _ in $(seq 300); do [ "$(du -sb "$work/kept.jsonl.journal" 2> /dev/null | cut -f1)" -gt 20000 ] 2> /dev/null && break; sleep 0.05; done
pids=$(pgrep -P "$job")
kill -USR1 "$(pid_of 2)"
await_end 20
state=$(jq -r .state "$work/kept.jsonl.state")
verdict "SIGUSR1 to rank 2 of a batch with a journal: preempted, and no error" \
    "$([ "$code" = 0 ] && [ "$left" -eq 0 ] && [ "$state" = preempted ] && [ ! -s "$work/err" ]; echo $?)" \
    "exit code $code after $took s, state $state, $left ranks left"

# Rank 0 reads its tokenizer: the others are in the first stage's agreement, or wait for it there.
for who in 1 mpirun; do
    mpirun -n 3 "$polyreme" batch "$work/slow" -i "$work/long.jsonl" -o "$work/slow.jsonl" --journal off 2> "$work/err" &
    job=$!
    for _ in $(seq 200); do pids=$(pgrep -P "$job") && [ "$(wc -l <<< "$pids")" -eq 3 ] && break; sleep 0.05; done
    # shellcheck disable=SC2086
    await_handlers $pids
    kill -USR1 "$(pid_of "$who")"
    sleep 0.3  # mpirun passes it on
    open_tokenizer
    await_end 20
    verdict "SIGUSR1 to $([ "$who" = mpirun ] || echo 'rank ')$who while three ranks load" \
        "$([ "$code" = 138 ] && [ "$left" -eq 0 ] && ! grep -q ' ERROR ' "$work/err" &&
            [ "$(grep -c 'stopped by signal 10 before the run began' "$work/err")" -eq 1 ]; echo $?)" \
        "exit code $code after $took s, $left ranks left"
done

# Rank 1 waits for a rank that does not move: only its second signal ends it, and with it the job.
start_ranks 3 --mixed 1x3 --watchdog 0
kill -STOP "$(pid_of 2)"
sleep 0.3
first=$(pid_of 1)
kill -USR1 "$first"
sleep 0.3
alive=$(kill -0 "$first" 2> /dev/null && echo yes)
kill -USR1 "$first"
await_end 10
verdict "a second signal ends a rank that hangs, and the job" \
    "$([ "$alive" = yes ] && [ "$code" != 0 ] && [ "$code" != hangs ] && [ "$left" -eq 0 ] &&
        [ "$(wc -l < "$work/many.jsonl")" = "$(jq -c .custom_id "$work/many.jsonl" | wc -l)" ]; echo $?)" \
    "exit code $code after $took s, $left ranks left"

# A server without work: its ranks sleep.
mpirun -n 3 "$polyreme" serve "$model" --port 0 --endpoint-file "$work/endpoint" --prefill 1x1 --decode 1x2 \
    --log-level info > "$work/err" 2>&1 < /dev/null &
job=$!
for _ in $(seq 200); do [ -s "$work/endpoint" ] && break; sleep 0.05; done
pids=$(pgrep -P "$job")
sleep 0.3
kill -USR1 "$(pid_of 2)"
await_end 10
verdict "SIGUSR1 to rank 2 of an idle server ends it" \
    "$([ "$code" = 0 ] && [ "$left" -eq 0 ] && [ ! -e "$work/endpoint" ] && grep -q 'drained' "$work/err"; echo $?)" \
    "exit code $code after $took s, $left ranks left"
exit "$((failures > 0))"
