#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 600
# benchmarks/gpu/run.sh on the emulated back end with tiny shapes: every step runs, every row is there and well formed.
# Times mean nothing here, and none is looked at.
set -euo pipefail
if [[ ! -e $POLYREME_BUILD/polyreme_emulated.so ]]; then
    echo "left out: this build has no emulated back end (no C++ compiler)"
    exit 77
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
bash "$POLYREME_SOURCE/benchmarks/gpu/run.sh" --device emulated --small --build "$POLYREME_BUILD" --seconds 560 \
    --steps golden,layouts,memcheck,kernels,peers,dense,moe --results "$folder" || {
    tail -n 60 "$folder/gpu.log"
    exit 1
}
python3 - "$folder/gpu.json" << 'CHECK'
import collections, json, re, sys
record = json.load(open(sys.argv[1], encoding="utf-8"))
wrong = []
kinds = collections.Counter(re.match(r"[A-Za-z -]*[A-Za-z]", row["name"])[0] for row in record["rows"])
wanted = {"device copy": 1, "launch alone": 1, "launch in a graph": 1, "embed": 1, "rmsnorm with addend": 1, "add": 1,
          "gated": 1, "rope and KV write": 1, "topk": 1, "permute": 1, "pack": 4, "combine": 4, "KV gather": 2,
          "KV scatter": 2, "attention decode": 6, "attention prefill": 3, "matmul": 9, "experts": 6, "sample greedy": 1,
          "sample top-k": 1, "logprobs": 1, "dispatch and combine": 1, "decode": 2}
if kinds != collections.Counter(wanted):
    wrong.append(f"rows {dict(kinds)}, expected {wanted}")
for row in record["rows"]:
    for field in ("name", "unit", "ours", "peer", "limit", "fraction"):
        if field not in row:
            wrong.append(f"{row['name']}: no {field}")
    if not isinstance(row["ours"], (int, float)) or row["ours"] <= 0 or row["unit"] not in ("GB/s", "TFLOP/s", "us", "tokens/s"):
        wrong.append(f"{row['name']}: {row['ours']} {row['unit']}")
    if row["limit"] is not None and row["fraction"] is None:
        wrong.append(f"{row['name']}: a limit without a fraction")
    if row.get("small") is not True:
        wrong.append(f"{row['name']}: a tiny shape that does not say so")
checks = {check["check"]: check["ok"] for check in record["checks"]}
for name in ("golden texts", "golden logprobs", "layouts", "kernels"):
    if checks.get(name) is not True:
        wrong.append(f"check {name}: {checks.get(name)}")
if "left_out_memcheck" not in record["device"] or "left_out_peers" not in record["device"]:
    wrong.append("what was left out is not said")
print("\n".join(wrong) or f"{len(record['rows'])} rows and {len(checks)} checks are well formed")
sys.exit(bool(wrong))
CHECK
