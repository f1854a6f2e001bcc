# SPDX-License-Identifier: BSD-3-Clause
"""What benchmarks/cpu/run measures: cases, the work that one needs, the machine's limit for it, and the
ratio to llama.cpp that is wanted.

Work of one sample, in bytes that must be read and operations that must be done:
    decode    weights of every matrix that the batch uses (of experts: the expected number of different
              ones, E (1 - (1 - K/E)^B)), and the KV of every sequence
    prefill   the same once a 512 tokens, and 2 operations a weight and token, 4 h d a query-key pair
The limit is the larger of bytes / read bandwidth and operations / peak, both measured in the run.
"""
import re

TYPES = ("BF16", "F16", "int8", "int4")
PEER_TYPES = {"BF16": ("BF16", "F16"), "F16": ("F16",), "int8": ("Q8_0",), "int4": ("Q4_0",)}
STORED = {"BF16": "BF16", "F16": "F16", "int8": "BF16", "int4": "BF16",
          "Q8_0": "BF16", "Q4_0": "BF16"}  # the safetensors that a type is made from
WEIGHT_BYTES = {"BF16": 2, "F16": 2, "int8": 34 / 32, "int4": 18 / 32}
# The peak that limits a type: what its sums are made with where the CPU has nothing better.
PEAKS = {"BF16": ("fma_gflop_s",), "F16": ("fma_gflop_s",),
         "int8": ("dpbusd_gop_s", "fma_gflop_s"), "int4": ("dpbusd_gop_s", "fma_gflop_s")}
KV_BYTES = {"bfloat16": 2, "float32": 4}
STEP_TOKENS = 512


class Case:
    """`prefill:512`, or `decode:8@256`: 8 sequences of 256 tokens before."""

    def __init__(self, text):
        match = re.fullmatch(r"prefill:(\d+)|decode:(\d+)@(\d+)", text)
        if not match:
            raise ValueError(f"no case {text!r}: prefill:TOKENS or decode:BATCH@CONTEXT")
        self.text = text
        self.tokens, self.batch, self.context = (int(part or 0) for part in match.groups())
        self.decodes = self.batch > 0

    def __str__(self):
        if self.decodes:
            return f"decode {self.batch} at {self.context}"
        return f"prefill {self.tokens}"

    def question(self, steps):
        if self.decodes:
            return f"decode {self.batch} {self.context} {steps}"
        return f"prefill {self.tokens}"

    def kv_bytes(self, config, element_bytes):
        """Of the whole cache that the case needs."""
        length = self.context + 64 if self.decodes else self.tokens
        return max(self.batch, 1) * length * kv_token_bytes(config, element_bytes)


def case_list(text):
    """Comma-separated cases; `prefill` and `decode` stand for all of that kind."""
    chosen = []
    for part in text.split(","):
        more = [case for case in map(Case, ALL) if case.text.split(":")[0] == part]
        chosen += more or [Case(part)]
    return chosen


ALL = ([f"prefill:{n}" for n in (128, 512, 2048)]
       + [f"decode:{b}@{c}" for c in (256, 2048) for b in (1, 2, 4, 8, 16, 32)])
MAIN = ["prefill:512", "decode:1@256", "decode:8@256", "decode:32@256"]


def target(kind, case):
    """The least ratio to llama.cpp that is wanted, or None."""
    if kind == "int8":
        return 1.3 if case.decodes else 1.7
    if kind == "int4":
        return 1.25 if case.decodes else 1.7
    if case.decodes:
        return 1.25 if case.batch == 1 else 2.0 if case.batch >= 8 else None
    return 1.6 if case.tokens == 512 else None


def kv_token_bytes(config, element_bytes):
    return (2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"]
            * element_bytes)


def layer_weights(config, batch):
    """(weights read, weights used by one token) of all layers."""
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    heads = 2 * config["num_attention_heads"] + 2 * config["num_key_value_heads"]
    attention = hidden * heads * config["head_dim"]
    experts, chosen = config.get("num_experts", 0), config.get("num_experts_per_tok", 0)
    if not experts:
        all_mlp = used_mlp = 3 * hidden * config["intermediate_size"]
    else:
        one = 3 * hidden * config["moe_intermediate_size"]
        different = experts * (1 - (1 - chosen / experts) ** batch)
        all_mlp = different * one + experts * hidden
        used_mlp = chosen * one + experts * hidden
    return layers * (attention + all_mlp), layers * (attention + used_mlp)


def work(case, config, kind, steps, kv_element_bytes):
    """(bytes, operations, tokens) of one decode step, or of a whole prompt."""
    head = config["vocab_size"] * config["hidden_size"]
    pair = 4 * config["num_hidden_layers"] * config["num_attention_heads"] * config["head_dim"]
    if case.decodes:
        read, used = layer_weights(config, case.batch)
        seen = case.batch * (case.context + (steps + 1) / 2)
        data = ((read + head) * WEIGHT_BYTES[kind]
                + seen * kv_token_bytes(config, kv_element_bytes))
        return data, 2 * case.batch * (used + head) + pair * seen, case.batch
    n = case.tokens
    read, used = layer_weights(config, min(n, STEP_TOKENS))
    data = (-(-n // STEP_TOKENS) * read + head) * WEIGHT_BYTES[kind]
    return data, 2 * (n * used + head) + pair * n * (n + 1) / 2, n


def limit(case, config, kind, threads, steps, kv_element_bytes, machine):
    """(tokens/s, what limits: "read" or the name of a peak)."""
    data, operations, tokens = work(case, config, kind, steps, kv_element_bytes)
    peak = next(name for name in PEAKS[kind] if f"{name}_{threads}" in machine)
    bounds = {"read": data / (machine[f"read_gb_s_{threads}"] * 1e9),
              peak: operations / (machine[f"{peak}_{threads}"] * 1e9)}
    what = max(bounds, key=bounds.get)
    return tokens / bounds[what], what
