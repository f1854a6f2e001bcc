#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A rank that is stopped or killed is named within seconds, with what the others wait for, and the job ends with
# an error and leaves nothing; a job that is stopped as a whole goes on.
# timeout: 180
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
source "$POLYREME_SOURCE/tests/system/job_ranks"
many_ranks_or_end 0
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/tests/data/models/mixtral-tiny
work=$(mktemp -d)
job=
trap '[ -n "$job" ] && kill -9 $(pgrep -P "$job") "$job" 2> /dev/null; rm -rf "$work"' EXIT
failures=0
verdict() { # NAME CONDITION-STATUS DETAIL
    if [ "$2" -eq 0 ]; then echo "ok     $1: $3"; else
        echo "FAILED $1: $3"
        sed 's/^/    /' "$work/err" | tail -n 25
        failures=$((failures + 1))
    fi
}
lines() { # COUNT, the first a short one
    for i in $(seq "$1"); do
        echo "{\"custom_id\":\"r$i\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":\"abc r$i\",\"max_tokens\":$((i > 1 ? 150 : 5)),\"ignore_eos\":true}}"
    done
}
lines 3000 > "$work/long.jsonl"
start() { # RANKS FLAGS: a job that has answered something
    local ranks=$1
    shift
    rm -f "$work/out.jsonl"
    mpirun -n "$ranks" "$polyreme" batch "$model" -i "${input:-$work/long.jsonl}" -o "$work/out.jsonl" \
        --journal off --order completion --log-level warn --watchdog 2 "$@" > "$work/err" 2>&1 &
    job=$!
    for _ in $(seq 300); do [ -s "$work/out.jsonl" ] && break; sleep 0.05; done
    pids=$(pgrep -P "$job")
}
# The job has ended with an error; the one line about it (of at most LINES) says PATTERN.
check_end() { # NAME PATTERN [LINES]
    local said
    said=$(grep -c ' ERROR ' "$work/err")
    [ "$code" != 0 ] && [ "$code" != hangs ] && [ "$left" -eq 0 ] && [ "$said" -ge 1 ] && [ "$said" -le "${3:-1}" ] &&
        grep ' ERROR ' "$work/err" | head -n 1 | grep -qE "$2"
    verdict "$1" "$?" "exit code $code after $took s, $left ranks left: $(
        grep ' ERROR ' "$work/err" | cut -d' ' -f3- | tr '\n' '|')"
}
stop_rank() { # NAME RANK PATTERN [LINES]
    kill -STOP "$(rank_pid "$2")"
    await_end 30
    check_end "$1" "$3" "${4:-1}"
}
experts='(expert (dispatch|combine) of layer [01], |group agreement, )plan [0-9]+ step [0-9]+'
tensors='((tensor reduce|expert (dispatch|combine)) of layer [01], |(tensor gather|group agreement), )plan [0-9]+ step [0-9]+'
counts='number [0-9]+; its last was [0-9]+, '
for exchange in messages shared; do
    start 3 --mixed 1x3 --exchange "$exchange"
    stop_rank "a stopped rank among experts, by $exchange" 2 \
        "rank 2 \(mixed group 0\) does not answer since 2\.[0-9] s: ranks 0, 1 wait for it since [12]\.[0-9] s in $experts \(their $counts"

    start 4 --mixed 1x4:tp=2 --exchange "$exchange"
    stop_rank "a stopped rank of a lane, by $exchange" 3 \
        "rank 3 \(mixed group 0\) does not answer since 2\.[0-9] s: ranks 0, 1, 2 wait for it since [12]\.[0-9] s in $tensors \(their $counts"
done

start 3 --prefill 1x1 --decode 1x2
stop_rank "a stopped decode rank" 2 "rank 2 \(decode group 1\) does not answer since 2\.[0-9] s: rank.* 1 wait"

# The launcher lets rank 0 go on when it ends the job: it may then miss the others.
start 3 --mixed 1x3
stop_rank "a stopped controller" 0 "rank 0 \(the controller\) does not answer since 2\.[0-9] s: this rank ends" 3

start 3 --mixed 1x3
kill -9 "$(rank_pid 1)"
await_end 20
check_end "a killed rank is named at once" 'rank 1 \(mixed group 0\) is lost'

# ---- With a journal ----
lines 400 > "$work/short.jsonl"
journalled() { # FLAGS
    mpirun -n 3 "$polyreme" batch "$model" -i "$work/short.jsonl" -o "$work/kept.jsonl" --mixed 1x3 --log-level warn \
        --watchdog 2 "$@" > "$work/err" 2>&1
}
journalled &
job=$!
for _ in $(seq 300); do [ "$(du -sb "$work/kept.jsonl.journal" 2> /dev/null | cut -f1)" -gt 20000 ] 2> /dev/null && break; sleep 0.05; done
mpi=$(pgrep -P "$job")
pids=$(pgrep -P "$mpi")
kill -STOP "$(rank_pid 1)"
await_end 30
check_end "a stopped rank of a batch with a journal" 'rank 1 \(mixed group 0\) does not answer since 2\.[0-9] s'
failed=$(jq -r .state "$work/kept.jsonl.state")
journalled --resume
resumed=$?
verdict "what it had done is kept, and the rest continues" \
    "$([ "$failed" = failed ] && [ "$resumed" = 0 ] && [ "$(jq -r .custom_id "$work/kept.jsonl" | sort -u | wc -l)" -eq 400 ] &&
        [ "$(wc -l < "$work/kept.jsonl")" -eq 400 ]; echo $?)" \
    "state $failed, then exit code $resumed, $(wc -l < "$work/kept.jsonl") of 400 answers"

# ---- While it loads: the model's tokenizer comes through a pipe that nobody writes ----
mkdir "$work/slow"
ln -s "$model"/* "$work/slow"
rm "$work/slow/tokenizer.json"
mkfifo "$work/slow/tokenizer.json"
mpirun -n 3 "$polyreme" batch "$work/slow" -i "$work/long.jsonl" -o "$work/slow.jsonl" --watchdog 2 > "$work/err" 2>&1 &
job=$!
for _ in $(seq 200); do
    pids=$(pgrep -P "$job")
    [ "$(cat /proc/[0-9]*/task/*/comm 2> /dev/null | grep -c watchdog)" -ge 3 ] && [ "$(wc -w <<< "$pids")" -eq 3 ] && break
    sleep 0.05
done
sleep 0.5
stop_rank "a rank that is stopped while the model loads" 2 \
    'rank 2 does not answer since 2\.[0-9] s: rank 1 waits for it since [12]\.[0-9] s in world gather'

# ---- A server ----
serve() {
    rm -f "$work/endpoint"
    mpirun -n 3 "$polyreme" serve "$model" --port 0 --endpoint-file "$work/endpoint" --mixed 1x3 --watchdog 2 \
        --log-level warn > "$work/err" 2>&1 < /dev/null &
    job=$!
    for _ in $(seq 200); do [ -s "$work/endpoint" ] && break; sleep 0.05; done
    pids=$(pgrep -P "$job")
}
serve
stop_rank "a stopped rank of an idle server" 1 \
    'rank 1 \(mixed group 0\) does not answer since 2\.[0-9] s: nobody waits for it'

serve
port=$(jq .port "$work/endpoint")
(
    body='{"prompt":"abc","n":32,"max_tokens":240,"ignore_eos":true,"stream":true}'
    exec 3<> "/dev/tcp/127.0.0.1/$port"
    printf 'POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s' ${#body} "$body" >&3
    cat <&3 > "$work/stream"
) 2> /dev/null &
client=$!
for _ in $(seq 100); do grep -q '^data: ' "$work/stream" 2> /dev/null && break; sleep 0.02; done
stop_rank "a stopped rank of a server that works" 2 \
    "rank 2 \(mixed group 0\) does not answer since 2\.[0-9] s: ranks 0, 1 wait for it since [12]\.[0-9] s in $experts"
wait "$client"
verdict "its clients are told" "$(grep -q '^data: {"error":.*rank 2 (mixed group 0) does not answer' "$work/stream"; echo $?)" \
    "$(grep -o '"message":"[^"]*"' "$work/stream" | head -n 1 | cut -c1-80)"

# ---- The whole job is stopped for longer than the limit ----
input=$work/short.jsonl start 3 --mixed 1x3
# shellcheck disable=SC2086
kill -STOP $pids
sleep 4
# shellcheck disable=SC2086
kill -CONT $pids
await_end 60
verdict "a job that is stopped as a whole goes on" \
    "$([ "$code" = 0 ] && [ "$(wc -l < "$work/out.jsonl")" -eq 400 ] && ! grep -qE ' (WARN|ERROR) ' "$work/err"; echo $?)" \
    "exit code $code, $(wc -l < "$work/out.jsonl") of 400 answers: $(grep -E ' (WARN|ERROR) ' "$work/err" | head -n 3)"
exit "$((failures > 0))"
