#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes a Qwen3 or Qwen3-MoE model directory as one GGUF file, for the peer of benchmarks/cpu/run.

    to_gguf.py MODEL OUT.gguf --type BF16|F16|Q8_0|Q4_0

Every matrix gets the wanted type, the embedding (tied: also the output matrix) included; norms and
the router stay F32, as the peer's own converter does. The file has no tokenizer: token ids only.
Needs numpy and gguf.  Source: the GGUF description and tensor names of the gguf package.
"""
import argparse
import json
import logging
import os
import struct
from pathlib import Path

import numpy as np
import gguf
from gguf import GGMLQuantizationType as Type

ELEMENT = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}
LAYER_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp"}
EXPERT_NAMES = {"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps"}


def open_tensors(model):
    """{name: (dtype, array as stored)}, mapped, of every safetensors file of the directory."""
    tensors = {}
    for path in sorted(Path(model).glob("*.safetensors")):
        with open(path, "rb") as file:
            size = struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(size))
        data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + size)
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                array = data[begin:end].view(ELEMENT[entry["dtype"]]).reshape(entry["shape"])
                tensors[name] = entry["dtype"], array
    return tensors


def widened(dtype, array):
    if dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


def encoded(dtype, array, wanted):
    """The array in the wanted type, as the bytes that the file holds."""
    if wanted.name == dtype:
        return array.view(np.uint8)
    return np.ascontiguousarray(gguf.quants.quantize(widened(dtype, array), wanted)).view(np.uint8)


def plan(config, tensors, wanted):
    """[(GGUF name, type, stored shape, [stored names])]; several names: stacked experts."""
    def row(name, parts):
        shape = tensors[parts[0]][1].shape
        plain = len(shape) == 1 or name.endswith("ffn_gate_inp.weight")
        stacked = (len(parts), *shape) if "_exps" in name else shape
        return name, Type.F32 if plain else wanted, stacked, parts

    yield row("token_embd.weight", ["model.embed_tokens.weight"])
    yield row("output_norm.weight", ["model.norm.weight"])
    if "lm_head.weight" in tensors:
        yield row("output.weight", ["lm_head.weight"])
    for layer in range(config["num_hidden_layers"]):
        stored, written = f"model.layers.{layer}.", f"blk.{layer}."
        for old, new in LAYER_NAMES.items():
            if f"{stored}{old}.weight" in tensors:
                yield row(f"{written}{new}.weight", [f"{stored}{old}.weight"])
        for old, new in EXPERT_NAMES.items():
            if f"{stored}mlp.experts.0.{old}.weight" in tensors:
                yield row(f"{written}{new}.weight", [f"{stored}mlp.experts.{expert}.{old}.weight"
                                                     for expert in range(config["num_experts"])])


def write_metadata(writer, config, wanted):
    writer.add_file_type(getattr(gguf.LlamaFileType, {"Q8_0": "MOSTLY_Q8_0", "Q4_0": "MOSTLY_Q4_0", "F16": "MOSTLY_F16",
                                                      "BF16": "MOSTLY_BF16"}[wanted.name]))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    if config["model_type"] == "qwen3_moe":
        writer.add_expert_count(config["num_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_tokenizer_model("none")


def convert(model, out, wanted):
    config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    tensors = open_tensors(model)
    architecture = {"qwen3": "qwen3", "qwen3_moe": "qwen3moe"}[config["model_type"]]
    unfinished = f"{out}.unfinished"
    writer = gguf.GGUFWriter(unfinished, architecture)
    write_metadata(writer, config, wanted)
    rows = list(plan(config, tensors, wanted))
    for name, kind, shape, _ in rows:
        stored = gguf.quant_shape_to_byte_shape(shape, kind)
        writer.add_tensor_info(name, stored, np.dtype(np.uint8), int(np.prod(stored)), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, kind, _, parts in rows:
        writer.write_tensor_data(np.concatenate([encoded(*tensors[part], kind) for part in parts]))
    writer.close()
    os.replace(unfinished, out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--type", choices=["BF16", "F16", "Q8_0", "Q4_0"], required=True)
    options = parser.parse_args()
    logging.disable(logging.INFO)
    convert(options.model, options.out, Type[options.type])


if __name__ == "__main__":
    main()
