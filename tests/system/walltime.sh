#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The end of the run's time: a batch leaves what cannot end by then, says so, and goes on later with the same
# bytes; a server refuses a long request, answers a short one, says that it drains, and ends by itself.
# timeout: 300
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/models/demo
work=$(mktemp -d)
server=
trap '[ -n "$server" ] && kill -9 "$server" 2> /dev/null; rm -rf "$work"' EXIT
failures=0
verdict() { # NAME CONDITION-STATUS DETAIL
    if [ "$2" -eq 0 ]; then echo "ok     $1: $3"; else echo "FAILED $1: $3"; failures=$((failures + 1)); fi
}

# ---- Batch: more than fits, some long and some short ----
for i in $(seq 240); do
    echo "{\"custom_id\":\"r$i\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":\"abc $i\",\"max_tokens\":$((i % 3 ? 250 : 20)),\"ignore_eos\":true}}"
done > "$work/in.jsonl"
batch() { # OUT OPTION...
    local out=$1
    shift
    "${ranks[@]}" "$polyreme" batch "$model" -i "$work/in.jsonl" -o "$out" "$@" 2> "$work/err"
}
ranks=()
batch "$work/whole.jsonl" --log-level warn
verdict "without a limit all is answered" "$?" "$(wc -l < "$work/whole.jsonl") lines"

have_many_ranks && ranks=(mpirun -n 2)
batch "$work/out.jsonl" --walltime 0:04 --walltime-reserve 1
code=$?
state=$(jq -r '"\(.state) \(.reason)"' "$work/out.jsonl.state")
answered=$(jq .answered "$work/out.jsonl.state")
word=$("$polyreme" batch --state "$work/out.jsonl")
verdict "a batch out of time ends in order" \
    "$([ $code -eq 0 ] && [ "$state" = "preempted walltime" ] && [ "$answered" -lt 240 ] && [ ! -e "$work/out.jsonl" ]; echo $?)" \
    "exit code $code, $state, $answered of 240 answered; $word"
line=$(grep -o 'walltime: [0-9]* requests of those read are left for the next job.*' "$work/err")
verdict "it says what is left" "$([ -n "$line" ]; echo $?)" "$line"
verdict "the state says when the job was to end and how long nothing ran before" \
    "$(jq -e '.end_unix_s > 1500000000 and .idle_tail_s >= 0 and .idle_tail_s < 6' "$work/out.jsonl.state" > "$work/jq"; echo $?)" \
    "$(jq -c '[.end_unix_s, .idle_tail_s]' "$work/out.jsonl.state")"

batch "$work/out.jsonl" --resume --log-level warn
code=$?
verdict "the next job goes on to the same bytes" "$([ $code -eq 0 ] && cmp -s "$work/whole.jsonl" "$work/out.jsonl"; echo $?)" \
    "exit code $code, $(wc -l < "$work/out.jsonl") lines"

"$polyreme" batch "$model" -i "$work/in.jsonl" -o "$work/plain.jsonl" --journal off --walltime 0:03 --walltime-reserve 1 2> "$work/err"
code=$?
lines=$(wc -l < "$work/plain.jsonl")
verdict "without a journal it keeps whole lines and says that it is not done" \
    "$([ $code -eq 7 ] && [ "$lines" -lt 240 ] && [ "$(jq -c .custom_id "$work/plain.jsonl" | wc -l)" = "$lines" ]; echo $?)" \
    "exit code $code, $lines lines"

# ---- A walltime that is none ----
"$polyreme" batch "$model" -i "$work/in.jsonl" -o "$work/none.jsonl" --walltime soon 2> "$work/err"
code=$?
verdict "a walltime that is none is refused" "$([ $code -eq 2 ] && grep -q "soon" "$work/err"; echo $?)" "exit code $code"

# ---- Serve ----
"$polyreme" serve "$model" --port 0 --endpoint-file "$work/endpoint.json" --walltime 0:25 --walltime-reserve 1 2> "$work/log" &
server=$!
for _ in $(seq 200); do [ -e "$work/endpoint.json" ] && break; sleep 0.05; done
url=$(jq -r .url "$work/endpoint.json")
ask() { # TOKENS CHOICES: the reply's head and body in $work/head and $work/body
    curl -s -D "$work/head" -o "$work/body" -w '%{http_code}' "$url/completions" -H 'Content-Type: application/json' \
        -d "{\"model\":\"demo\",\"prompt\":\"abc\",\"max_tokens\":$1,\"n\":$2,\"ignore_eos\":true}"
}
first=$(ask 8 1)
verdict "a server with time left answers" "$([ "$first" = 200 ]; echo $?)" "status $first"
# Each long one is answered in full, or refused at once.
cut=0 long=200
while [ "$long" = 200 ]; do
    long=$(ask 1900 8)
    [ "$long" = 200 ] && [ "$(jq -r '[.choices[].finish_reason] | unique | join(",")' "$work/body")" != length ] && cut=1
done
code=$(jq -r .error.code "$work/body")
retry=$(tr -d '\r' < "$work/head" | sed -n 's/^Retry-After: //Ip')
message=$(jq -r .error.message "$work/body")
verdict "a long request is refused when it cannot end in time" \
    "$([ "$long" = 503 ] && [ "$code" = rejected-walltime ] && [ "${retry:-0}" -ge 1 ] && [ $cut = 0 ]; echo $?)" \
    "status $long, code $code, Retry-After $retry: $message"
case $message in rejected-walltime*) reason=0 ;; *) reason=1 ;; esac
verdict "its reason begins with its name" $reason "${message:0:60}"
short=$(ask 1 1)
verdict "a short one is still answered" "$([ "$short" = 200 ]; echo $?)" "status $short"
for _ in $(seq 50); do  # they follow by and by
    metrics=$(curl -s "${url%/v1}/metrics")
    echo "$metrics" | grep -q '^polyreme_walltime_rejected_total [1-9]' && break
    sleep 0.1
done
verdict "metrics tell the time and who was refused" \
    "$(echo "$metrics" | grep -q '^polyreme_walltime_remaining_seconds [0-9]' && echo "$metrics" | grep -q '^polyreme_walltime_rejected_total [1-9]'; echo $?)" \
    "$(echo "$metrics" | grep '^polyreme_walltime' | tr '\n' ' ')"
for _ in $(seq 160); do  # when so little time is left that what is usual could not be begun
    health=$(curl -s "${url%/v1}/health")
    [ "$(echo "$health" | jq -r .state)" = draining ] && break
    sleep 0.1
done
there=$(jq -r '"\(.state) \(.end_unix_s)"' "$work/endpoint.json" 2> "$work/jq")
want="draining $(echo "$health" | jq .end_unix_s)"
verdict "health and endpoint file say that it drains, and until when" \
    "$([ "$there" = "$want" ] && [ "$(echo "$health" | jq -r .state)" = draining ]; echo $?)" "$health; $there"
wait "$server"
code=$?
server=
verdict "the server ends by itself and takes its file along" \
    "$([ $code -eq 0 ] && [ ! -e "$work/endpoint.json" ] && grep -q "drained: all replies are out" "$work/log"; echo $?)" "exit code $code"

[ $failures -eq 0 ] || { tail -5 "$work/err" "$work/log" 2> /dev/null; exit 1; }
