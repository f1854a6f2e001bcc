#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Batches killed at random moments (kill -9 of a rank, of all, of mpirun; in start-up, in a write of the journal,
# while the output is put together; again after the resume) and resumed on other layouts: every answer once,
# the bytes of a run that nobody disturbed, nothing left. scripts/soak_kill is the same, longer.
# timeout: 900
set -u
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/models/demo
work=$(mktemp -d)
source "$POLYREME_SOURCE/tests/system/kill_runs"
many_ranks=false
have_many_ranks && many_ranks=true
failures=0
kill_runs_begin || { echo "FAILED: the run that nobody disturbs"; exit 1; }
for run in $(seq 20); do
    kill_run "$run" "$((run * 7919))" || failures=$((failures + 1))
done
kill_runs_end
kill_runs_table
rm -rf "$work"
many_ranks_or_end "$failures"
exit "$((failures > 0))"
