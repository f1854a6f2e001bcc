#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes tests/data/requests/layout_hash.jsonl: the requests of the layout hash test.

Shared prefixes, prompts from one token to several blocks of 16, greedy and seeded sampling, every
sampling parameter, n > 1, stops, token-id prompts, logprobs, of the prompt too, the forms of structured output, chats.
Seeded; needs only the standard library.
"""
import json
import random
import sys

STORY = ("In the beginning was a small boat with many oars, and the rowers came from far towns. "
         "Each of them kept the stroke by the same drum, and none asked who sat where. ")


def body_for(index, draw):
    prefix = STORY[: draw.choice([0, 16, 16, 33, 48, 64, 64, 100])]
    prompt = prefix + draw.choice(["And", "The king", "He said", " of the land", "x", "Many ranks, one stroke"])
    body = {"prompt": prompt, "max_tokens": draw.choice([1, 4, 9, 16, 24, 60]), "ignore_eos": True}
    if index % 6 == 5:
        body["prompt"] = [draw.randrange(1, 250) for _ in range(draw.choice([1, 2, 15, 16, 17, 31, 32, 33, 80]))]
    if index % 2 == 0:
        body["temperature"] = 0
    else:
        body.update(temperature=draw.choice([0.5, 0.9, 1.3]), seed=draw.randrange(1 << 40))
    if index % 3 == 0:
        body["logprobs"] = draw.choice([0, 1, 5])
    extras = [{}, {"top_k": 20}, {"top_p": 0.8}, {"min_p": 0.05}, {"repetition_penalty": 1.3},
              {"presence_penalty": 0.7, "frequency_penalty": 0.4}, {"logit_bias": {"101": 5, "32": -3}},
              {"stop": ["e", "th"]}, {"n": 2}, {"ignore_eos": False, "min_tokens": 1}]
    body.update(extras[index % len(extras)])
    return body


def scored_prompts():
    """Logprobs of every prompt token: openings that others leave in the prefix cache, several chunks, no output."""
    ids = [1 + 37 * i % 249 for i in range(90)]
    return [
        {"prompt": STORY[:100], "max_tokens": 3, "temperature": 0, "echo": True, "logprobs": 5, "ignore_eos": True},
        {"prompt": ids, "max_tokens": 0, "echo": True, "logprobs": 0},
        {"prompt": [STORY[:64] + "And", "x"], "n": 2, "max_tokens": 5, "temperature": 0.9, "seed": 11, "echo": True,
         "logprobs": 2, "ignore_eos": True},
    ]


PERSON = {"type": "object", "additionalProperties": False, "required": ["name", "age", "tags"], "properties": {
    "name": {"type": "string", "minLength": 2, "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 120},
    "tags": {"type": "array", "items": {"enum": ["rower", "drum", "boat"]}, "maxItems": 3}}}
TREE = {"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "required": ["v"], "properties": {
    "v": {"type": ["boolean", "null"]}, "next": {"$ref": "#/$defs/node"}}}}}
FORMS = [
    {"response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}, "logprobs": 2},
    {"structured_outputs": {"regex": "[A-Z][a-z ]{4,30}(, [a-z]{2,9}){1,3}\\."}, "n": 2},
    {"guided_choice": ["the king", "the kings", "a boat", "\u00e4 b\u00f6at"], "ignore_eos": False},
    {"response_format": {"type": "json_object"}, "temperature": 0.9},
    {"guided_json": TREE, "repetition_penalty": 1.2, "logit_bias": {"125": 4}},
    {"structured_outputs": {"json": {"type": "array", "items": {"format": "date"}, "maxItems": 2}}, "temperature": 0},
]


def structured_body(index, draw):
    prompt = STORY[: draw.choice([16, 33, 64, 100])] + "And"
    return {"prompt": prompt, "max_tokens": 60, "temperature": 1, "seed": draw.randrange(1 << 40),
            "ignore_eos": True, **FORMS[index]}


TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ tools[0].function.name if tools }}\n{% endfor %}"
PLACE = {"type": "function", "function": {"name": "place", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 9}}, "required": ["city"],
    "additionalProperties": False}}}


def chats():
    """Templates of their own, so that every model has one; a plain answer, a call that is asked for, a named one."""
    talk = [{"role": "system", "content": STORY[:30]}, {"role": "user", "content": [{"type": "text", "text": "And who?"}]}]
    common = {"messages": talk, "chat_template": TEMPLATE, "seed": 7}
    return [
        {**common, "max_tokens": 30, "n": 2, "logprobs": True, "top_logprobs": 2, "stop": [". ", "\n"]},
        {**common, "max_completion_tokens": 90, "tools": [PLACE], "tool_choice": "required", "parallel_tool_calls": False},
        {**common, "max_tokens": 60, "tools": [PLACE], "tool_choice": {"type": "function", "function": {"name": "place"}}},
    ]


def main():
    draw = random.Random(20261123)
    out = open(sys.argv[1] if len(sys.argv) > 1 else "tests/data/requests/layout_hash.jsonl", "w")
    bodies = [body_for(index, draw) for index in range(72)] + scored_prompts()
    bodies += [structured_body(index, draw) for index in range(len(FORMS))]
    bodies += chats()
    for index, body in enumerate(bodies):
        url = "/v1/chat/completions" if "messages" in body else "/v1/completions"
        line = {"custom_id": f"r{index:03d}", "method": "POST", "url": url, "body": body}
        out.write(json.dumps(line, separators=(",", ":")) + "\n")


main()
