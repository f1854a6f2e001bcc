#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The other side of gpu_bench's and whole_model.py's rows: the same shapes by PyTorch, the same weights by transformers
with scaled-dot-product attention, on the same GPU. One JSON line {name, unit, peer} each.

    benchmarks/gpu/peer.py limits --out FILE                  device copy, dense matmul (what rows are held against)
    benchmarks/gpu/peer.py kernels --rows FILE --out FILE     each row of gpu_bench that PyTorch has an equal of
    benchmarks/gpu/peer.py model --model FOLDER --name NAME --out FILE [--sequences 1] [--prompt 16] [--tokens 64]

Fair: equal element types for what is read and written where PyTorch can (rows float32, weights and KV bfloat16; its
attention and matmul take bfloat16 rows), random data, launches in a CUDA graph that take turns through more bytes than
the L2 cache, medians. PyTorch's attention has its KV in one piece: it reads no pages. Needs torch; `model` transformers.
"""
import argparse
import json
import re
import statistics
import sys
import time

import torch
import torch.nn.functional as F

REPEATS, SAMPLE_SECONDS, MOST_COPIES, MOST_LAUNCHES = 11, 2e-3, 64, 1024
F32, BF16 = torch.float32, torch.bfloat16


def random(*shape, dtype=BF16):
    return torch.randn(shape, device="cuda", dtype=dtype)


def copies_of(size_bytes):
    cache = getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 0) or 64 << 20
    return max(1, min(MOST_COPIES, -(-3 * cache // int(size_bytes)) + 1))


def time_events(work):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def seconds_of(calls, graph_wanted=True):
    """Median seconds of one call; the calls take turns."""
    for call in calls[:3]:
        call()
    torch.cuda.synchronize()
    once = time_events(calls[0])
    launches = max(len(calls), min(MOST_LAUNCHES, int(SAMPLE_SECONDS / max(once, 1e-7)) + 1))

    def work():
        for number in range(launches):
            calls[number % len(calls)]()

    run = work
    if graph_wanted:
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                work()
            run = graph.replay
        except RuntimeError:
            torch.cuda.synchronize()
    run()
    return statistics.median(time_events(run) for _ in range(REPEATS)) / launches


# ---- One function for each kind of row: numbers of its name in, calls out ----


def embed(tokens, hidden):
    table = random(128256, hidden)
    token = torch.randint(128256, (tokens,), device="cuda")
    return [lambda: F.embedding(token, table).float()]


def rmsnorm(tokens, hidden):
    x, y, weight = random(tokens, hidden, dtype=F32), random(tokens, hidden, dtype=F32), random(hidden, dtype=F32)
    return [lambda: F.rms_norm(x.add_(y), (hidden,), weight)]


def add(tokens, hidden):
    x, y = random(tokens, hidden, dtype=F32), random(tokens, hidden, dtype=F32)
    return [lambda: x.add_(y)]


def gated(tokens, inner):
    gate, up = random(tokens, inner, dtype=F32), random(tokens, inner, dtype=F32)
    return [lambda: F.silu(gate).mul_(up)]


def choice(tokens, chosen, experts):
    return torch.rand(tokens, experts, device="cuda").topk(chosen).indices


def topk(tokens, chosen, experts, _hidden):
    logits = random(tokens, experts, dtype=F32)

    def call():
        weight, expert = logits.softmax(-1).topk(chosen)
        return weight / weight.sum(-1, keepdim=True), expert
    return [call]


def permute(tokens, chosen, experts, _hidden):
    expert = choice(tokens, chosen, experts).flatten()
    return [lambda: expert.sort(stable=True)]


def pack(tokens, chosen, experts, hidden):
    expert, x = choice(tokens, chosen, experts).flatten(), random(tokens, hidden, dtype=F32)
    return [lambda: x.index_select(0, expert.sort(stable=True).indices // chosen)]


def combine(tokens, chosen, experts, hidden):
    order = choice(tokens, chosen, experts).flatten().sort(stable=True).indices
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device="cuda")
    rows, weight = random(tokens * chosen, hidden, dtype=F32), random(tokens, chosen, 1, dtype=F32)
    return [lambda: torch.bmm(weight.transpose(1, 2), rows.index_select(0, place).view(tokens, chosen, hidden))]


def page_rows(pages, heads, of_heads):
    memory = random(2 * pages, of_heads, 16 * 128)[:, of_heads - heads:]
    return memory, torch.randperm(2 * pages, device="cuda")[:pages], random(pages, heads, 16 * 128)


def kv_gather(*shape):
    memory, page, _ = page_rows(*shape)
    return [lambda: memory.index_select(0, page)]


def kv_scatter(*shape):
    memory, page, slab = page_rows(*shape)
    return [lambda: memory.index_copy_(0, page, slab)]


def attention_calls(sequences, rows, positions, copies):
    def one():
        q = random(sequences, 32, rows, 128)
        k, v = random(sequences, 8, positions, 128), random(sequences, 8, positions, 128)
        return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=rows > 1, enable_gqa=True)
    return [one() for _ in range(copies)]


def attention_decode(sequences, positions):
    return attention_calls(sequences, 1, positions, copies_of(sequences * positions * 8 * 128 * 4))


def attention_prefill(positions):
    return attention_calls(1, positions, positions, 1)


def matmul(rows, outputs, cols):
    def one():
        x, weight = random(rows, cols), random(outputs, cols)
        return lambda: F.linear(x, weight)
    return [one() for _ in range(copies_of(2 * outputs * cols))]


def experts(count, rows, hidden, inner):
    grouped = getattr(F, "grouped_mm", None) or getattr(torch, "_grouped_mm")
    ends = torch.arange(1, count + 1, device="cuda", dtype=torch.int32) * rows

    def one():
        x = random(count * rows, hidden)
        gate_up, down = random(count, 2 * inner, hidden), random(count, hidden, inner)

        def call():
            gate, up = grouped(x, gate_up.transpose(1, 2), offs=ends).chunk(2, -1)
            return grouped(F.silu(gate) * up, down.transpose(1, 2), offs=ends)
        return call
    return [one() for _ in range(copies_of(6 * count * hidden * inner))]


def sample_greedy(rows, vocabulary):
    logits = random(rows, vocabulary, dtype=F32)
    return [lambda: logits.argmax(-1)]


def logprobs(rows, vocabulary):
    logits, token = random(rows, vocabulary, dtype=F32), torch.randint(vocabulary, (rows, 1), device="cuda")

    def call():
        scores = logits.log_softmax(-1)
        return scores.gather(1, token), scores.topk(5)
    return [call]


def tiny_add():
    x, y = random(1, dtype=F32), random(1, dtype=F32)
    return [lambda: x.add_(y)]


KINDS = [
    (r"embed (\d+) x (\d+)", embed), (r"rmsnorm with addend (\d+) x (\d+)", rmsnorm), (r"add (\d+) x (\d+)", add),
    (r"gated (\d+) x (\d+)", gated), (r"topk (\d+) x (\d+) of (\d+), H (\d+)", topk),
    (r"permute (\d+) x (\d+) of (\d+), H (\d+)", permute), (r"pack (\d+) x (\d+) of (\d+), H (\d+)", pack),
    (r"combine (\d+) x (\d+) of (\d+), H (\d+)", combine), (r"KV gather (\d+) pages, (\d+) of (\d+) heads", kv_gather),
    (r"KV scatter (\d+) pages, (\d+) of (\d+) heads", kv_scatter), (r"attention decode (\d+) x (\d+)", attention_decode),
    (r"attention prefill (\d+)", attention_prefill), (r"matmul (\d+) x (\d+) x (\d+)(?:, slices)?", matmul),
    (r"experts (\d+) x (\d+) rows, H (\d+), I (\d+)", experts), (r"sample greedy (\d+) x (\d+)", sample_greedy),
    (r"logprobs (\d+) x (\d+)", logprobs), (r"launch (?:alone|in a graph)", tiny_add),
]


def peer_of(row):
    """In the unit of the row: as much faster or slower as its seconds are. None: PyTorch has no equal."""
    for pattern, make in KINDS:
        found = re.fullmatch(pattern, row["name"])
        if found:
            calls = make(*map(int, found.groups()))
            seconds = seconds_of(calls, graph_wanted=row["name"] != "launch alone")
            return seconds * 1e6 if row["unit"] == "us" else row["ours"] * row["seconds"] / seconds
    return None


def write(path, row):
    with open(path, "a", encoding="utf-8") as out:
        out.write(json.dumps(row) + "\n")
    print(f"{row['name']}: {row['peer']:.4g} {row['unit']}", flush=True)


def measure_limits(args):
    x, y = random(1 << 29), torch.empty(1 << 29, device="cuda", dtype=BF16)
    write(args.out, {"name": "device copy", "unit": "GB/s", "peer": 4 * x.numel() / seconds_of([lambda: y.copy_(x)]) / 1e9})
    size = 8192
    write(args.out, {"name": "dense matmul", "unit": "TFLOP/s",
                     "peer": 2 * size ** 3 / seconds_of(matmul(size, size, size)) / 1e12})


def measure_kernels(args):
    with open(args.rows, encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if row.get("ours") and row.get("seconds")]
    for row in rows:
        try:
            peer = peer_of(row)
        except (RuntimeError, AttributeError, TypeError) as error:
            print(f"{row['name']}: not by PyTorch here: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        finally:
            torch.cuda.empty_cache()
        if peer and row["name"] != "device copy":
            write(args.out, {"name": row["name"], "unit": row["unit"], "peer": peer})


def generate_seconds(model, prompt, tokens):
    torch.cuda.synchronize()
    begin = time.monotonic()
    out = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=tokens, min_new_tokens=tokens,
                         do_sample=False)
    torch.cuda.synchronize()
    if out.shape[1] != prompt.shape[1] + tokens:
        sys.exit("peer: transformers ended early")
    return time.monotonic() - begin


def measure_model(args):
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(
        args.model, dtype=BF16, device_map="cuda", attn_implementation="sdpa")
    prompt = torch.randint(1, model.config.vocab_size - 1, (args.sequences, args.prompt), device="cuda")
    generate_seconds(model, prompt, 4)
    # The difference of two lengths: prompts and what generate does once are left out.
    short, long = max(args.tokens // 4, 1), args.tokens
    seconds = generate_seconds(model, prompt, long) - generate_seconds(model, prompt, short)
    write(args.out, {"name": f"decode {args.sequences} x {args.name}", "unit": "tokens/s",
                     "peer": args.sequences * (long - short) / seconds})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["limits", "kernels", "model"])
    parser.add_argument("--out", required=True)
    parser.add_argument("--rows")
    parser.add_argument("--model")
    parser.add_argument("--name")
    for name, value in (("sequences", 1), ("prompt", 16), ("tokens", 64)):
        parser.add_argument("--" + name, type=int, default=value)
    args = parser.parse_args()
    torch.manual_seed(1)
    with torch.no_grad():
        {"limits": measure_limits, "kernels": measure_kernels, "model": measure_model}[args.what](args)


main()
