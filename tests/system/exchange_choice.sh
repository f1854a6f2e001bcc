#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What the ranks of a group exchange through, and what the run says of it: shared memory on one node,
# messages when asked or when /dev/shm is too small. The answers are the same bytes.
# timeout: 120
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/tests/data/models/mixtral-tiny
requests=$POLYREME_SOURCE/tests/data/requests/layout_hash.jsonl
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
many_ranks_or_end 0

run() { # flags -> $work/log, its exit code and the hash of the answers
    rm -f "$work/out.jsonl"
    "${inside[@]}" mpirun -n 2 "$polyreme" batch "$model" -i "$requests" -o "$work/out.jsonl" \
        --trust-request-chat-template --max-model-len 192 --mixed 1x2 "$@" < /dev/null > "$work/log" 2>&1
    code=$?
    hash=$(sort "$work/out.jsonl" 2> /dev/null | sha256sum | cut -c1-16)
}

verdict() { # name condition-result
    if [ "$2" -eq 0 ]; then
        echo "ok     $1"
    else
        echo "FAILED $1"
        tail -n 5 "$work/log"
        failures=$((failures + 1))
    fi
}

says() { grep -q "$1" "$work/log"; }

inside=()
run
expected=$hash
verdict "ranks of one node take shared memory" "$([ $code -eq 0 ] && says 'exchange: shared memory$'; echo $?)"
run --exchange messages
verdict "messages when asked, with the same answers" \
    "$([ $code -eq 0 ] && says 'exchange: messages$' && [ "$hash" = "$expected" ]; echo $?)"
POLYREME_EXCHANGE=messages run
verdict "the environment chooses, too" "$(says 'exchange: messages$'; echo $?)"
run --exchange direct
verdict "direct is for GPUs, says one error" \
    "$([ $code -ne 0 ] && [ "$(grep -c 'ERROR.*exchange direct is between GPUs' "$work/log")" -eq 1 ]; echo $?)"

# 64 MiB is what containers get unless told otherwise; the batch makes the windows larger than that.
large=(--max-num-batched-tokens 100000)
# shellcheck disable=SC2016
inside=(unshare --user --map-root-user --mount sh -c 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"' -)
if ! "${inside[@]}" true 2> /dev/null; then
    echo "left out: a small /dev/shm (this system gives no mount namespace)"
    exit "$((failures > 0 ? 1 : 77))"
fi
run "${large[@]}"
verdict "a small /dev/shm leaves messages and one line that says so" \
    "$([ $code -eq 0 ] && [ "$hash" = "$expected" ] && [ "$(grep -c 'MiB of /dev/shm may be needed and' "$work/log")" -eq 1 ]
    echo $?)"
run "${large[@]}" --exchange shared
verdict "shared asked for, and a small /dev/shm: one error that says what to do" \
    "$([ $code -ne 0 ] && [ "$(grep -c 'ERROR.*cannot exchange through shared memory.*enlarge it' "$work/log")" -eq 1 ] &&
    [ "$(grep -c ERROR "$work/log")" -eq 1 ]; echo $?)"
exit "$((failures > 0))"
