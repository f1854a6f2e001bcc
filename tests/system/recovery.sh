#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Under mpirun --enable-recovery a rank that is killed costs its group only: the same run answers every
# request, once, with the bytes of a run that nothing happened to. At 20 moments, in several layouts.
# "recovery.sh N SEED" takes N moments.
# timeout: 400
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
many_ranks_or_end 0
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/tests/data/models/mixtral-tiny
moments=${1:-20}
RANDOM=${2:-1}
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
requests=700
for i in $(seq $requests); do
    echo "{\"custom_id\":\"r$i\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":\"$(printf 'abc %.0s' $(seq $((i % 20))))r$i\",\"max_tokens\":$((40 + i % 120)),\"ignore_eos\":true,\"temperature\":0.7,\"seed\":$i}}"
done > "$work/in.jsonl"
"$polyreme" batch "$model" -i "$work/in.jsonl" -o "$work/whole.jsonl" > "$work/err" 2>&1
verdict "a run that nothing happens to" "$?" "$(wc -l < "$work/whole.jsonl") answers"

rank_pid() { # RANK
    local pid
    for pid in $(pgrep -P "$job"); do
        { tr '\0' '\n' < "/proc/$pid/environ"; } 2> /dev/null | grep -qx "OMPI_COMM_WORLD_RANK=$1" && echo "$pid"
    done
}
# Kills one rank other than 0 after a while; the run must not end, nor differ.
lose_one() { # RANKS DELAY-MS FLAGS...
    local ranks=$1 delay=$2 begin=$SECONDS hung= same lost
    shift 2
    rm -f "$work/out.jsonl"
    mpirun --enable-recovery -n "$ranks" "$polyreme" batch "$model" -i "$work/in.jsonl" -o "$work/out.jsonl" \
        --order completion --max-num-seqs 8 "$@" > "$work/err" 2>&1 &
    job=$!
    for _ in $(seq 300); do [ -s "$work/out.jsonl" ] && break; sleep 0.02; done
    sleep "$(printf '0.%03d' "$delay")"
    lost=$((1 + RANDOM % (ranks - 1)))
    kill -9 "$(rank_pid "$lost")" 2> /dev/null
    while kill -0 "$job" 2> /dev/null && [ $((SECONDS - begin)) -lt 40 ]; do sleep 0.05; done
    kill -0 "$job" 2> /dev/null && hung=", HANGS" && kill -9 $(pgrep -P "$job") "$job"
    wait "$job" 2> /dev/null
    job=
    same=$(sort "$work/out.jsonl" | comm -12 - <(sort "$work/whole.jsonl") | wc -l)
    [ -z "$hung" ] && [ "$same" -eq $requests ] && [ "$(wc -l < "$work/out.jsonl")" -eq $requests ] &&
        grep -q "recovery: rank $lost" "$work/err"
    verdict "$* without rank $lost" "$?" "$same of $requests answers the same$hung, $((SECONDS - begin)) s$(
        sed -n 's/.*recovery: /; /p' "$work/err" | tr -d '\n')"
}

layouts=("3 --mixed 3x1" "4 --mixed 2x2" "4 --prefill 2x1 --decode 2x1" "6 --prefill 2x1 --decode 2x2"
    "6 --prefill 2x2 --decode 2x1" "4 --mixed 2x2 --exchange messages")
for i in $(seq 0 $((moments - 1))); do
    # shellcheck disable=SC2086
    set -- ${layouts[$((i % ${#layouts[@]}))]}
    ranks=$1
    shift
    lose_one "$ranks" $((RANDOM % 600)) "$@"
done
exit "$((failures > 0))"
