#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# OpenAI's Python SDK, LangChain, and what vllm bench and guidellm send, against one process and against five ranks
# with prefill and decode apart; what the two answered is the same, byte for byte.
# timeout: 600
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
"$POLYREME_SOURCE/scripts/python_environment" "$POLYREME_BUILD/venv" || exit
python=$POLYREME_BUILD/venv/bin/python
suites=$POLYREME_SOURCE/tests/openai/run.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1

"$python" "$suites" one "$work/one"
failures=$?
many_ranks_or_end "$failures"
"$python" "$suites" five "$work/five"
failures=$((failures + $?))
if cmp "$work/one" "$work/five"; then
    echo "$(grep -ac '^-> ' "$work/one") requests and replies, the same bytes from one process and five ranks"
else
    diff -a "$work/one" "$work/five" | cut -c1-300 | head -n 20
    failures=$((failures + 1))
fi
exit "$((failures > 0))"
