#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes a model directory of a true shape with random weights, for benchmarks and trials.

Needs numpy only; the safetensors files are written here.  The tokenizer is byte-level: 256 byte
tokens and a few specials, no merges, so every text encodes to its bytes.  The same preset and
seed give the same bytes.

    scripts/make_random_model.py --preset qwen3-0.6b --out /tmp/qwen3-0.6b
    scripts/make_random_model.py --preset tiny-mixtral --seed 7 --out /tmp/tiny-mixtral
    scripts/make_random_model.py --list
"""
import argparse
import json
import struct
from pathlib import Path

import numpy as np

SHARD_BYTES = 2 << 30
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]  # ids 256, 257, 258
END_OF_TEXT, IM_END = 256, 258


def qwen3(**shape):
    return {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": False,
            "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1e6, "rope_scaling": None,
            "sliding_window": None, "use_sliding_window": False, **shape}


PRESETS = {
    "qwen3-0.6b": qwen3(
        hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, vocab_size=151936, tie_word_embeddings=True,
        max_position_embeddings=40960),
    "qwen3-moe-1.8b": {
        **qwen3(hidden_size=1024, intermediate_size=3072, num_hidden_layers=24,
                num_attention_heads=16, num_key_value_heads=4, head_dim=128, vocab_size=32768,
                tie_word_embeddings=True, max_position_embeddings=40960),
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_experts": 64,
        "num_experts_per_tok": 8, "moe_intermediate_size": 384, "norm_topk_prob": True,
        "decoder_sparse_step": 1, "mlp_only_layers": []},
    "llama-8b": {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "vocab_size": 128256, "rms_norm_eps": 1e-5, "rope_theta": 5e5, "rope_scaling": None,
        "tie_word_embeddings": False, "max_position_embeddings": 8192},
    "qwen3-30b-a3b": {
        **qwen3(hidden_size=2048, intermediate_size=6144, num_hidden_layers=48,
                num_attention_heads=32, num_key_value_heads=4, head_dim=128, vocab_size=151936,
                tie_word_embeddings=False, max_position_embeddings=40960),
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_experts": 128,
        "num_experts_per_tok": 8, "moe_intermediate_size": 768, "norm_topk_prob": True,
        "decoder_sparse_step": 1, "mlp_only_layers": []},
    "wide-vocabulary": qwen3(
        hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=4, head_dim=32, vocab_size=151936, tie_word_embeddings=True,
        max_position_embeddings=4096),
    "tiny-dense": {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4,
        "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 320,
        "rms_norm_eps": 1e-5, "rope_theta": 5e5, "rope_scaling": None,
        "tie_word_embeddings": True, "max_position_embeddings": 4096},
    "tiny-mixtral": {
        "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_act": "silu",
        "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 4,
        "num_attention_heads": 8, "num_key_value_heads": 4, "num_local_experts": 8,
        "num_experts_per_tok": 2, "vocab_size": 320, "rms_norm_eps": 1e-5, "rope_theta": 1e6,
        "sliding_window": None, "tie_word_embeddings": False, "max_position_embeddings": 4096},
}


# ---- shapes ----------------------------------------------------------------------------------


def head_size(config):
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def is_moe_layer(config, layer):
    if config["model_type"] == "mixtral":
        return True
    return (config["model_type"] == "qwen3_moe"
            and layer not in (config.get("mlp_only_layers") or [])
            and (layer + 1) % config.get("decoder_sparse_step", 1) == 0)


def layer_tensors(config, layer):
    """(name, shape) of one layer, hub spelling: one tensor per expert."""
    hidden, inner, family = (
        config["hidden_size"], config["intermediate_size"], config["model_type"])
    queries = config["num_attention_heads"] * head_size(config)
    keys = config["num_key_value_heads"] * head_size(config)
    prefix = f"model.layers.{layer}."
    attention = prefix + "self_attn."
    yield prefix + "input_layernorm.weight", (hidden,)
    yield prefix + "post_attention_layernorm.weight", (hidden,)
    for name, shape in {"q": (queries, hidden), "k": (keys, hidden), "v": (keys, hidden),
                        "o": (hidden, queries)}.items():
        yield f"{attention}{name}_proj.weight", shape
        if config.get("attention_bias") or (family == "qwen2" and name != "o"):
            yield f"{attention}{name}_proj.bias", shape[:1]
    if family.startswith("qwen3"):
        yield attention + "q_norm.weight", (head_size(config),)
        yield attention + "k_norm.weight", (head_size(config),)
    if not is_moe_layer(config, layer):
        yield prefix + "mlp.gate_proj.weight", (inner, hidden)
        yield prefix + "mlp.up_proj.weight", (inner, hidden)
        yield prefix + "mlp.down_proj.weight", (hidden, inner)
        return
    if family == "mixtral":
        block, gate, up, down = prefix + "block_sparse_moe.", "w1", "w3", "w2"
        experts = config["num_local_experts"]
    else:
        block, gate, up, down = prefix + "mlp.", "gate_proj", "up_proj", "down_proj"
        experts, inner = config["num_experts"], config["moe_intermediate_size"]
    yield block + "gate.weight", (experts, hidden)
    for expert in range(experts):
        yield f"{block}experts.{expert}.{gate}.weight", (inner, hidden)
        yield f"{block}experts.{expert}.{up}.weight", (inner, hidden)
        yield f"{block}experts.{expert}.{down}.weight", (hidden, inner)


def model_tensors(config):
    yield "model.embed_tokens.weight", (config["vocab_size"], config["hidden_size"])
    for layer in range(config["num_hidden_layers"]):
        yield from layer_tensors(config, layer)
    yield "model.norm.weight", (config["hidden_size"],)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], config["hidden_size"])


def random_values(generator, name, shape):
    """Values that keep activations and logits near 1: nothing is trivial, nothing overflows."""
    values = generator.standard_normal(shape, dtype=np.float32)
    if "norm" in name:
        return 1 + 0.25 * values
    if name.endswith(".bias"):
        return 0.3 * values
    if "embed_tokens" in name:
        return values * np.float32(1.6 / shape[-1] ** 0.5)
    gain = 1.5 if "q_proj" in name or "k_proj" in name or "gate.weight" in name else 1.2
    return values * np.float32(gain / shape[-1] ** 0.5)


# ---- files -----------------------------------------------------------------------------------


def to_bfloat16(values):
    """Round to nearest, ties to even, as uint16 bits."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


ENCODE = {
    "F32": lambda values: np.ascontiguousarray(values, dtype=np.float32),
    "F16": lambda values: np.ascontiguousarray(values, dtype=np.float16),
    "BF16": to_bfloat16,
}
ELEMENT_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


def write_safetensors(path, tensors, dtype, values_of):
    """tensors: [(name, shape)]; values_of(name, shape) gives one array at a time."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors:
        size = ELEMENT_BYTES[dtype] * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": list(shape),
                        "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors:
            stored = ENCODE[dtype](values_of(name, shape))
            file.write(stored.astype(stored.dtype.newbyteorder("<"), copy=False).tobytes())
    return offset


def split_tensors(tensors, dtype, files):
    """Consecutive tensors in `files` parts of about equal bytes."""
    sizes = [ELEMENT_BYTES[dtype] * int(np.prod(shape)) for _, shape in tensors]
    parts, done = [[] for _ in range(files)], 0
    for tensor, size in zip(tensors, sizes):
        parts[min(done * files // sum(sizes), files - 1)].append(tensor)
        done += size
    return parts


def write_weights(out, tensors, dtype, values_of, files=None):
    total = sum(ELEMENT_BYTES[dtype] * int(np.prod(shape)) for _, shape in tensors)
    files = files or -(-total // SHARD_BYTES)
    if files == 1:
        write_safetensors(out / "model.safetensors", tensors, dtype, values_of)
        return total
    weight_map = {}
    for number, part in enumerate(split_tensors(tensors, dtype, files), 1):
        name = f"model-{number:05d}-of-{files:05d}.safetensors"
        write_safetensors(out / name, part, dtype, values_of)
        weight_map.update({tensor: name for tensor, _ in part})
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json(out / "model.safetensors.index.json", index)
    return total


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def byte_letters():
    """The printable letter of each byte in byte-level BPE (GPT-2's table)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters, extra = {}, 0
    for byte in range(256):
        if byte in plain:
            letters[byte] = chr(byte)
        else:
            letters[byte] = chr(256 + extra)
            extra += 1
    return letters


def byte_tokenizer(vocabulary):
    """tokenizer.json: id of a byte is the byte, then SPECIAL, then reserved up to vocabulary."""
    names = SPECIAL + [f"<|reserved_{i}|>" for i in range(vocabulary - 256 - len(SPECIAL))]
    added = [{"id": 256 + i, "content": name, "single_word": False, "lstrip": False,
              "rstrip": False, "normalized": False, "special": True}
             for i, name in enumerate(names)]
    split = {"type": "Split", "pattern": {"Regex": r"\p{N}|\s+|[^\s\p{N}]+"},
             "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                  "use_regex": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level,
        "decoder": {**byte_level, "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": "", "end_of_word_suffix": "",
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {letter: byte for byte, letter in byte_letters().items()},
                  "merges": []},
    }


def write_tokenizer(out, vocabulary):
    write_json(out / "tokenizer.json", byte_tokenizer(min(vocabulary, 320)))
    write_json(out / "tokenizer_config.json", {
        "add_bos_token": False, "add_prefix_space": False, "bos_token": None,
        "clean_up_tokenization_spaces": False, "eos_token": SPECIAL[0], "pad_token": SPECIAL[0],
        "chat_template": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n'"
                         " + message['content'] + '<|im_end|>\n' }}{% endfor %}"
                         "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
                         "{% endif %}",
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": None})
    write_json(out / "generation_config.json", {
        "bos_token_id": END_OF_TEXT, "eos_token_id": [END_OF_TEXT, IM_END],
        "pad_token_id": END_OF_TEXT})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print the presets")
    parser.add_argument("--preset", choices=PRESETS)
    parser.add_argument("--out", type=Path, help="directory to write; made if missing")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dtype", choices=ENCODE, default="BF16")
    options = parser.parse_args()
    if options.list:
        for name, config in PRESETS.items():
            count = sum(int(np.prod(shape)) for _, shape in model_tensors(config))
            print(f"{name:16} {count / 1e6:8.1f} million weights")
        return
    if not options.preset or not options.out:
        parser.error("--preset and --out are required")
    config = {**PRESETS[options.preset], "bos_token_id": END_OF_TEXT,
              "eos_token_id": END_OF_TEXT,
              "torch_dtype": {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[
                  options.dtype]}
    options.out.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(options.seed)
    total = write_weights(options.out, list(model_tensors(config)), options.dtype,
                          lambda name, shape: random_values(generator, name, shape))
    write_json(options.out / "config.json", config)
    write_tokenizer(options.out, config["vocab_size"])
    print(f"{options.out}: {total / 1e6:.1f} MB of {options.dtype}")


if __name__ == "__main__":
    main()
