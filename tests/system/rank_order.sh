#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Several nodes on one machine: however the launcher numbers the ranks, tp lanes and groups end up on one node
# each, P and D sit under one switch, and the bytes are the same as on one process.
# timeout: 180
# processors: 1
set -u
source "$POLYREME_SOURCE/tests/system/many_ranks"
many_ranks_or_end 0
# Only Open MPI before 5 starts its daemons through plm_rsh_agent, and not every machine lets us name ours.
if ! mpirun --version | grep -qE 'Open MPI\) 4\.' || ! "$POLYREME_SOURCE/tests/system/fake_rsh" probe true; then
    echo "left out: several nodes on one machine (Open MPI is not 4, or there are no UTS namespaces)"
    exit 77
fi
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/models/demo
requests=$POLYREME_SOURCE/models/demo/requests.jsonl
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
# Each daemon says under which switch its node is, as slurmd would.
cat > "$work/rsh" <<RSH
#!/bin/sh
for word; do
    case \$word in
    node1 | node3) export SLURM_TOPOLOGY_ADDR=core.left.\$word SLURM_TOPOLOGY_ADDR_PATTERN=switch.switch.node ;;
    node2 | node4) export SLURM_TOPOLOGY_ADDR=core.right.\$word SLURM_TOPOLOGY_ADDR_PATTERN=switch.switch.node ;;
    esac
done
exec "$POLYREME_SOURCE/tests/system/fake_rsh" "\$@"
RSH
chmod +x "$work/rsh"

check() { # name, condition's status
    if [ "$2" -eq 0 ]; then
        echo "ok     $1"
    else
        echo "FAILED $1"
        failures=$((failures + 1))
        tail -n 25 "$work/log"
    fi
}

says() { # name, extended regular expression
    grep -qE -- "$2" "$work/log"
    check "$1" $?
}

same() {
    cmp -s "$work/one" "$work/out"
    check "$1: the bytes of one process" $?
}

# batch HOSTS RANKS MAP FLAGS...
batch() {
    local hosts=$1 ranks=$2 map=$3
    shift 3
    rm -f "$work/out"
    mpirun --mca plm_rsh_agent "$work/rsh" --host "$hosts" -n "$ranks" --map-by "$map" --bind-to none \
        "$polyreme" batch "$model" -i "$requests" -o "$work/out" "$@" < /dev/null > "$work/log" 2>&1
}

"$polyreme" batch "$model" -i "$requests" -o "$work/one" < /dev/null > "$work/log" 2>&1
check "one process answers" $?

batch node1:2,node2:2 4 node --mixed 2x2:tp=2 --log-level debug
says "ranks started round robin are reordered" \
    'rank order: 4 ranks on 2 nodes under 2 switches, reordered: tp lanes across nodes: 0 instead of 2; groups on 2 nodes in all instead of 4'
says "the first group is on one node" 'group 0 mixed, ranks 0 to 1: node1, launched as 0 2$'
says "the second on the other" 'group 1 mixed, ranks 2 to 3: node2, launched as 1 3$'
says "each rank can say which one it was" "rank 1 on node1 was the launcher's rank 2"
says "so both exchange through shared memory" 'exchange: shared memory$'
same "reordered"

batch node1:2,node2:2 4 node --mixed 2x2:tp=2 --rank-order launcher
says "the launcher's order can be kept" 'as launched, --rank-order auto would have: tp lanes across nodes: 0 instead of 2'
says "then groups lie across nodes" 'group 0 mixed, ranks 0 to 1: node1 node2$'
same "as launched"

batch node1:2,node2:2 4 slot --mixed 2x2:tp=2
says "ranks started node by node stay" 'rank order: 4 ranks on 2 nodes under 2 switches, as launched, none is better'
says "with the same groups on the same nodes" 'group 1 mixed, ranks 2 to 3: node2$'
same "node by node"

batch node1:3,node2:3 5 node --dedicated-controller --prefill 1x2:tp=2 --decode 1x2
says "a controller of its own stays rank 0" 'rank order: 5 ranks on 2 nodes under 2 switches, reordered: tp lanes across nodes: 0 instead of 1'
same "with a controller"

batch node1:1,node3:1,node2:1,node4:1 4 slot --prefill 2x1 --decode 2x1
says "each prefill group has a decode group under its own switch" \
    '4 ranks on 4 nodes under 2 switches, reordered: handover distance 4 instead of 8$'
says "the first pair under the left one" 'group 2 decode, rank 2: node3, launched as 1$'
says "the second under the right one" 'group 1 prefill, rank 1: node2, launched as 2$'
same "under two switches"

# A rank that stops is named by its new number, also by the watchdog, whose connections are older than that.
for i in $(seq 3000); do
    echo "{\"custom_id\":\"r$i\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":\"abc r$i\",\"max_tokens\":40,\"ignore_eos\":true}}"
done > "$work/long.jsonl"
rm -f "$work/out"
mpirun --mca plm_rsh_agent "$work/rsh" --host node1:2,node2:2 -n 4 --map-by node --bind-to none \
    "$polyreme" batch "$model" -i "$work/long.jsonl" -o "$work/out" --journal off --order completion \
    --mixed 2x2:tp=2 --max-num-seqs 4 --watchdog 4 --comm-timeout 30000 < /dev/null > "$work/log" 2>&1 &
job=$!
trap 'kill -9 "$job" 2> /dev/null; rm -rf "$work"' EXIT
for _ in $(seq 300); do
    [ -s "$work/out" ] && break
    sleep 0.1
done
for process in /proc/[0-9]*; do
    [ "$(readlink "$process/exe" 2> /dev/null)" = "$(readlink -f "$polyreme")" ] || continue
    words=$(tr '\0' '\n' < "$process/cmdline" 2> /dev/null)
    grep -qxF "$work/long.jsonl" <<< "$words" &&
        tr '\0' '\n' < "$process/environ" | grep -qx OMPI_COMM_WORLD_RANK=2 && kill -STOP "${process#/proc/}"
done
wait "$job"
check "a rank that stops ends the job" "$(($? == 0))"
says "and is named by its new number" 'ERROR .*rank 1 \(mixed group 0'
exit "$((failures > 0))"
