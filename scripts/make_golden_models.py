#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes the tiny models of tests/data/models and what transformers computes with them
(tests/data/golden, format in its README).

Needs torch, transformers (5.x), safetensors and numpy.  Weights come from a seeded generator of
numpy, each model's own; logits are float32, eager attention, one thread; the inputs of matrices
that are stored in bfloat16 are rounded to it.  Prompts are drawn again until no gate choice and no
greedy token hangs on a near-tie, so that a correct engine with another order of additions chooses
the same.

    scripts/make_golden_models.py              write all
    scripts/make_golden_models.py qwen3-yarn   write one (by name)
"""
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

import make_random_model as random_model

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
LENGTHS = [1, 5, 17, 40, 70]  # across tiles of 16 and blocks of 64
NEW_TOKENS = {5: 16, 40: 16}  # greedy continuation of the prompts of these lengths
# Top logit above the second, and last chosen gate logit above the first not chosen. A sum that
# differs in its last bit may round to the next bfloat16: margins are wider there.
GREEDY_MARGIN = {"F32": 4e-3, "F16": 4e-3, "BF16": 4e-2}
GATE_MARGIN = {"F32": 1e-3, "F16": 1e-3, "BF16": 1e-2}

BASE = {"hidden_act": "silu", "hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 16, "vocab_size": 256,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
        "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2}
LLAMA = {**BASE, "architectures": ["LlamaForCausalLM"], "model_type": "llama",
         "attention_bias": False, "mlp_bias": False}
QWEN2 = {**BASE, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
         "rms_norm_eps": 1e-6, "max_window_layers": 3, "sliding_window": 64,
         "use_sliding_window": False}
QWEN3 = {**QWEN2, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3",
         "attention_bias": False, "sliding_window": None}
QWEN3_MOE = {**QWEN3, "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe",
             "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
             "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
             "num_hidden_layers": 2}
MIXTRAL = {**BASE, "architectures": ["MixtralForCausalLM"], "model_type": "mixtral",
           "intermediate_size": 24, "num_local_experts": 8, "num_experts_per_tok": 2,
           "sliding_window": None, "num_hidden_layers": 2}
TINY = {"vocab_size": 320, "num_hidden_layers": 2, "bos_token_id": 256, "eos_token_id": 256}


def without(config, *keys):
    return {key: value for key, value in config.items() if key not in keys}


# name: config, stored dtype, files, fused experts
MODELS = {
    # head_dim left to H / h, embeddings tied, byte tokenizer
    "llama-tiny": (without({**LLAMA, **TINY, "hidden_size": 128, "intermediate_size": 96,
                            "tie_word_embeddings": True}, "head_dim"), "F32", 1, False),
    "llama-llama3": ({**LLAMA, "rope_scaling": {
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32, "rope_type": "llama3"}}, "BF16", 1, False),
    # every head its own KV head, biases on q, k, v and o, the oldest spelling of the type
    "llama-linear": ({**LLAMA, "num_key_value_heads": 8, "attention_bias": True,
                      "num_hidden_layers": 2,
                      "rope_scaling": {"type": "linear", "factor": 4.0}}, "F32", 1, False),
    "qwen2": (without(QWEN2, "head_dim"), "F32", 1, False),
    "qwen2-yarn": ({**QWEN2, "rope_scaling": {
        "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}}, "F16", 1, False),
    "qwen3": ({**QWEN3, "tie_word_embeddings": True, "num_hidden_layers": 2}, "F32", 1, False),
    "qwen3-yarn": ({**without(QWEN3, "rope_theta"), "rope_parameters": {
        "rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0, "beta_fast": 24.0,
        "beta_slow": 1.5, "original_max_position_embeddings": 32, "attention_factor": 1.25}},
        "BF16", 1, False),
    "qwen3-moe": (QWEN3_MOE, "F32", 1, False),
    "qwen3-moe-sharded": ({**QWEN3_MOE, "num_hidden_layers": 3}, "BF16", 3, False),
    # experts in one tensor per layer; the layer in the middle is dense
    "qwen3-moe-fused": ({**without(QWEN3_MOE, "rope_theta", "num_experts"),
                         "num_local_experts": 8, "num_hidden_layers": 3, "mlp_only_layers": [1],
                         "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
                        "BF16", 1, True),
    # three of six experts, weights not renormalised, every second layer dense
    "qwen3-moe-nonorm": ({**QWEN3_MOE, "num_hidden_layers": 4, "decoder_sparse_step": 2,
                          "num_experts": 6, "num_experts_per_tok": 3, "norm_topk_prob": False},
                         "BF16", 1, False),
    # six experts: uneven over four ranks; byte tokenizer
    "mixtral-tiny": ({**MIXTRAL, **TINY, "num_local_experts": 6}, "F32", 1, False),
    "mixtral-fused": (MIXTRAL, "BF16", 1, True),
}


# ---- writing a model -------------------------------------------------------------------------


def fused_name(name):
    """(name of the fused tensor, expert, half) of a per-expert tensor, else None."""
    block, experts, rest = name.partition(".experts.")
    if not experts:
        return None
    number, projection = rest.split(".")[:2]
    block = block.replace("block_sparse_moe", "mlp")
    half = {"gate_proj": 0, "w1": 0, "up_proj": 1, "w3": 1}.get(projection)
    target = "down_proj" if half is None else "gate_up_proj"
    return f"{block}.experts.{target}", int(number), half


def fuse_experts(values):
    """As transformers 5 saves them: gate_up_proj [E, 2I, H] and down_proj [E, H, I]."""
    fused, parts = {}, {}
    for name, array in values.items():
        place = fused_name(name)
        if place:
            parts.setdefault(place[0], {}).setdefault(place[1], []).append(array)
            fused[place[0]] = None
        else:
            fused[name.replace("block_sparse_moe", "mlp")] = array
    for name, experts in parts.items():
        fused[name] = np.stack([np.concatenate(experts[e]) for e in range(len(experts))])
    return fused


def write_model(name, config, dtype, files, fused):
    out = DATA / "models" / name
    out.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    values = {tensor: random_model.random_values(generator, tensor, shape)
              for tensor, shape in random_model.model_tensors(
                  {"num_experts": config.get("num_local_experts"), **config})}
    if fused:
        values = fuse_experts(values)
    random_model.write_weights(out, [(key, value.shape) for key, value in values.items()], dtype,
                               lambda key, shape: values[key], files)
    stored = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[dtype]
    random_model.write_json(out / "config.json", {**config, "torch_dtype": stored})
    if config["vocab_size"] == TINY["vocab_size"]:
        random_model.write_tokenizer(out, config["vocab_size"])
    else:
        random_model.write_json(out / "generation_config.json", {"eos_token_id": [2, 5]})
    return out


# ---- what transformers computes --------------------------------------------------------------


exact_linear = torch.nn.functional.linear


def rounded_linear(x, weight, bias=None):
    return exact_linear(x.to(torch.bfloat16).to(torch.float32), weight, bias)


def load_oracle(directory):
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager",
        experts_implementation="eager", output_loading_info=True)
    wrong = {key: info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
             if info[key]}
    if wrong:
        raise SystemExit(f"{directory}: transformers did not load every tensor: {wrong}")
    return model.eval()


def watch_gates(model, margins):
    """Appends, per gate call, the smallest distance between chosen and not chosen logits."""
    def look(gate, inputs, _output):
        logits = torch.nn.functional.linear(inputs[0].reshape(-1, gate.weight.shape[1]),
                                            gate.weight)
        ordered = logits.sort(dim=-1, descending=True).values
        margins.append((ordered[:, gate.top_k - 1] - ordered[:, gate.top_k]).min().item())
    for name, module in model.named_modules():
        if name.endswith(".mlp.gate"):
            module.register_forward_hook(look)


def greedy_run(model, prompt, new_tokens):
    """(tokens, logits [len(tokens), V], smallest greedy margin): row p follows token p."""
    tokens, margin = list(prompt), np.inf
    for step in range(new_tokens + 1):
        logits = model(torch.tensor([tokens])).logits[0]
        if step == new_tokens:
            return tokens, logits.numpy(), margin
        best = logits[-1].topk(2).values
        margin = min(margin, (best[0] - best[1]).item())
        tokens.append(int(logits[-1].argmax()))


def golden_case(model, generator, gate_margins, length, dtype):
    vocabulary, new_tokens = model.config.vocab_size, NEW_TOKENS.get(length, 0)
    for _ in range(200):
        prompt = generator.integers(0, vocabulary, length).tolist()
        gate_margins.clear()
        tokens, logits, margin = greedy_run(model, prompt, new_tokens)
        if margin >= GREEDY_MARGIN[dtype] and min(gate_margins, default=1) >= GATE_MARGIN[dtype]:
            return tokens, logits, margin, min(gate_margins, default=1)
    raise SystemExit(f"no prompt of {length} tokens without a near-tie")


def write_golden(name, model, dtype):
    generator = np.random.default_rng(zlib.crc32(b"prompts of " + name.encode()))
    gate_margins, deviation = [], 0.0
    watch_gates(model, gate_margins)
    out = DATA / "golden" / f"{name}.bin"
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "wb") as file:
        file.write(b"PRGOLD01" + struct.pack("<II", model.config.vocab_size, len(LENGTHS)))
        for length in LENGTHS:
            tokens, logits, margin, gate = golden_case(
                model, generator, gate_margins, length, dtype)
            file.write(struct.pack("<II", length, len(tokens) - length))
            file.write(np.asarray(tokens, "<i4").tobytes())
            file.write(np.ascontiguousarray(logits, "<f4").tobytes())
            deviation = max(deviation, float(logits.std()))
            print(f"  {name} length {length}: greedy margin {margin:.4f}, gate {gate:.4f}")
    print(f"{name}: logits deviate by {deviation:.2f}")


def main():
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    names = sys.argv[1:] or list(MODELS)
    for name in names:
        if name not in MODELS:
            raise SystemExit(f"no model '{name}': {', '.join(MODELS)}")
        config, dtype, files, fused = MODELS[name]
        model = load_oracle(write_model(name, config, dtype, files, fused))
        torch.nn.functional.linear = rounded_linear if dtype == "BF16" else exact_linear
        write_golden(name, model, dtype)


if __name__ == "__main__":
    main()
