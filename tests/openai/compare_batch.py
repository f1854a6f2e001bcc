# SPDX-License-Identifier: BSD-3-Clause
"""Asks a server what `polyreme batch` has answered, whole and streamed: text, tokens, logprobs, reasons and usage must be
equal, numbers by their digits. compare_batch.py REQUESTS ANSWERS LAYOUT [FLAG...]; exit code 1 if anything differs.

The id of a batch line is the request's id, so the seeds that nobody gave are the same too.
"""
import concurrent.futures
import copy
import json
import pathlib
import sys

import httpx2

import recording
from server import Server

CLIENTS = 6


class Number(str):
    """A number as it is written: 1.0 and 1.00 differ."""


def read(text):
    return json.loads(text, parse_float=Number, parse_int=Number)


def usage_of(usage):
    return {name: usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}


def essence(body):
    return {"object": body["object"], "model": body["model"], "choices": body["choices"], "usage": usage_of(body["usage"])}


def without_ids(reply):
    """Ids of tool calls are made from the reply's, which a batch chooses otherwise."""
    told = copy.deepcopy(reply)
    for choice in told["choices"]:
        for call in choice.get("message", {}).get("tool_calls", []):
            call["id"] = "*"
    return told


def add_calls(message, pieces):
    """Tool calls come as pieces with an index each; their arguments grow."""
    for piece in pieces:
        calls = message.setdefault("tool_calls", [])
        at = int(piece["index"])
        if at == len(calls):
            calls.append({name: value for name, value in piece.items() if name != "index"})
        else:
            calls[at]["function"]["arguments"] += piece["function"]["arguments"]


def add_logprobs(whole, piece):
    if piece is None:
        return whole
    whole = whole or {name: [] for name in piece}
    for name, values in piece.items():
        whole[name] = whole[name] + values if values is not None else None
    return whole


def add_piece(choice, piece):
    if "text" in piece:
        choice["text"] = choice.get("text", "") + piece["text"]
    else:
        message = choice.setdefault("message", {"role": None, "content": None, "refusal": None})
        delta = dict(piece["delta"])
        add_calls(message, delta.pop("tool_calls", None) or [])
        message["role"] = delta.pop("role", message["role"])
        for name, text in delta.items():
            if text is not None:
                message[name] = (message.get(name) or "") + text
    choice["logprobs"] = add_logprobs(choice.get("logprobs"), piece["logprobs"])
    for name in ("index", "finish_reason", "stop_reason"):
        choice[name] = piece[name]


def joined(events):
    """The whole reply that the events of a stream make."""
    choices = {}
    for event in events:
        for piece in event["choices"]:
            add_piece(choices.setdefault(piece["index"], {}), piece)
    last = events[-1]
    kinds = {"chat.completion.chunk": "chat.completion"}
    return {
        "object": kinds.get(last["object"], last["object"]), "model": last["model"],
        "choices": [choices[index] for index in sorted(choices, key=int)], "usage": usage_of(last["usage"])}


def first_difference(a, b, path="reply"):
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return next(filter(None, (first_difference(a[key], b[key], f"{path}.{key}") for key in a)), None)
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        pairs = enumerate(zip(a, b))
        return next(filter(None, (first_difference(x, y, f"{path}[{i}]") for i, (x, y) in pairs)), None)
    return None if a == b else f"{path}: {a!r:.300} is not {b!r:.300}"


def ask(http, url, line):
    """What differs between the batch's answer and the server's two."""
    request, answer = line
    body, headers = request["body"], {"X-Request-Id": request["custom_id"]}
    expected = answer["response"]["body"]
    whole = http.post(url + request["url"], json=body, headers=headers)
    if int(answer["response"]["status_code"]) != 200:
        return [first_difference(expected, read(whole.content), "error")]
    if whole.status_code != 200:
        return [f"status {whole.status_code}: {whole.text:.300}"]
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    stream = http.post(url + request["url"], json=streamed, headers=headers)
    if not stream.content.endswith(b"data: [DONE]\n\n"):
        return [f"the stream does not end: {stream.text[-300:]}"]
    events = [read(event) for event in recording.events_of(stream.content)[:-1]]
    whole = essence(read(whole.content))
    return [
        first_difference(without_ids(essence(expected)), without_ids(whole), "whole"),
        first_difference(whole, joined(events), "streamed")]


def main():
    requests, answers, layout, *flags = sys.argv[1:]
    lines = {answer["custom_id"]: answer for answer in map(read, pathlib.Path(answers).read_text().splitlines())}
    asked = [json.loads(line) for line in pathlib.Path(requests).read_text().splitlines()]
    failures = 0
    server = Server(layout, *flags)
    with httpx2.Client(timeout=120) as http, concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
        pairs = [(request, lines[request["custom_id"]]) for request in asked]
        for (request, _), found in zip(pairs, clients.map(lambda pair: ask(http, server.url, pair), pairs)):
            for difference in filter(None, found):
                failures += 1
                print(f"  {request['custom_id']}: {difference}")
    server.stop()
    print(f"{layout}: {len(asked)} requests whole and streamed, {failures} differ from the batch's answers")
    return 1 if failures or not asked else 0


sys.exit(main())
