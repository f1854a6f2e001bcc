#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# After warm-up a step of the worker thread allocates nothing, locks nothing and makes no system call.
# timeout: 300
# Two decode runs that differ by 1,000 steps, each on one plan: what the longer has more is theirs. A team of
# threads must not have gone to sleep between steps either: waking one is a sem_post and a system call. Only
# sched_yield is not counted: it is what a thread does that waits for one that the system does not run.
set -u
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/models/demo
counter=$POLYREME_BUILD/tests/count_calls.so
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

if [ ! -f "$counter" ]; then
    echo "skipped: no count_calls.so in this build (sanitizers count allocations of their own)"
    exit 77
fi

request() { # tokens
    local id
    for id in a b; do
        printf '{"custom_id":"%s","method":"POST","url":"/v1/completions","body":{"prompt":"In the beginning","max_tokens":%d,"temperature":0.8,"seed":1,"ignore_eos":true}}\n' \
            "$id" "$1"
    done
}
for tokens in 64 1064; do
    request "$tokens" > "$work/in.$tokens"
done

# batch TOKENS THREADS [COMMAND...]: one run, under the command.
batch() {
    local tokens=$1 threads=$2
    shift 2
    rm -rf "$work/out"*  # a start that finds an earlier output does more
    "$@" "$polyreme" batch "$model" -i "$work/in.$tokens" -o "$work/out" --lease-steps 4096 --threads "$threads" \
        --max-model-len 1200 < /dev/null > "$work/log" 2>&1 && [ "$(grep -c '"status_code":200' "$work/out")" -eq 2 ] &&
        return 0
    tail -n 5 "$work/log"
    return 1
}

# judge NAME MORE ALLOWED: how many calls of a kind a thousand steps made.
judge() {
    if [ "$2" -le "$3" ]; then
        echo "ok     $1: $2 in 1000 steps"
    else
        echo "FAILED $1: $2 in 1000 steps"
        failures=$((failures + 1))
    fi
}

# The number behind a call's name, of all threads with a name.
calls() { # file thread call
    sed -n "s/^$2:.* $3 \([0-9]*\).*/\1/p" "$1" | awk '{ sum += $1 } END { print sum + 0 }'
}

# How many more calls of one kind the longer of two runs made, on all threads of a name.
more_calls() { # thread call
    echo $(($(calls "$work/calls.1064" "$1" "$2") - $(calls "$work/calls.64" "$1" "$2")))
}

# Another process on our cores for longer than a thread spins or naps costs a call, once in a while; a step
# that needs one would show a thousand. So the quietest of a few tries counts.
TRIES=5 MOST=100

for threads in 1 2; do
    least=1000000
    for ((try = 0; try < TRIES && least > MOST; try++)); do
        for tokens in 64 1064; do
            batch "$tokens" "$threads" env LD_PRELOAD="$counter" COUNT_CALLS_FILE="$work/calls.$tokens" || exit 1
        done
        posts=$(more_calls worker sem_post)
        [ "$posts" -ge "$least" ] || least=$posts
    done
    for call in malloc calloc realloc free aligned mutex_lock; do
        for thread in worker kernels; do
            judge "$call on the $thread thread, $threads threads" "$(more_calls "$thread" "$call")" 0
        done
    done
    judge "sem_post, $threads threads" "$least" "$MOST"
    [ "$(calls "$work/calls.64" worker malloc)" -gt 100 ] || { echo "FAILED nothing was counted"; failures=$((failures + 1)); }
done

# System calls of the main thread, by strace.
if ! command -v strace > /dev/null || ! strace -o /dev/null true 2> /dev/null; then
    echo "skipped: strace is missing, or tracing is not allowed here; allocations and locks were checked"
    exit $((failures > 0 ? 1 : 77))
fi
for threads in 1 2; do
    least=1000000
    for ((try = 0; try < TRIES && least > MOST; try++)); do
        for tokens in 64 1064; do
            rm -f "$work/trace".*
            batch "$tokens" "$threads" strace -ff -qq -o "$work/trace" || exit 1
            # The main thread is the one that read the model.
            main=$(grep -l 'config\.json' "$work/trace".* | head -n 1)
            grep -v -e '^sched_yield' "$main" | sed 's/(.*//' | sort > "$work/system.$tokens"
        done
        more=$(($(wc -l < "$work/system.1064") - $(wc -l < "$work/system.64")))
        more=${more#-}  # a start differs from the next by a few calls
        [ "$more" -ge "$least" ] || least=$more
    done
    judge "system calls of the worker thread, $threads threads" "$least" "$MOST"
    [ "$least" -le "$MOST" ] || diff <(uniq -c "$work/system.64") <(uniq -c "$work/system.1064")
    [ "$(wc -l < "$work/system.64")" -gt 100 ] || { echo "FAILED nothing was traced"; failures=$((failures + 1)); }
done
exit "$((failures > 0))"
