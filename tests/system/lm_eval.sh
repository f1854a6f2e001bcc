#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# EleutherAI's evaluation harness against one process and five ranks: a tiny task of choices (echo and logprobs of token
# lists) and one of continuations, equal to what the server says when asked directly, and equal on both.
# timeout: 900
# processors: 1
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
"$POLYREME_SOURCE/scripts/python_environment" "$POLYREME_BUILD/venv-lm-eval" \
    "$POLYREME_SOURCE/tests/requirements_lm_eval.txt" || exit
python=$POLYREME_BUILD/venv-lm-eval/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
export PYTHONDONTWRITEBYTECODE=1

evaluate() { # LAYOUT
    if ! "$python" "$POLYREME_SOURCE/tests/openai/lm_eval_run.py" "$1" "$work/$1" > "$work/log" 2>&1; then
        cat "$work/log"
        failures=$((failures + 1))
    fi
    tail -n 1 "$work/log"
}

evaluate one
many_ranks_or_end "$failures"
evaluate five
cmp "$work/one" "$work/five" || failures=$((failures + 1))
exit "$((failures > 0))"
