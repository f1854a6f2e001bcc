#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Checks of the whole program on one device against what transformers computed (tests/data/golden), and that the
layout changes no byte.

    benchmarks/gpu/checks.py demo|tiny|layouts --polyreme PROGRAM --device NAME [--quick] [--mpirun PROGRAM]

demo     greedy text of the demo model equals transformers', in float32
tiny     log probabilities of every tiny model, each position, within the tolerance of tests/data/golden/README.md
layouts  one hash for each model: batch, chunk, cache, KV blocks; with --mpirun also tensor and expert parallel ones and
         those with prefill and decode apart, of several processes on the one GPU

One line for each check on standard output; exit code 1 if any failed. Needs only Python's standard library.
"""
import argparse
import hashlib
import json
import math
import os
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GOLDEN = os.path.join(ROOT, "tests/data/golden")
MODELS = os.path.join(ROOT, "tests/data/models")
REQUESTS = os.path.join(ROOT, "tests/data/requests")
# BF16: of the largest logit; others: absolute (tests/data/golden/README.md).
TOLERANCE = {"F32": 2e-4, "F16": 2e-4, "BF16": 2e-2}

ONE_RANK = [[], ["--max-num-batched-tokens", "16", "--max-num-seqs", "16"],
            ["--max-num-batched-tokens", "64", "--max-num-seqs", "4"],
            ["--max-num-batched-tokens", "256", "--no-enable-prefix-caching"],
            ["--kv-blocks", "12", "--max-num-seqs", "8"], ["--block-size", "32"], ["--shuffle-seed", "7"]]
MANY_RANKS = [(2, ["--mixed", "1x2"]), (2, ["--mixed", "1x2:tp=2"]), (4, ["--mixed", "1x4:tp=2"]),
              (2, ["--prefill", "1x1", "--decode", "1x1"]), (4, ["--mixed", "2x2:tp=2", "--no-enable-prefix-caching"]),
              (4, ["--prefill", "1x2:tp=2", "--decode", "1x2", "--kv-blocks", "12", "--max-num-seqs", "16"])]


class Checks:
    def __init__(self, args):
        self.args, self.failed, self.refused_bf16 = args, 0, False

    def say(self, good, text):
        print(f"{'ok' if good else 'FAILED'}  {text}", flush=True)
        self.failed += not good

    def batch(self, model, requests, out, flags, ranks=1):
        """Results by custom_id, or None with the last lines of the log."""
        launch = [self.args.mpirun, "-n", str(ranks)] if ranks > 1 else []
        done = subprocess.run(
            [*launch, self.args.polyreme, "batch", model, "-i", requests, "-o", out, "--device", self.args.device,
             "--log-level", "warn", *flags], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.refused_bf16 = "use --dtype float32" in done.stderr
        if done.returncode != 0:
            print(done.stderr[-2000:], file=sys.stderr)
            return None
        with open(out, encoding="utf-8") as lines:
            return {line["custom_id"]: line for line in map(json.loads, lines)}


# ---- demo ----


def check_demo(checks, work):
    requests = os.path.join(GOLDEN, "demo_requests.jsonl")
    with open(os.path.join(GOLDEN, "demo_expected.jsonl"), encoding="utf-8") as lines:
        expected = {line["custom_id"]: line["text"] for line in map(json.loads, lines)}
    if checks.args.quick:
        requests, expected = fewer(requests, expected, work)
    got = checks.batch(os.path.join(ROOT, "models/demo"), requests, os.path.join(work, "demo.jsonl"),
                       ["--dtype", "float32"])
    if got is None:
        return checks.say(False, "demo model: the program failed")
    texts = {name: got[name]["response"]["body"]["choices"][0]["text"] for name in expected}
    if checks.args.quick:
        expected = {name: text[:max(len(texts[name]), 1)] for name, text in expected.items()}
    same = sum(texts[name] == text for name, text in expected.items())
    checks.say(same == len(expected), f"demo model: {same} of {len(expected)} greedy texts equal transformers'")


def fewer(requests, expected, work):
    path = os.path.join(work, "few.jsonl")
    with open(requests, encoding="utf-8") as lines:
        few = [json.loads(line) for line in lines][:2]
    with open(path, "w", encoding="utf-8") as out:
        for request in few:
            request["body"]["max_tokens"] = 6
            out.write(json.dumps(request) + "\n")
    return path, {request["custom_id"]: expected[request["custom_id"]] for request in few}


# ---- tiny ----


def read_golden(path):
    """[(tokens, rows of logits)]"""
    with open(path, "rb") as file:
        data = file.read()
    if data[:8] != b"PRGOLD01":
        sys.exit(f"{path}: not a golden file")
    vocabulary, cases = struct.unpack_from("<II", data, 8)
    offset, out = 16, []
    for _ in range(cases):
        count = sum(struct.unpack_from("<II", data, offset))
        tokens = struct.unpack_from(f"<{count}i", data, offset + 8)
        offset += 8 + 4 * count
        rows = [struct.unpack_from(f"<{vocabulary}f", data, offset + 4 * vocabulary * i) for i in range(count)]
        offset += 4 * vocabulary * count
        out.append((list(tokens), rows))
    return out


def stored_type(model):
    with open(next(os.path.join(model, f) for f in sorted(os.listdir(model)) if f.endswith(".safetensors")), "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    return next(entry["dtype"] for name, entry in header.items() if name != "__metadata__")


def byte_tokenizer(vocabulary):
    """Enough of one: prompts are token numbers, and texts are not looked at."""
    letters, extra = {}, 0
    for byte in range(min(vocabulary, 256)):
        plain = 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or 0xAE <= byte
        letters[chr(byte if plain else 256 + extra)] = byte
        extra += not plain
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": r"\p{N}|\s+|[^\s\p{N}]+"}, "behavior": "Isolated",
                 "invert": False}, level]},
            "post_processor": level, "decoder": level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                      "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": letters, "merges": []}}


def with_tokenizer(model, vocabulary, work):
    if os.path.exists(os.path.join(model, "tokenizer.json")):
        return model
    folder = os.path.join(work, os.path.basename(model))
    os.mkdir(folder)
    for name in os.listdir(model):
        os.symlink(os.path.join(model, name), os.path.join(folder, name))
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as out:
        json.dump(byte_tokenizer(vocabulary), out)
    return folder


def worst_difference(tokens, rows, logprobs):
    """Largest error of the given tokens' and of the likeliest ones' log probabilities."""
    worst = 0.0
    for place in range(1, len(tokens)):
        row = rows[place - 1]
        top = max(row)
        total = top + math.log(sum(math.exp(x - top) for x in row))
        given = logprobs["token_logprobs"][place]
        likeliest = max(logprobs["top_logprobs"][place].values())
        worst = max(worst, abs(given - (row[tokens[place]] - total)), abs(likeliest - (top - total)))
    return worst


def check_model(checks, name, work):
    model, cases = os.path.join(MODELS, name), read_golden(os.path.join(GOLDEN, name + ".bin"))
    kind = stored_type(model)
    requests, out = os.path.join(work, name + ".jsonl"), os.path.join(work, name + ".out.jsonl")
    with open(requests, "w", encoding="utf-8") as file:
        for number, (tokens, _) in enumerate(cases):
            body = {"prompt": tokens, "max_tokens": 1, "temperature": 0, "ignore_eos": True, "echo": True, "logprobs": 1}
            file.write(json.dumps({"custom_id": str(number), "method": "POST", "url": "/v1/completions",
                                   "body": body}) + "\n")
    folder, how = with_tokenizer(model, len(cases[0][1][0]), work), ""
    got = checks.batch(folder, requests, out, ["--kv-cache-dtype", "float32"])
    if got is None and checks.refused_bf16:
        how = ", as float32: its slices do not fit the device's tiles"
        got = checks.batch(folder, requests, out, ["--kv-cache-dtype", "float32", "--dtype", "float32"])
    if got is None:
        return checks.say(False, f"{name}: the program failed")
    worst = max(worst_difference(tokens, rows, got[str(number)]["response"]["body"]["choices"][0]["logprobs"])
                for number, (tokens, rows) in enumerate(cases))
    largest = max(abs(x) for _, rows in cases for row in rows for x in row)
    allowed = TOLERANCE[kind] * (largest if kind == "BF16" else 1)
    return checks.say(worst <= allowed, f"{name} ({kind}{how}): log probabilities within {worst:.2g}, allowed {allowed:.2g}")


def check_tiny(checks, work):
    names = sorted(name[:-4] for name in os.listdir(GOLDEN) if name.endswith(".bin"))
    for name in names[::6] if checks.args.quick else names:
        check_model(checks, name, work)


# ---- layouts ----


def hash_of(results):
    return hashlib.sha256("\n".join(json.dumps(results[name], sort_keys=True)
                                    for name in sorted(results)).encode()).hexdigest()[:16]


def check_layouts_of(checks, name, model, requests, work):
    rows = [(1, flags) for flags in (ONE_RANK[:3] if checks.args.quick else ONE_RANK)]
    # Processes that share a GPU wait for each other's turns: tiny models only.
    if checks.args.mpirun and name != "demo":
        rows += MANY_RANKS
    first, differ = None, []
    for ranks, flags in rows:
        out = os.path.join(work, "layout.jsonl")
        for old in (out, out + ".journal", out + ".state"):
            subprocess.run(["rm", "-rf", old], check=True)
        results = checks.batch(model, requests, out,
                               ["--trust-request-chat-template", "--max-model-len", "192", *flags], ranks)
        value = hash_of(results) if results else "failed"
        first = first or value
        if value != first or value == "failed":
            differ.append(f"{ranks} {' '.join(flags)}: {value}")
    checks.say(not differ, f"{name}: one hash {first} on {len(rows) - len(differ)} of {len(rows)} layouts"
               + "".join("\n        " + line for line in differ))


def check_layouts(checks, work):
    requests = os.path.join(REQUESTS, "layout_hash.jsonl")
    models = {"mixtral-tiny": os.path.join(MODELS, "mixtral-tiny"), "llama-tiny": os.path.join(MODELS, "llama-tiny"),
              "demo": os.path.join(ROOT, "models/demo")}
    if checks.args.quick:
        path = os.path.join(work, "few_layouts.jsonl")
        with open(requests, encoding="utf-8") as lines, open(path, "w", encoding="utf-8") as out:
            out.writelines(line for number, line in enumerate(lines) if number < 6)
        requests, models = path, {"mixtral-tiny": models["mixtral-tiny"]}
    for name, model in models.items():
        check_layouts_of(checks, name, model, requests, work)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["demo", "tiny", "layouts"])
    parser.add_argument("--polyreme", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--mpirun", help="also layouts of several processes")
    parser.add_argument("--quick", action="store_true", help="a few of them")
    args = parser.parse_args()
    checks = Checks(args)
    with tempfile.TemporaryDirectory() as work:
        {"demo": check_demo, "tiny": check_tiny, "layouts": check_layouts}[args.what](checks, work)
    sys.exit(1 if checks.failed else 0)


main()
