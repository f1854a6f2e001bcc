#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Idle ranks sleep; SIGTERM and SIGINT end every rank with whole result lines; end of input ends all.
# timeout: 120
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/tests/data/models/mixtral-tiny
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
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
for i in $(seq 400); do request "r$i" 200; done > "$work/long.jsonl"
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

# ---- SIGTERM to rank 0 of several ----
stop_ranks() { # RANKS FLAGS
    local ranks=$1 job code pid pids lines left
    shift
    rm -f "$work/many.jsonl"
    mpirun -n "$ranks" "$polyreme" batch "$model" -i "$work/long.jsonl" -o "$work/many.jsonl" --journal off "$@" \
        --log-level warn 2> "$work/err" &
    job=$!
    for _ in $(seq 200); do [ -s "$work/many.jsonl" ] && break; sleep 0.05; done
    pids=$(pgrep -P "$job")
    for pid in $pids; do
        tr '\0' '\n' < "/proc/$pid/environ" 2> /dev/null | grep -qx OMPI_COMM_WORLD_RANK=0 && kill -TERM "$pid"
    done
    wait "$job"
    code=$?
    for _ in $(seq 50); do  # mpirun may end a little before the ranks it has told to
        left=0
        for pid in $pids; do [ -e "/proc/$pid" ] && left=$((left + 1)); done
        [ "$left" -eq 0 ] && break
        sleep 0.1
    done
    lines=$(wc -l < "$work/many.jsonl")
    verdict "SIGTERM to rank 0 stops all of $ranks ranks, $*" \
        "$([ $code -eq 143 ] && [ "$left" -eq 0 ] && ! grep -q ' ERROR ' "$work/err" &&
            [ "$lines" = "$(jq -c .custom_id "$work/many.jsonl" | wc -l)" ]; echo $?)" \
        "exit code $code, $lines whole lines, $left ranks left"
}
stop_ranks 2 --mixed 1x2
stop_ranks 3 --prefill 1x2 --decode 1x1
exit "$((failures > 0))"
