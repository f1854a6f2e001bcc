#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes a batch of generated schemas, and validates the answers with python-jsonschema.

    structured_output.py write REQUESTS        the same bytes each time (seeded)
    structured_output.py check REQUESTS ANSWERS
"""
import datetime
import json
import os
import random
import re
import sys

SCHEMAS, DEPTH, MAX_TOKENS = 200, 3, 460
PATTERNS = [r"^[a-z]{2,8}$", r"^[A-Z]{3}-[0-9]{2,4}$", r"^(foo|bar|ba[zr]){1,3}$", r"^\w{1,10}$", r"^[^a-z\"]{0,5}$",
            r"^\d{3}(\.\d{1,2})?$", r"^\S{1,6}( \S{1,6}){0,2}$", "^[äöü€]{1,4}$", r"^(?:x|yy?|z{2,3})$", r"^\u00e4?[\x41-\x46]{2}$"]
FORMATS = ["date-time", "date", "time", "uuid", "email", "ipv4", "ipv6", "hostname"]
WORDS = ["king", "boat", "sea", "drum", "oar", "town", "stroke", "far", "Ämter", "a b", "x\"y", "tab\t", "name"]
COMMENTS = {"title": "T", "description": "what it is", "examples": [1], "default": None, "$comment": "c", "deprecated": True}


class Generator:
    def __init__(self, seed):
        self.draw = random.Random(seed)
        self.used = set()

    def pick(self, items):
        return self.draw.choice(items)

    def annotate(self, schema):
        if self.draw.random() < 0.15:
            key = self.pick(list(COMMENTS))
            schema[key] = COMMENTS[key]
        return schema

    def string(self):
        kind = self.draw.randrange(4)
        if kind == 0:
            return {"type": "string", "pattern": self.pick(PATTERNS)}
        if kind == 1:
            return {"type": "string", "format": self.pick(FORMATS)}
        low = self.draw.randrange(4)
        return {"type": "string", "minLength": low, "maxLength": low + self.draw.randrange(1, 12)}

    def integer(self):
        low = self.pick([-1000, -17, -1, 0, 1, 7, 99, 10**12])
        high = low + self.pick([0, 1, 9, 250, 10**6])
        return self.pick([{"type": "integer"}, {"type": "integer", "minimum": low, "maximum": high},
                          {"type": "integer", "exclusiveMinimum": low - 1}, {"type": "integer", "exclusiveMaximum": high + 1},
                          {"type": "integer", "minimum": low - 0.5, "maximum": high + 0.5}])

    def number(self):
        low = self.pick([-12.5, -1, 0, 0.001, 1.1, 3, 1e3])
        high = low + self.pick([0.25, 1, 7.75, 1e4])
        return self.pick([{"type": "number"}, {"type": "number", "minimum": low, "maximum": high},
                          {"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": high},
                          {"type": "number", "minimum": low}, {"type": "number", "exclusiveMaximum": high}])

    def value(self):
        return self.pick([None, True, False, 3, -2.5, "red", "Grün", "q\"uote", [1, "a"], {"k": [None]}, 0.1])

    def listed(self):
        if self.draw.random() < 0.4:
            return {"const": self.value()}
        values = [self.value() for _ in range(self.draw.randrange(1, 6))] + self.draw.sample(WORDS, 3)
        return self.pick([{"enum": values}, {"type": "string", "enum": values}])

    def array(self, depth):
        if self.draw.random() < 0.3:
            prefix = [self.schema(depth - 1) for _ in range(self.draw.randrange(1, 4))]
            extra = self.pick([{}, {"items": False}, {"items": {"type": "boolean"}, "maxItems": len(prefix) + 2}])
            return {"type": "array", "prefixItems": prefix, "minItems": self.draw.randrange(len(prefix) + 1), **extra}
        low = self.draw.randrange(3)
        return {"type": "array", "items": self.schema(depth - 1), "minItems": low, "maxItems": low + self.draw.randrange(3)}

    def object(self, depth):
        names = self.draw.sample(WORDS, self.draw.randrange(0, 5))
        schema = {"type": "object", "properties": {name: self.schema(depth - 1) for name in names}}
        schema["required"] = [name for name in names if self.draw.random() < 0.6]
        kind = self.draw.random()
        if kind < 0.6:
            schema["additionalProperties"] = False
        elif kind < 0.75:
            schema["additionalProperties"] = self.pick([{"type": "boolean"}, self.integer()])
        return schema

    def union(self, depth):
        kind = self.draw.randrange(4)
        if kind == 0:
            return {"anyOf": [self.schema(depth - 1) for _ in range(self.draw.randrange(2, 4))]}
        if kind == 1:
            return {"allOf": [self.schema(depth - 1)]}
        if kind == 2:
            return {"oneOf": [self.string(), self.integer(), {"type": "null"}]}
        tagged = [{"type": "object", "properties": {"kind": {"const": tag}, "of": self.schema(depth - 1)},
                   "required": ["kind", "of"], "additionalProperties": False} for tag in ("a", "b")]
        return {"oneOf": tagged}

    def several(self):
        types = self.draw.sample(["string", "integer", "null", "boolean"], 2)
        return {"type": types, "maxLength": 5, "minimum": 0, "maximum": 50}

    def schema(self, depth):
        leaves = [self.string, self.string, self.integer, self.number, self.listed, self.several,
                  lambda: {"type": "boolean"}, lambda: {"type": "null"}]
        inner = [lambda: self.array(depth), lambda: self.object(depth), lambda: self.object(depth), lambda: self.union(depth)]
        if self.references and self.draw.random() < 0.15:
            return {"$ref": self.pick(self.references)}
        return self.annotate(self.pick(leaves if depth <= 0 else leaves + 3 * inner)())

    def document(self):
        self.references = []
        leaf = {"leaf": self.schema(0)}
        tree = {"type": "object", "properties": {"v": {"type": "integer", "minimum": 0, "maximum": 9}, "next": {
            "anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]}}, "required": ["v", "next"], "additionalProperties": False}
        self.references = ["#/$defs/leaf", "#/$defs/leaf", "#/$defs/tree"]
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "x", **self.object(DEPTH)}
        if '"$ref"' in json.dumps(schema):
            schema["$defs"] = {**leaf, "tree": tree}
        return schema


def field_of(index, schema):
    if index % 4 == 0:
        return {"structured_outputs": {"json": schema}}
    if index % 4 == 1:
        return {"guided_json": json.dumps(schema)}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": f"s{index}", "strict": True, "schema": schema}}}


def is_open(schema):
    """Whether any object in it may have members that it does not name."""
    if isinstance(schema, list):
        return any(is_open(value) for value in schema)
    return isinstance(schema, dict) and (
        isinstance(schema.get("additionalProperties"), dict) or any(is_open(value) for value in schema.values()))


def closing_bias():
    """The model likes to go on: where an object may have any number of members, its ends are made likelier."""
    model = os.path.join(os.path.dirname(__file__), "../../models/demo/tokenizer.json")
    vocabulary = json.load(open(model))["model"]["vocab"]
    commas = {str(token): -24 for text, token in vocabulary.items() if text[0] == ","}
    return {**commas, str(vocabulary['"']): 10, str(vocabulary["}"]): 4}


def write(path):
    generator = Generator(20261128)
    bias = closing_bias()
    with open(path, "w") as out:
        for index in range(SCHEMAS):
            schema = generator.document()
            body = {"prompt": "And the king said", "max_tokens": MAX_TOKENS, "temperature": 1, "top_p": 1, "seed": index,
                    **field_of(index, schema)}
            if is_open(schema):
                body["logit_bias"] = bias
            out.write(json.dumps({"custom_id": f"s{index}", "url": "/v1/completions", "body": body}) + "\n")


def schema_of(body):
    if "structured_outputs" in body:
        return body["structured_outputs"]["json"]
    if "guided_json" in body:
        return json.loads(body["guided_json"])
    return body["response_format"]["json_schema"]["schema"]


def keywords_of(schema, found):
    if isinstance(schema, dict):
        found.update(schema)
        for value in schema.values():
            keywords_of(value, found)
    elif isinstance(schema, list):
        for value in schema:
            keywords_of(value, found)
    return found


def check(requests, answers):
    import jsonschema
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    time = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
    host = r"[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*"

    def is_date_time(text):
        return datetime.date.fromisoformat(text[:10]) and re.fullmatch("T" + time, text[10:])

    checks = {"time": lambda text: re.fullmatch(time, text), "hostname": lambda text: re.fullmatch(host, text),
              "date-time": is_date_time}
    for name, holds in checks.items():
        checker.checks(name, ValueError)(lambda value, holds=holds: not isinstance(value, str) or bool(holds(value)))
    wrong, tokens, used = 0, 0, set()
    for line, answer in zip(open(requests), open(answers)):
        schema = schema_of(json.loads(line)["body"])
        answer = json.loads(answer)
        body = answer["response"]["body"]
        keywords_of(schema, used)
        if answer["response"]["status_code"] != 200:
            print(f"{answer['custom_id']}: refused: {body['error']['message']}\n  {json.dumps(schema)}")
            wrong += 1
            continue
        choice = body["choices"][0]
        tokens += body["usage"]["completion_tokens"]
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
            jsonschema.Draft202012Validator(schema, format_checker=checker).validate(json.loads(choice["text"]))
            assert choice["finish_reason"] == "stop", f"finish_reason {choice['finish_reason']}"
        except Exception as error:
            print(f"{answer['custom_id']}: {str(error).splitlines()[0]}\n  {choice['text']}\n  {json.dumps(schema)}")
            wrong += 1
    wanted = {"type", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems", "enum",
              "const", "anyOf", "oneOf", "allOf", "$ref", "$defs", "minLength", "maxLength", "pattern", "format", "minimum",
              "maximum", "exclusiveMinimum", "exclusiveMaximum"}
    missing = wanted - used
    print(f"{SCHEMAS} schemas, {tokens} tokens, {wrong} wrong; keywords without a schema: {sorted(missing) or 'none'}")
    return wrong > 0 or bool(missing)


def main():
    if sys.argv[1] == "write":
        return write(sys.argv[2])
    return check(sys.argv[2], sys.argv[3])


sys.exit(main())
