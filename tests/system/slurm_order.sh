#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Ranks that a real Slurm deals out block by block or round robin, over nodes under two switches: the same groups on
# the same nodes, each under one switch, with the bytes of one process.
# timeout: 180
# resource: slurm
set -u
# Which two nodes are under one switch is not what their numbers suggest.
if [ -z "${SLURM_TESTBED_DIR:-}" ]; then
    SLURM_TESTBED_TOPOLOGY=$(mktemp)
    export SLURM_TESTBED_TOPOLOGY
    printf 'SwitchName=left Nodes=n1,n3\nSwitchName=right Nodes=n2,n4\nSwitchName=top Switches=left,right\n' \
        > "$SLURM_TESTBED_TOPOLOGY"
    bash "$POLYREME_SOURCE/scripts/slurm_testbed" run bash "$0"
    code=$?
    rm -f "$SLURM_TESTBED_TOPOLOGY"
    exit "$code"
fi
source "$POLYREME_SOURCE/tests/system/slurm_nodes"
requests=$POLYREME_SOURCE/models/demo/requests.jsonl

"$polyreme" batch "$model" -i "$requests" -o one.jsonl < /dev/null > one.log 2>&1
verdict "one process answers" $? "$(wc -l < one.jsonl) lines"

# order NAME DISTRIBUTION FLAGS... -- PATTERN...: the log has a line for each pattern, and the bytes are the same.
order() {
    local name=$1 distribution=$2 flags=() log=$1.log missing=
    shift 2
    while [ "$1" != -- ]; do flags+=("$1") && shift; done
    shift
    srun --mpi=pmix -N4 -n8 --ntasks-per-node=2 -m "$distribution" "$polyreme" batch "$model" -i "$requests" -o "$name.jsonl" \
        "${flags[@]}" < /dev/null > "$log" 2>&1
    for pattern in "$@"; do
        grep -qE -- "$pattern" "$log" || missing="$missing no '$pattern'"
    done
    verdict "$name, $distribution" "$([ -z "$missing" ] && cmp -s one.jsonl "$name.jsonl"; echo $?)" \
        "${missing:-$(sed -n 's/.*rank order: //p' "$log")}"
}
pairs=(--mixed 2x4:tp=2)
order dealt cyclic "${pairs[@]}" -- '8 ranks on 4 nodes under 2 switches, reordered: tp lanes across nodes: 0 instead of 4' \
    'group 0 mixed, ranks 0 to 3: n1 n3, launched as 0 4 2 6' 'group 1 mixed, ranks 4 to 7: n2 n4, launched as 1 5 3 7'
order blocks block "${pairs[@]}" -- 'reordered: groups under 2 switches in all instead of 4' \
    'group 0 mixed, ranks 0 to 3: n1 n3, launched as 0 1 4 5' 'group 1 mixed, ranks 4 to 7: n2 n4, launched as 2 3 6 7'
order roles cyclic --prefill 2x2:tp=2 --decode 2x2 -- 'handover distance 4 instead of' 'group 0 prefill, ranks 0 to 1: n1' 'n3'
srun -N1 -n1 "$polyreme" doctor > doctor.log 2>&1
verdict "doctor names the switches" "$(grep -qE '^ok +switches +this node is under top\.(left|right);' doctor.log; echo $?)" \
    "$(grep switches doctor.log)"
exit "$((failures > 0))"
