#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What plan says of the ranks' places on a machine that is described to it, and the drawing, which is the one of
# docs/placement.md.
# timeout: 60
# processors: 1
set -u
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/models/demo
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
if ! "$polyreme" doctor | grep -q 'hwloc 2'; then
    echo "left out: all of it, without hwloc no machine can be described"
    exit 77
fi

check() { # name, condition's status
    if [ "$2" -eq 0 ]; then
        echo "ok     $1"
    else
        echo "FAILED $1"
        failures=$((failures + 1))
    fi
}

# says NAME TEXT ARGUMENTS...: plan prints the text, errors included.
says() {
    local name=$1 text=$2
    shift 2
    "$polyreme" plan "$@" > "$work/said" 2>&1
    grep -qE -- "$text" "$work/said"
    check "$name" $?
}

# holds NAME FILTER ARGUMENTS...: jq's filter is true of plan's JSON.
holds() {
    local name=$1 filter=$2
    shift 2
    "$polyreme" plan "$@" --json | jq -e "$filter" > /dev/null
    check "$name" $?
}

is_xml() {
    if command -v xmllint > /dev/null; then
        xmllint --noout "$1"
    else
        python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' "$1"
    fi
}

# The command of docs/placement.md.
shown=(models/demo --nodes 4 --nodes-per-switch 2 --ranks 16 --topology "numa:2 core:8 pu:1"
    --prefill 2x2:tp=2 --decode 2x6:tp=2)
cd "$POLYREME_SOURCE" || exit 1
says "plan says why the ranks have another order" \
    'groups under 4 switches in all instead of 5; handover distance 4 instead of 8' "${shown[@]}" --svg "$work/shown.svg"
says "and where each rank sits" '^ +2 +3 +1 +4 8-11 +14$' "${shown[@]}"
says "and where KV goes" 'KV of group 1 goes nearest to group 3: under one switch' "${shown[@]}"
cmp "$work/shown.svg" docs/images/placement.svg
check "the drawing is the one in docs/images" $?
is_xml "$work/shown.svg"
check "it is XML" $?
grep -qF 'polyreme plan models/demo --nodes 4 --nodes-per-switch 2 --ranks 16 --topology "numa:2 core:8 pu:1"' docs/placement.md
check "and the page has its command" $?

holds "the places as JSON" '.placement | .nodes == 4 and .switches == 2 and .reordered and
    .score.group_switches == 4 and .launcher_score.group_switches == 5 and
    .seats[2] == {"rank": 2, "node": 3, "numa": 1, "threads": 4, "cpus": "8-11", "launcher_rank": 14} and
    .handovers == [{"prefill_group": 0, "decode_group": 2, "distance": 1},
                   {"prefill_group": 1, "decode_group": 3, "distance": 1}]' "${shown[@]}"
holds "the launcher's order can be kept" '.placement | (.reordered | not) and
    ([.seats[].launcher_rank] == [range(16)])' "${shown[@]}" --rank-order launcher
holds "no rank's place is another's" '[.placement.seats[] | [.node, .cpus]] | unique | length == 16' "${shown[@]}"
holds "by default a rank for each NUMA domain of each node" '.ranks | length == 12' \
    "$model" --nodes 3 --topology "pack:2 numa:2 core:4 pu:2"
holds "memory that is described is divided among a node's ranks" \
    '.memory_bytes_per_rank | . > 14e9 and . < 16e9' "$model" --nodes 2 --topology "numa:2(memory=16GiB) core:4 pu:1"
says "a machine's devices need nodes" '64 ranks on 8 nodes, started node by node' "$model" --machine h100 --ranks 64 --mixed 8x8:tp=4
says "a lane that must cross nodes is counted" 'tp lanes across nodes: 1' \
    "$model" --nodes 2 --ranks 5 --dedicated-controller --mixed 1x4:tp=4 --svg "$work/split.svg"
grep -q 'class="split"' "$work/split.svg" && grep -q '>tp lane across nodes<' "$work/split.svg"
check "drawn and explained" $?
says "a text that describes no machine is refused" "'numma:2' does not describe a machine" "$model" --topology numma:2
says "fewer ranks than nodes are refused" '--nodes 3 with 2 ranks' "$model" --nodes 3 --ranks 2
says "a drawing that cannot be written is an error" 'cannot write the drawing /nowhere/x.svg' "$model" --svg /nowhere/x.svg
ln -s "$model" "$work/a<b>&\"c"
"$polyreme" plan "$work/a<b>&\"c" --nodes 2 --svg "$work/odd.svg" > /dev/null && is_xml "$work/odd.svg"
check "any name of a model gives XML" $?
"$polyreme" plan "$model" --machine mi300x --ranks 4096 --mixed 512x8:tp=4 --svg "$work/large.svg" > /dev/null &&
    is_xml "$work/large.svg" && grep -q 'the last 384 nodes are not drawn' "$work/large.svg"
check "a large machine is drawn in part" $?
exit "$((failures > 0))"
