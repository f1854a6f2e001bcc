#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes a preset of scripts/make_random_model.py with weights drawn on the GPU: tens of GB in a fraction of a minute.

    benchmarks/gpu/big_model.py --preset llama-8b --out FOLDER [--layers N] [--fewer N]

--layers cuts the model to its first layers. --fewer writes FOLDER-fewer, too: a model of even fewer layers whose files
are links to those of the first, so that the time of a layer can be told from the time of the rest. One shard for each
layer, so that no file of the smaller model has anything but what belongs to it. Needs torch and numpy.
"""
import argparse
import concurrent.futures
import json
import os
import struct
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import make_random_model as random_model  # noqa: E402

WRITERS = 6


def scale_of(name, shape):
    """(mean, deviation) as random_values of make_random_model.py."""
    if "norm" in name:
        return 1.0, 0.25
    if "embed_tokens" in name:
        return 0.0, 1.6 / shape[-1] ** 0.5
    gain = 1.5 if "q_proj" in name or "k_proj" in name or "gate.weight" in name else 1.2
    return 0.0, gain / shape[-1] ** 0.5


def write_shard(path, tensors, seed):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors:
        size = 2 * int(torch.Size(shape).numel())
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(seed)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors:
            mean, deviation = scale_of(name, shape)
            values = torch.randn(shape, generator=generator, device=device, dtype=torch.bfloat16)
            stored = values.mul_(deviation).add_(mean).view(torch.int16).cpu().contiguous().numpy()
            file.write(memoryview(stored).cast("B"))


def parts_of(config):
    """{file name: tensors}: the rest, then a file for each layer."""
    count = config["num_hidden_layers"]
    layers = [list(random_model.layer_tensors(config, layer)) for layer in range(count)]
    inside = {name for layer in layers for name, _ in layer}
    rest = [tensor for tensor in random_model.model_tensors(config) if tensor[0] not in inside]
    return {"model-rest.safetensors": rest, **{f"model-layer-{i:03d}.safetensors": layer
                                              for i, layer in enumerate(layers)}}


def write_others(out, config, parts):
    total = sum(2 * int(torch.Size(shape).numel()) for part in parts.values() for _, shape in part)
    weight_map = {name: file for file, part in parts.items() for name, _ in part}
    random_model.write_json(out / "model.safetensors.index.json",
                            {"metadata": {"total_size": total}, "weight_map": weight_map})
    random_model.write_json(out / "config.json", config)
    random_model.write_tokenizer(out, config["vocab_size"])
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=random_model.PRESETS, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--fewer", type=int)
    options = parser.parse_args()
    end = random_model.END_OF_TEXT
    config = {**random_model.PRESETS[options.preset], "bos_token_id": end, "eos_token_id": end,
              "torch_dtype": "bfloat16"}
    config["num_hidden_layers"] = options.layers or config["num_hidden_layers"]
    options.out.mkdir(parents=True, exist_ok=True)
    parts = parts_of(config)
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda item: write_shard(options.out / item[1][0], item[1][1], item[0]),
                      enumerate(parts.items())))
    total = write_others(options.out, config, parts)
    print(f"{options.out}: {config['num_hidden_layers']} layers, {total / 1e9:.1f} GB", flush=True)
    if options.fewer:
        fewer = options.out.with_name(options.out.name + "-fewer")
        fewer.mkdir(exist_ok=True)
        config = {**config, "num_hidden_layers": options.fewer}
        parts = parts_of(config)
        for name in parts:
            if not (fewer / name).exists():
                os.symlink((options.out / name).resolve(), fewer / name)
        write_others(fewer, config, parts)


main()
