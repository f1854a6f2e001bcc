#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Greedy text of the demo model by transformers in float32, the inputs of its matrices rounded to
bfloat16, their stored type: 20 prompts x 64 tokens.

    python3 scripts/make_demo_golden.py        (needs torch, transformers)

Writes tests/data/golden/demo_requests.jsonl and demo_expected.jsonl, which tests/system/demo_golden.sh
compares with `polyreme batch`. Prints the smallest margin between the best and second logit: an engine
that adds in another order can only be held to steps whose margin is above what one more or less
rounding to the next bfloat16 makes.
"""
import json
import os

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROMPTS = ["In the beginning", "And it came to pass", "The LORD said unto Moses,", "And the king of Israel",
           "Blessed are they that", "A wise man", "And Jesus answered and said unto them,", "The son of man",
           "He went down to the sea, and", "Behold, I will", "And David said to Jonathan,", "Now the Philistines",
           "Thus saith the LORD of hosts;", "For God so loved", "In those days there was", "The children of Israel",
           "My soul", "Then Paul stood up, and", "Many ranks, one stroke", "x"]
TOKENS = 64

exact_linear = torch.nn.functional.linear


def rounded_linear(x, weight, bias=None):
    return exact_linear(x.to(torch.bfloat16).to(torch.float32), weight, bias)


def main():
    torch.manual_seed(0)
    torch.nn.functional.linear = rounded_linear
    path = os.path.join(ROOT, "models/demo")
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
    folder = os.path.join(ROOT, "tests/data/golden")
    margin = 1e9
    with open(os.path.join(folder, "demo_requests.jsonl"), "w") as requests, \
            open(os.path.join(folder, "demo_expected.jsonl"), "w") as expected:
        for index, prompt in enumerate(PROMPTS):
            ids = tokenizer(prompt, return_tensors="pt").input_ids
            start = ids.shape[1]
            with torch.no_grad():
                for _ in range(TOKENS):
                    best = model(ids).logits[0, -1].topk(2)
                    margin = min(margin, float(best.values[0] - best.values[1]))
                    ids = torch.cat([ids, best.indices[:1].view(1, 1)], dim=1)
            text = tokenizer.decode(ids[0, start:], skip_special_tokens=True)
            name = f"golden-{index:02d}"
            body = {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
            requests.write(json.dumps({"custom_id": name, "method": "POST", "url": "/v1/completions", "body": body}) + "\n")
            expected.write(json.dumps({"custom_id": name, "text": text}, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"smallest margin of the best logit: {margin:.6f}")


main()
