#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The life of a serving run: loading, ready, draining, gone; what its clients and its endpoint file see of each, and
# what a lost rank, a second signal, a taken port and a batch system change.
# timeout: 180
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
source "$POLYREME_SOURCE/tests/system/job_ranks"
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/models/demo
work=$(mktemp -d)
job=
trap '[ -n "$job" ] && kill -9 $(pgrep -P "$job") "$job" 2> /dev/null; rm -rf "$work"' EXIT
failures=0
verdict() { # NAME CONDITION-STATUS DETAIL
    if [ "$2" -eq 0 ]; then echo "ok     $1: $3"; else
        echo "FAILED $1: $3"
        tail -n 25 "$work/log" | sed 's/^/    /'
        failures=$((failures + 1))
    fi
}

# ---- A client ----

# Prints the whole reply, head and all; nothing if nobody answers.
http() ( # METHOD PATH [BODY [FIELD]]
    body=${3:-}
    exec 3<> "/dev/tcp/127.0.0.1/$port"
    printf '%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\nContent-Length: %d\r\n\r\n%s' \
        "$1" "$2" "${4:-X-None: 0}" "${#body}" "$body" >&3
    cat <&3
) 2> /dev/null
code_of() { head -n 1 | cut -d' ' -f2; }
# A stream of N choices of TOKENS tokens, into a file; it has begun when this returns.
begin_stream() { # FILE N TOKENS
    rm -f "$1"  # what an earlier stream left must not pass for this one's begin
    http POST /v1/completions \
        "{\"prompt\":\"And he went\",\"n\":$2,\"max_tokens\":$3,\"ignore_eos\":true,\"stream\":true}" > "$1" &
    stream=$!
    for _ in $(seq 100); do grep -q '^data: ' "$1" 2> /dev/null && break; sleep 0.05; done
}
ends_of() { grep -c '"finish_reason":"length"' "$1"; }
is_done() { grep -q '^data: \[DONE\]' "$1"; }

# ---- A server ----

file=$work/endpoint.json
# Started when the endpoint file is there.
await_ready() {
    for _ in $(seq 200); do [ -s "$file" ] && break; sleep 0.05; done
    port=$(jq .port "$file") pid=$(jq .pid "$file")
}
serve_one() { # FLAGS
    "$polyreme" serve "$model" --port 0 --endpoint-file "$file" --log-level info "$@" > "$work/log" 2>&1 &
    job=$!
    await_ready
}
serve_three() { # MPIRUN-FLAGS -- FLAGS
    local launch=()
    while [ "$1" != -- ]; do launch+=("$1") && shift; done
    shift
    mpirun "${launch[@]}" -n 3 "$polyreme" serve "$model" --port 0 --endpoint-file "$file" --prefill 1x1 \
        --decode 1x2 --log-level info "$@" > "$work/log" 2>&1 < /dev/null &
    job=$!
    await_ready
    pids=$(pgrep -P "$job")
}
await_end() { # SECONDS; sets code and took
    local begin=$SECONDS
    while kill -0 "$job" 2> /dev/null && [ $((SECONDS - begin)) -lt "$1" ]; do sleep 0.1; done
    took=$((SECONDS - begin))
    kill -0 "$job" 2> /dev/null && { kill -9 $(pgrep -P "$job") "$job"; wait "$job" 2> /dev/null; code=hangs; job=; return; }
    wait "$job" 2> /dev/null
    code=$?
    job=
}
await_draining() {
    state=none
    for _ in $(seq 100); do
        state=$(jq -r .state "$file" 2> /dev/null)
        [ "$state" = draining ] && break
        sleep 0.02
    done
}

# What a run that is told to end owes to its clients; the run itself has been told by now.
check_drain() { # NAME
    await_draining
    local refusal
    refusal=$(http POST /v1/completions '{"prompt":"a","max_tokens":1}')
    wait "$stream"
    await_end 20
    grep -q '^Retry-After: ' <<< "$refusal"
    local retry=$?
    verdict "$1" "$([ "$state" = draining ] && [ "$(code_of <<< "$refusal")" = 503 ] && [ $retry -eq 0 ] &&
        [ "$(ends_of "$work/stream")" -eq 4 ] && is_done "$work/stream" && [ "$code" = 0 ] && [ ! -e "$file" ]; echo $?)" \
        "state $state, new requests $(code_of <<< "$refusal"), $(ends_of "$work/stream") of 4 choices ended, exit code $code"
}

# ---- One process ----

serve_one
begin_stream "$work/stream" 4 1500
kill "$pid"
check_drain "SIGTERM: streams finish, new requests get 503, exit code 0"

serve_one
begin_stream "$work/stream" 4 1500
http POST /v1/polyreme/drain > "$work/reply"
check_drain "POST /v1/polyreme/drain says and does the same"

serve_one --drain-timeout 1
begin_stream "$work/stream" 32 1900
kill "$pid"
wait "$stream"
await_end 20
verdict "--drain-timeout cuts a stream with an error and its end" \
    "$(grep -q '^data: {"error":.*--drain-timeout' "$work/stream" && is_done "$work/stream" && [ "$code" = 0 ] &&
        [ ! -e "$file" ]; echo $?)" "exit code $code after $took s"

serve_one
begin_stream "$work/stream" 32 1900
kill "$pid"
await_draining
kill "$pid"
await_end 5
wait "$stream"
verdict "a second signal ends at once" "$([ "$code" = 143 ] && [ "$took" -le 2 ]; echo $?)" "exit code $code after $took s"
rm -f "$file"

# The model's tokenizer comes through a pipe, so that loading lasts until it is written.
mkdir "$work/slow"
ln -s "$model"/* "$work/slow"
rm "$work/slow/tokenizer.json"
mkfifo "$work/slow/tokenizer.json"
"$polyreme" serve "$work/slow" --port "$port" --endpoint-file "$file" > "$work/log" 2>&1 &
job=$!
for _ in $(seq 100); do loading=$(http GET /v1/models | code_of); [ -n "$loading" ] && break; sleep 0.05; done
health=$(http GET /health | code_of)
early=$([ -e "$file" ] && echo there || echo absent)
cat "$model/tokenizer.json" > "$work/slow/tokenizer.json"
await_ready
ready=$(http GET /v1/models | code_of)
verdict "while the model is loaded /health says 200 and /v1/models 503" \
    "$([ "$loading $health $early $ready" = "503 200 absent 200" ]; echo $?)" \
    "loading: /v1/models $loading, /health $health, endpoint file $early; ready: /v1/models $ready"

"$polyreme" serve "$model" --port "$port" > "$work/second" 2>&1
second=$?
verdict "a port in use is one clear line" \
    "$([ $second -eq 6 ] && [ "$(wc -l < "$work/second")" -eq 1 ] && grep -q 'in use: choose another with --port' "$work/second"; echo $?)" \
    "exit code $second: $(head -n 1 "$work/second")"
kill "$pid"
await_end 10

SLURM_JOB_ID=1 serve_one
key_file=$(jq -r .api_key_file "$file")
mode=$(stat -c %a "$key_file" 2> /dev/null)
without=$(http GET /v1/models | code_of)
with=$(http GET /v1/models '' "Authorization: Bearer $(cat "$key_file")" | code_of)
echo 'Who was Saul?' | "$polyreme" chat --endpoint-file "$file" --max-tokens 4 > "$work/chat" 2>> "$work/log"
chat=$?
kill "$pid"
await_end 10
verdict "under a batch system a key is made and needed" \
    "$([ "$mode $without $with $chat $code" = "600 401 200 0 0" ] && [ ! -e "$key_file" ]; echo $?)" \
    "mode $mode; without it $without, with it $with, chat's exit code $chat"

# ---- Three ranks, prefill and decode apart ----

many_ranks_or_end "$failures"

serve_three --
begin_stream "$work/stream" 4 600
kill "$pid"
check_drain "SIGTERM to rank 0 of three: the same"

serve_three --
begin_stream "$work/stream" 4 600
kill -USR1 "$job"
check_drain "SIGUSR1 to mpirun: the same"

serve_three --enable-recovery -- --respawn off
begin_stream "$work/stream" 32 1900
kill -9 "$(rank_pid 2)"
wait "$stream"
for _ in $(seq 50); do [ -e "$file" ] || break; sleep 0.1; done
await_end 20
verdict "a lost rank: open streams get an error, the endpoint file goes" \
    "$(grep -q '^data: {"error":.*rank 2' "$work/stream" && is_done "$work/stream" && [ ! -e "$file" ]; echo $?)" \
    "$(grep -o '"message":"[^"]*"' "$work/stream" | head -n 1)"
rm -f "$file"

serve_three --
kill -9 "$(rank_pid 1)"
await_end 20
verdict "a lost rank: the exit code says so" "$([ "$code" != 0 ] && [ "$code" != hangs ]; echo $?)" "exit code $code"
exit "$((failures > 0))"
