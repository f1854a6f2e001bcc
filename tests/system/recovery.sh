#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Under mpirun --enable-recovery a rank that is killed costs its group only, and a process is started in its
# place: the same run answers every request, once, with the bytes of a run that nothing happened to. At 20
# moments, in several layouts, with and without replacement; several times in one run; while it serves.
# "recovery.sh N SEED" takes N moments.
# timeout: 900
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
source "$POLYREME_SOURCE/tests/system/job_ranks"
many_ranks_or_end 0
polyreme=$POLYREME_BUILD/polyreme
load=$POLYREME_BUILD/benchmarks/load
model=$POLYREME_SOURCE/tests/data/models/mixtral-tiny
moments=${1:-20}
RANDOM=${2:-1}
work=$(mktemp -d)
job=
end_job() { # shellcheck disable=SC2046
    [ -z "$job" ] || kill -9 $(pgrep -P "$job") "$job" 2> /dev/null
}
trap 'end_job; rm -rf "$work"' EXIT
failures=0
verdict() { # NAME CONDITION-STATUS DETAIL
    if [ "$2" -eq 0 ]; then echo "ok     $1: $3"; else
        echo "FAILED $1: $3"
        sed 's/^/    /' "$work/err" | tail -n 25
        failures=$((failures + 1))
    fi
}
write_requests() { # NUMBER
    local i
    for i in $(seq "$1"); do
        echo "{\"custom_id\":\"r$i\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":\"$(
            printf 'abc %.0s' $(seq $((i % 20))))r$i\",\"max_tokens\":$((40 + i % 120)),\"ignore_eos\":true,\"temperature\":0.7,\"seed\":$i}}"
    done
}
answer_alone() { # NAME: what an undisturbed run says
    "$polyreme" batch "$model" -i "$work/$1.jsonl" -o "$work/$1.whole" > "$work/err" 2>&1
    verdict "a run that nothing happens to" "$?" "$(wc -l < "$work/$1.whole") answers"
}
start() { # NAME RANKS FLAGS...: until it has answered something
    local name=$1 ranks=$2
    shift 2
    rm -f "$work/out"
    mpirun --enable-recovery -n "$ranks" "$polyreme" batch "$model" -i "$work/$name.jsonl" -o "$work/out" \
        --journal off --order completion --max-num-seqs 8 "$@" > "$work/err" 2>&1 &
    job=$!
    for _ in $(seq 300); do [ -s "$work/out" ] && break; sleep 0.02; done
}
# Waits for the job's end; hung is empty if it came.
await_end() { # SECONDS
    local begin=$SECONDS
    hung=
    while kill -0 "$job" 2> /dev/null && [ $((SECONDS - begin)) -lt "$1" ]; do sleep 0.05; done
    kill -0 "$job" 2> /dev/null && hung=", HANGS" && end_job
    wait "$job" 2> /dev/null
    job=
}
check_answers() { # NAME
    same=$(sort "$work/out" | comm -12 - <(sort "$work/$1.whole") | wc -l)
    wanted=$(wc -l < "$work/$1.jsonl")
    [ -z "$hung" ] && [ "$same" -eq "$wanted" ] && [ "$(wc -l < "$work/out")" -eq "$wanted" ]
}
told() { sed -n 's/.*recovery: /; /p' "$work/err" | sed 's/ (rank [0-9]* [^)]*)//' | tr -d '\n'; }

# Kills one rank other than 0 after a while; the run must not end, nor differ.
lose_one() { # RANKS DELAY-MS FLAGS...
    local ranks=$1 delay=$2 lost
    shift 2
    start short "$ranks" "$@"
    sleep "$(printf '0.%03d' "$delay")"
    lost=$((1 + RANDOM % (ranks - 1)))
    kill -9 "$(rank_pid "$lost")" 2> /dev/null
    await_end 60
    check_answers short && grep -q "recovery: rank $lost" "$work/err"
    verdict "$* without rank $lost" "$?" "$same of $wanted answers the same$hung$(told)"
}
write_requests 700 > "$work/short.jsonl"
answer_alone short
layouts=("3 --mixed 3x1" "4 --mixed 2x2" "4 --prefill 2x1 --decode 2x1" "6 --prefill 2x1 --decode 2x2 --respawn off"
    "6 --prefill 2x2 --decode 2x1" "4 --mixed 2x2 --exchange messages --respawn off" "3 --mixed 3x1 --respawn off"
    "4 --prefill 2x1 --decode 2x1 --control tcp" "3 --mixed 2x1 --dedicated-controller")
for i in $(seq 0 $((moments - 1))); do
    # shellcheck disable=SC2086
    set -- ${layouts[$((i % ${#layouts[@]}))]}
    ranks=$1
    shift
    lose_one "$ranks" $((RANDOM % 500)) "$@"
done

# Ranks are lost again and again, replacements too; each group that loses one comes back before the next is lost.
lose_again() { # TIMES RANKS FLAGS...
    local times=$1 ranks=$2 begin lost back zero
    shift 2
    start long "$ranks" "$@"
    zero=$(rank_pid 0)
    for lost in $(seq "$times"); do
        # shellcheck disable=SC2046
        kill -9 $(pgrep -P "$job" | grep -vx "$zero" | shuf -n 1) 2> /dev/null
        begin=$SECONDS
        while kill -0 "$zero" 2> /dev/null && [ $((SECONDS - begin)) -lt 20 ]; do
            [ "$(grep -c 'recovery: .* is back' "$work/err")" -ge "$lost" ] && break
            sleep 0.05
        done
    done
    await_end 90
    back=$(grep -c 'recovery: .* is back' "$work/err")
    check_answers long && [ "$back" -eq "$times" ]
    verdict "$* after $times losses in a row" "$?" "$same of $wanted answers the same$hung, groups came back $back times"
}
write_requests 3200 > "$work/long.jsonl"
answer_alone long
lose_again 3 4 --mixed 2x2
lose_again 3 4 --prefill 2x1 --decode 2x1
lose_again 2 2 --mixed 1x2

# Who is served notices a pause, no more.
serve() { # COMMAND... : until the endpoint file is there
    rm -f "$work/endpoint.json"
    "$@" --port 0 --endpoint-file "$work/endpoint.json" > "$work/err" 2>&1 < /dev/null &
    job=$!
    for _ in $(seq 400); do [ -s "$work/endpoint.json" ] && break; sleep 0.05; done
}
stream() { "$load" streams "$work/endpoint.json" 60 tokens=400 reference="$work/reference" > "$work/rows" 2>> "$work/err"; }
demo=$POLYREME_SOURCE/models/demo
serve "$polyreme" serve "$demo"
stream
verdict "streams of one process" "$?" "are the reference"
kill "$(jq .pid "$work/endpoint.json")"
await_end 30
serve mpirun --enable-recovery -n 3 "$polyreme" serve "$demo" --mixed 3x1
stream &
client=$!
sleep 1
kill -9 "$(rank_pid 1)"
wait "$client"
code=$?
grep -q 'recovery: rank 1' "$work/err" || code=1
verdict "no client of a serving run sees that a rank is lost" "$code" "longest time between two tokens $(
    jq -r 'select(.measure == "itl_ms_max").value | floor' "$work/rows") ms$(told)"
kill "$(jq .pid "$work/endpoint.json")"
await_end 60
verdict "it ends in order after it" "$([ -z "$hung" ]; echo $?)" "${hung:-it ended}"
exit "$((failures > 0))"
