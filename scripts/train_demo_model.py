#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Trains the demo model: a 5-million-parameter Qwen3-MoE that writes English in the manner of
the King James Bible, and writes it as a hub-style directory (models/demo).

The text is demo_text.py's.  One chapter is one document; every 33rd chapter is held out.  Needs
torch, tokenizers, safetensors and numpy; `--check` needs transformers too.

    scripts/train_demo_model.py --out models/demo           train and export
    scripts/train_demo_model.py --out models/demo --check   compare with transformers, write text

A glibc that keeps freed memory has fewer page faults:
MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_ARENA_MAX=1 in the environment.

The module below computes what transformers' qwen3_moe computes.  T tokens, H hidden size,
E experts, K experts per token, I inner size of an expert, V vocabulary.
"""
import argparse
import csv
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)
from torch import nn

from demo_text import read_chapters, split_chapters

VOCAB = 2048
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]  # the last ids, as in Qwen
END_OF_TEXT = VOCAB - len(SPECIAL)
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": None,
    "decoder_sparse_step": 1,
    "eos_token_id": END_OF_TEXT,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 192,
    "initializer_range": 0.02,
    "intermediate_size": 512,
    "max_position_embeddings": 2048,
    "max_window_layers": 6,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 128,
    "norm_topk_prob": True,
    "num_attention_heads": 8,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 6,
    "num_key_value_heads": 4,
    "output_router_logits": False,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "router_aux_loss_coef": 0.01,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": VOCAB,
}


# ---- tokenizer -------------------------------------------------------------------------------

def train_tokenizer(texts):
    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix=""))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)])
    tokenizer.post_processor = processors.ByteLevel(
        add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel(
        add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=END_OF_TEXT, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    assert tokenizer.get_vocab_size() == VOCAB
    assert tokenizer.token_to_id(SPECIAL[0]) == END_OF_TEXT
    return tokenizer


def encode(tokenizer, chapters):
    """One stream of tokens in which each chapter is followed by <|endoftext|>."""
    encoded = tokenizer.encode_batch(chapters)
    return torch.from_numpy(np.concatenate([e.ids + [END_OF_TEXT] for e in encoded]))


# ---- model -----------------------------------------------------------------------------------

class RMSNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), CONFIG["rms_norm_eps"])


def rotate(x, cos, sin):
    """RoPE on x [batch, heads, T, d], pairing i with i + d/2."""
    low, high = x.chunk(2, dim=-1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)


def attend(q, k, v):
    """Causal attention on [batch, heads, T, d]; when T is small plain products are faster."""
    with torch.autocast("cpu", enabled=False):
        if q.shape[2] > 256:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        future = torch.full((q.shape[2], q.shape[2]), -torch.inf, dtype=q.dtype).triu(1)
        scores = torch.baddbmm(future, q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2),
                               alpha=q.shape[3] ** -0.5)
        return (F.softmax(scores, dim=-1) @ v.flatten(0, 1)).view(q.shape)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        hidden, self.dim = CONFIG["hidden_size"], CONFIG["head_dim"]
        self.heads, self.groups = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"]
        self.q_proj = nn.Linear(hidden, self.heads * self.dim, bias=False)
        self.k_proj = nn.Linear(hidden, self.groups * self.dim, bias=False)
        self.v_proj = nn.Linear(hidden, self.groups * self.dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.dim, hidden, bias=False)
        self.q_norm, self.k_norm = RMSNorm(self.dim), RMSNorm(self.dim)

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape
        shape = (batch, length, -1, self.dim)
        q = rotate(self.q_norm(self.q_proj(x).view(shape)).transpose(1, 2), cos, sin)
        k = rotate(self.k_norm(self.k_proj(x).view(shape)).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(shape).transpose(1, 2)
        k, v = (t.repeat_interleave(self.heads // self.groups, dim=1) for t in (k, v))
        y = attend(q.to(v.dtype), k.to(v.dtype), v)
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, -1))


class SparseMoe(nn.Module):
    """Each token's K copies are sorted by expert, so that an expert is three plain products."""

    def __init__(self):
        super().__init__()
        hidden, inner = CONFIG["hidden_size"], CONFIG["moe_intermediate_size"]
        self.experts, self.top_k = CONFIG["num_experts"], CONFIG["num_experts_per_tok"]
        self.gate = nn.Linear(hidden, self.experts, bias=False)
        self.gate_up = nn.Parameter(torch.empty(self.experts, 2 * inner, hidden))
        self.down = nn.Parameter(torch.empty(self.experts, hidden, inner))

    def route(self, x):  # [T, H] -> weights and experts [T, K], auxiliary loss
        with torch.autocast("cpu", enabled=False):
            scores = F.softmax(F.linear(x.float(), self.gate.weight), dim=-1)
        weight, expert = torch.topk(scores, self.top_k, dim=-1)
        share = torch.bincount(expert.flatten(), minlength=self.experts) / expert.numel()
        balance = self.experts * (share * scores.mean(dim=0)).sum()
        return weight / weight.sum(dim=-1, keepdim=True), expert, balance

    def run_experts(self, tokens, expert):  # [T, H], [T, K] -> [T, K, H]
        order = torch.argsort(expert.flatten(), stable=True)
        counts = torch.bincount(expert.flatten(), minlength=self.experts).tolist()
        parts = tokens[order // self.top_k].split(counts)
        outputs = []
        for part, gate_up, down in zip(parts, self.gate_up, self.down):
            gate, up = F.linear(part, gate_up).chunk(2, dim=-1)
            outputs.append(F.linear(F.silu(gate) * up, down))
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        return torch.cat(outputs)[back].view(len(tokens), self.top_k, -1)

    def forward(self, x):
        tokens = x.reshape(-1, x.shape[-1])
        weight, expert, balance = self.route(tokens)
        y = self.run_experts(tokens, expert)
        return (y * weight.unsqueeze(-1).to(y.dtype)).sum(dim=1).view(x.shape), balance


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layernorm = RMSNorm(CONFIG["hidden_size"])
        self.self_attn = Attention()
        self.post_attention_layernorm = RMSNorm(CONFIG["hidden_size"])
        self.mlp = SparseMoe()

    def forward(self, x, cos, sin, dropout):
        x = x + F.dropout(self.self_attn(self.input_layernorm(x), cos, sin), dropout, self.training)
        y, balance = self.mlp(self.post_attention_layernorm(x))
        return x + F.dropout(y, dropout, self.training), balance


class DemoModel(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.dropout = dropout
        self.embed_tokens = nn.Embedding(VOCAB, CONFIG["hidden_size"])
        self.layers = nn.ModuleList(Block() for _ in range(CONFIG["num_hidden_layers"]))
        self.norm = RMSNorm(CONFIG["hidden_size"])
        dim = CONFIG["head_dim"]
        frequency = CONFIG["rope_theta"] ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)
        angle = torch.outer(torch.arange(CONFIG["max_position_embeddings"]).float(), frequency)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                std = CONFIG["initializer_range"] if "embed" in name else p.shape[-1] ** -0.5
                if "o_proj" in name or "down" in name:
                    std /= math.sqrt(2 * CONFIG["num_hidden_layers"])
                nn.init.normal_(p, std=std)

    def forward(self, ids):
        x = self.embed_tokens(ids)
        cos, sin = self.cos[:ids.shape[1]], self.sin[:ids.shape[1]]
        balance = 0.0
        for layer in self.layers:
            x, term = layer(x, cos, sin, self.dropout)
            balance = balance + term / len(self.layers)
        return F.linear(self.norm(x), self.embed_tokens.weight), balance


# ---- the directory ---------------------------------------------------------------------------

def hub_tensors(model):
    """The weights in BF16 under the hub's names: one tensor per expert and projection."""
    tensors = {}
    for name, value in model.state_dict().items():
        value = value.to(torch.bfloat16)
        if name.endswith(("mlp.gate_up", "mlp.down")):
            stem = f"model.{name.rpartition('.')[0]}.experts"
            for e, matrix in enumerate(value):
                if name.endswith("down"):
                    tensors[f"{stem}.{e}.down_proj.weight"] = matrix.clone()
                else:
                    gate, up = matrix.chunk(2)
                    tensors[f"{stem}.{e}.gate_proj.weight"] = gate.clone()
                    tensors[f"{stem}.{e}.up_proj.weight"] = up.clone()
        else:
            tensors[f"model.{name}"] = value.clone()
    return tensors


def load_hub_tensors(model, path):
    tensors, state = load_file(path), {}
    for name in model.state_dict():
        stem = f"model.{name.rpartition('.')[0]}.experts"
        experts = range(CONFIG["num_experts"])
        if name.endswith("mlp.gate_up"):
            state[name] = torch.stack([torch.cat(
                [tensors[f"{stem}.{e}.{p}_proj.weight"] for p in ("gate", "up")]) for e in experts])
        elif name.endswith("mlp.down"):
            state[name] = torch.stack([tensors[f"{stem}.{e}.down_proj.weight"] for e in experts])
        else:
            state[name] = tensors[f"model.{name}"]
    model.load_state_dict({name: value.float() for name, value in state.items()})


def write_atomically(path, write):
    """Readers see the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.tmp")
    write(temporary)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


def write_json(path, value):
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_configuration(out, tokenizer):
    write_atomically(out / "tokenizer.json", lambda temporary: tokenizer.save(str(temporary)))
    write_json(out / "config.json", CONFIG)
    write_json(out / "generation_config.json", {
        "do_sample": True, "eos_token_id": END_OF_TEXT, "pad_token_id": END_OF_TEXT,
        "temperature": 0.8, "top_p": 0.95})
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
             "special": True}
    write_json(out / "tokenizer_config.json", {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(END_OF_TEXT + i): {"content": s, **plain} for i, s in enumerate(SPECIAL)},
        "additional_special_tokens": SPECIAL[1:],
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": SPECIAL[0],
        "model_max_length": CONFIG["max_position_embeddings"],
        "pad_token": SPECIAL[0],
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None})


def write_weights(out, model):
    write_atomically(out / "model.safetensors", lambda temporary: save_file(
        hub_tensors(model), temporary, metadata={"format": "pt"}))


# ---- training --------------------------------------------------------------------------------

def learning_rate(step, done, args):
    """Linear warm-up, then half a cosine down to a twentieth; done: 0 to 1 of the training."""
    warm = min(1.0, (step + 1) / args.warmup)
    return args.rate * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def context_of_step(step):
    """256 mostly; now and then 512, 1024 and 2048, so that long contexts stay sane."""
    for length, every in ((2048, 128), (1024, 32), (512, 8)):
        if step % every == every - 1:
            return length
    return 256


def sample_batch(stream, length, count, generator):
    starts = torch.randint(len(stream) - length - 1, (count,), generator=generator).tolist()
    rows = torch.stack([stream[s:s + length + 1] for s in starts])
    return rows[:, :-1], rows[:, 1:]


def loss_of(model, inputs, targets):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, balance = model(inputs)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten()), balance


@torch.no_grad()
def held_out_loss(model, stream, length=512):
    model.eval()
    total, rows = 0.0, (len(stream) - 1) // length
    for row in range(rows):
        part = stream[row * length:(row + 1) * length + 1]
        total += loss_of(model, part[None, :-1], part[None, 1:])[0].item()
    model.train()
    return total / rows


def make_optimizer(model, args):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": args.decay},
                              {"params": vectors, "weight_decay": 0.0}],
                             lr=args.rate, betas=(0.9, 0.95), fused=True)


def train_step(model, optimizer, stream, step, done, args, generator):
    length = context_of_step(step)
    inputs, targets = sample_batch(stream, length, args.batch // length, generator)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, done, args)
    loss, balance = loss_of(model, inputs, targets)
    (loss + CONFIG["router_aux_loss_coef"] * balance).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item(), balance.item()


def report(out, rows, row, balance, seconds):
    rows.append(row)
    step, tokens, train, held_out = row
    print(f"step {step} tokens {tokens} train {train:.4f} held out {held_out:.4f} "
          f"balance {balance:.3f} {tokens / seconds:.0f} tokens/s {seconds:.0f} s", flush=True)

    def write(temporary):
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["step", "tokens", "train_loss", "held_out_loss"])
            writer.writerows((s, t, f"{a:.4f}", f"{b:.4f}") for s, t, a, b in rows)
    write_atomically(out / "loss.csv", write)


def train(args):
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    learned, kept = split_chapters(read_chapters())
    tokenizer = train_tokenizer(learned)
    stream = encode(tokenizer, learned)
    held_out = encode(tokenizer, kept)
    model = DemoModel(args.dropout)
    print(f"{len(stream)} tokens to learn, {len(held_out)} held out, "
          f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    write_configuration(args.out, tokenizer)
    optimizer = make_optimizer(model, args)
    rows, losses, best, began = [], [], math.inf, time.time()
    step, done = 0, 0.0
    while done < 1:
        loss, balance = train_step(model, optimizer, stream, step, done, args, generator)
        losses.append(loss)
        step += 1
        done = max(step / args.steps, (time.time() - began) / (60 * args.minutes))
        if step % args.every == 0 or done >= 1:
            held = held_out_loss(model, held_out)
            report(args.out, rows, (step, step * args.batch, sum(losses) / len(losses), held),
                   balance, time.time() - began)
            losses = []
            if held < best:
                best = held
                write_weights(args.out, model)


# ---- check -----------------------------------------------------------------------------------

PROMPTS = ["In the beginning", "And it came to pass", "The LORD said unto Moses,",
           "Blessed are", "Now the king", "My son,", "He that"]


def check(args):
    """The exported directory through transformers: same logits as ours, and some text."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(args.out)
    theirs = AutoModelForCausalLM.from_pretrained(args.out, dtype=torch.float32).eval()
    ours = DemoModel().eval()
    load_hub_tensors(ours, args.out / "model.safetensors")
    text = " ".join(PROMPTS) + "\n\nÉté 2026: naïve <|endoftext|> 日本 \t  'tis 42%"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer(text).input_ids == Tokenizer.from_file(
        str(args.out / "tokenizer.json")).encode(text).ids
    ids = tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        a, b = ours(ids)[0], theirs(ids).logits
        print(f"largest difference of logits {(a - b).abs().max() / b.abs().max():.1e} relative")
        torch.manual_seed(args.seed)
        for prompt in PROMPTS:
            ids = tokenizer(prompt, return_tensors="pt")
            for mode in ({"do_sample": False}, {"do_sample": True, "temperature": 0.8}):
                made = theirs.generate(**ids, max_new_tokens=args.generate, **mode)
                print(f"--- {'sampled' if mode['do_sample'] else 'greedy'}\n"
                      f"{tokenizer.decode(made[0])}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("models/demo"))
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--minutes", type=float, default=math.inf,
                        help="if the clock leads, it drives the schedule in place of the steps")
    parser.add_argument("--batch", type=int, default=2048, help="tokens in a step")
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--warmup", type=int, default=200, help="steps")
    parser.add_argument("--decay", type=float, default=0.1, help="weight decay of matrices")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--every", type=int, default=200, help="steps between evaluations")
    parser.add_argument("--seed", type=int, default=1611)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--check", action="store_true", help="check an exported directory")
    parser.add_argument("--generate", type=int, default=80, help="tokens to write in --check")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.check:
        check(args)
    else:
        train(args)


if __name__ == "__main__":
    main()
