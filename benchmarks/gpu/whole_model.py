#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Decode rates of the whole program (polyreme batch) on one device, one JSON line a row.

    benchmarks/gpu/whole_model.py --polyreme PROGRAM --device NAME --model FOLDER --name NAME --out FILE
        [--sequences 1] [--prompt 16] [--tokens 512] [--target TOKENS_PER_S]
        [--fewer FOLDER --layers N]

The rate is the program's own: output tokens by the seconds from the first request to the last, start-up left out,
prompts of --prompt tokens included. With --fewer, a model of fewer layers with the same rest, the time of a token is
carried on to --layers layers along the line through both; the row says so. Needs Python's standard library only.
"""
import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile

SUMMARY = re.compile(r"(\d+) requests answered .*?, (\d+) refused in ([0-9.]+) s: .*? (\d+) output tokens, ([0-9.]+) tokens/s")


def write_requests(path, args, vocabulary):
    draw = random.Random(1)
    with open(path, "w", encoding="utf-8") as out:
        for number in range(args.sequences):
            prompt = [draw.randrange(1, vocabulary - 1) for _ in range(args.prompt)]
            body = {"prompt": prompt, "max_tokens": args.tokens, "ignore_eos": True, "temperature": 0}
            out.write(json.dumps({"custom_id": str(number), "method": "POST", "url": "/v1/completions",
                                  "body": body}) + "\n")


def config_of(model):
    with open(os.path.join(model, "config.json"), encoding="utf-8") as file:
        return json.load(file)


def measure(args, model):
    """Tokens per second."""
    with tempfile.TemporaryDirectory() as work:
        requests = os.path.join(work, "requests.jsonl")
        write_requests(requests, args, config_of(model)["vocab_size"])
        length = -(-(args.prompt + args.tokens + 16) // 64) * 64
        done = subprocess.run(
            [args.polyreme, "batch", model, "-i", requests, "-o", os.path.join(work, "out.jsonl"), "--device", args.device,
             "--max-model-len", str(length), "--max-num-seqs", str(args.sequences), "--no-enable-prefix-caching"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True)
    print(done.stderr, file=sys.stderr)
    found = SUMMARY.search(done.stderr)
    if done.returncode != 0 or not found or int(found[1]) != args.sequences or int(found[2]) != 0:
        sys.exit(f"whole_model: {model}: the program failed, its words are above")
    return float(found[5])


def step_cost(config, sequences, layers, context):
    """(bytes, operations) that one decode step of so many sequences needs at least, each at `context` positions."""
    hidden = config["hidden_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    attention = hidden * (2 * queries + 2 * keys)
    experts = config.get("num_experts") or config.get("num_local_experts")
    if experts:
        chosen = config["num_experts_per_tok"]
        matrix = 3 * hidden * (config.get("moe_intermediate_size") or config["intermediate_size"])
        read = experts * (1 - (1 - chosen / experts) ** sequences) * matrix + experts * hidden
        used = chosen * matrix + experts * hidden
    else:
        read = used = 3 * hidden * config["intermediate_size"]
    output = hidden * config["vocab_size"]
    weights, kv = layers * (attention + read) + output, layers * 2 * keys * context * sequences
    operations = 2 * sequences * (layers * (attention + used) + output)
    return 2 * (weights + kv), operations + sequences * layers * 4 * queries * context


def row_of(args, config, layers, rate):
    step_bytes, operations = step_cost(config, args.sequences, layers, args.prompt + args.tokens / 2)
    return {"name": f"decode {args.sequences} x {args.name}", "unit": "tokens/s", "ours": rate, "peer": None,
            "limit": None, "fraction": None, "limited_by": "step", "target": args.target, "layers": layers,
            "sequences": args.sequences, "step_bytes": step_bytes, "step_operations": operations, "small": args.small}


def carry_on(args, config, layers, rate):
    """The row of all layers: seconds of a token grow with the layers along a line."""
    fewer = config_of(args.fewer)["num_hidden_layers"]
    rate_of_fewer = measure(args, args.fewer)
    layer_seconds = (1 / rate - 1 / rate_of_fewer) / (layers - fewer)
    row = row_of(args, config, args.layers, 1 / (1 / rate + layer_seconds * (args.layers - layers)))
    row["name"] += ", extrapolated"
    row["extrapolated"] = {"to_layers": args.layers, "from": [
        {"layers": fewer, "tokens_per_second": rate_of_fewer}, {"layers": layers, "tokens_per_second": rate}]}
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("polyreme", "device", "model", "name", "out"):
        parser.add_argument("--" + name, required=True)
    for name, value in (("sequences", 1), ("prompt", 16), ("tokens", 512), ("layers", 0)):
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--target", type=float)
    parser.add_argument("--fewer")
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    config = config_of(args.model)
    layers, rate = config["num_hidden_layers"], measure(args, args.model)
    rows = [row_of(args, config, layers, rate)]
    if args.fewer and args.layers > layers:
        rows[0]["name"] += f", {layers} layers"
        rows[0]["target"] = None
        rows.append(carry_on(args, config, layers, rate))
    with open(args.out, "a", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)
    for row in rows:
        print(f"{row['name']}: {row['ours']:.1f} tokens/s", flush=True)


main()
