#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Listens to a server's KV events as llm-d's scheduler does, and holds each message against the contract
(docs/kv-events.md; written from vLLM's kv_events.py and llm-d-router's vllm_adapter.go).

    kv_events.py ENDPOINT TOPIC [--replay ENDPOINT] [--url http://HOST:PORT] [--block-size 16] [--seconds 5]

With --url it sends a prompt of token ids and waits until its whole blocks were announced. With --replay it fetches
what came before it listened, and afterwards compares what it heard with what is replayed. Needs pyzmq and msgpack.
Exit code 1 and one line for each breach.
"""
import argparse
import json
import sys
import time
import urllib.request

import msgpack
import zmq

END = 0xFFFFFFFFFFFFFFFF
STORED = ["block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium", "lora_name",
          "extra_keys", "group_idx", "kv_cache_spec_kind", "kv_cache_spec_sliding_window"]
REMOVED = ["block_hashes", "medium", "group_idx"]
FIELDS = {"BlockStored": STORED, "BlockRemoved": REMOVED, "AllBlocksCleared": []}
MEDIA = {"GPU", "CPU", "SHARED_STORAGE", "OBJECT_STORE", None}


def is_hash(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64


class Mirror:
    """What each rank holds, from the events alone."""

    def __init__(self, topic, block_size):
        self.topic, self.block_size = topic.encode(), block_size
        self.faults, self.messages, self.complete = [], {}, False
        self.held = {}  # rank -> {hash: tokens from the beginning, or None}

    def fault(self, sequence, text):
        self.faults.append(f"message {sequence}: {text}")

    def take(self, frames):
        if len(frames) != 3 or len(frames[1]) != 8:
            return self.fault("?", f"frames of {[len(f) for f in frames]} bytes")
        sequence = int.from_bytes(frames[1], "big")
        if frames[0] != self.topic:
            self.fault(sequence, f"the topic is {frames[0]!r}")
        if sequence in self.messages:
            return None
        if self.messages and sequence != max(self.messages) + 1:
            self.fault(sequence, f"comes after {max(self.messages)}")
            self.complete = False
        self.messages[sequence] = frames[2]
        return self.payload(sequence, msgpack.unpackb(frames[2], strict_map_key=False))

    def payload(self, sequence, whole):
        if not isinstance(whole, list) or len(whole) != 3:
            return self.fault(sequence, f"the payload is no [ts, events, rank]: {whole!r}")
        stamp, events, rank = whole
        if not isinstance(stamp, float) or abs(stamp - time.time()) > 3600:
            self.fault(sequence, f"the time is {stamp!r}")
        if not (rank is None or isinstance(rank, int)) or not isinstance(events, list) or not events:
            return self.fault(sequence, f"rank {rank!r}, events {events!r}")
        for event in events:
            self.event(sequence, self.held.setdefault(rank, {}), event)

    def event(self, sequence, held, event):
        if isinstance(event, list) and event and event[0] in FIELDS:
            event = {"type": event[0], **dict(zip(FIELDS[event[0]], event[1:]))}
        kind = event.get("type") if isinstance(event, dict) else None
        if kind not in FIELDS or not set(event) <= {"type", *FIELDS[kind]}:
            return self.fault(sequence, f"no event: {event!r}")
        if kind == "AllBlocksCleared":
            return held.clear()
        hashes = event.get("block_hashes")
        if not isinstance(hashes, list) or not hashes or not all(map(is_hash, hashes)):
            return self.fault(sequence, f"block_hashes are {hashes!r}")
        if event.get("medium") not in MEDIA or event.get("group_idx") is not None:
            self.fault(sequence, f"medium {event.get('medium')!r}, group_idx {event.get('group_idx')!r}")
        if kind == "BlockStored":
            self.stored(sequence, held, hashes, event)
            return None
        for each in hashes:
            if each not in held and self.complete:
                self.fault(sequence, f"removes {each:#x}, which is not held")
            held.pop(each, None)

    def stored(self, sequence, held, hashes, event):
        size, tokens, parent = event["block_size"], event["token_ids"], event["parent_block_hash"]
        if size != self.block_size or len(tokens) != size * len(hashes):
            return self.fault(sequence, f"{len(hashes)} blocks of {size} have {len(tokens)} tokens")
        if not all(isinstance(t, int) and 0 <= t < 1 << 31 for t in tokens):
            self.fault(sequence, f"token_ids are {tokens!r}")
        keys = event.get("extra_keys")
        if keys is not None and (len(keys) != len(hashes) or not all(k is None or isinstance(k, list) for k in keys)):
            self.fault(sequence, f"extra_keys are {keys!r}")
        if parent is not None and not is_hash(parent):
            self.fault(sequence, f"the parent is {parent!r}")
        if parent is not None and parent not in held and self.complete:
            self.fault(sequence, f"the parent {parent:#x} is not held")
        before = [] if parent is None else held.get(parent)
        for i, each in enumerate(hashes):
            if each in held and self.complete:
                self.fault(sequence, f"stores {each:#x} twice")
            before = None if before is None else before + tokens[i * size:(i + 1) * size]
            held[each] = before

    def holds(self, prompt):
        whole = len(prompt) // self.block_size
        ends = [prompt[:(i + 1) * self.block_size] for i in range(whole)]
        return any(all(end in held.values() for end in ends) for held in self.held.values())


def replay(context, endpoint, begin):
    """[(sequence, payload)] up to the end marker."""
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.RCVTIMEO, 5000)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    socket.send_multipart([b"", begin.to_bytes(8, "big")])
    got = []
    while True:
        frames = socket.recv_multipart()
        sequence = int.from_bytes(frames[-2], "big")
        if sequence == END:
            assert frames[-1] == b"", "the end marker has a payload"
            socket.close()
            return got
        got.append((sequence, frames[-1]))


def complete(url, prompt):
    body = json.dumps({"model": model_of(url), "prompt": prompt, "max_tokens": 1}).encode()
    request = urllib.request.Request(url + "/v1/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def model_of(url):
    with urllib.request.urlopen(url + "/v1/models", timeout=10) as reply:
        return json.load(reply)["data"][0]["id"]


def listen(subscriber, mirror, seconds, enough):
    end = time.monotonic() + seconds
    while time.monotonic() < end and not enough():
        if subscriber.poll(50):
            mirror.take(subscriber.recv_multipart())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("endpoint")
    parser.add_argument("topic")
    parser.add_argument("--replay")
    parser.add_argument("--url")
    parser.add_argument("--block-size", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    context = zmq.Context()
    subscriber = context.socket(zmq.SUB)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"kv@")
    subscriber.connect(options.endpoint)
    time.sleep(0.3)
    mirror = Mirror(options.topic, options.block_size)
    if options.replay:
        for sequence, payload in replay(context, options.replay, 0):
            mirror.complete = mirror.complete or sequence == 0
            mirror.take([options.topic.encode(), sequence.to_bytes(8, "big"), payload])
    prompt = []
    if options.url:
        prompt = [7 + (i * i + int(time.time())) % 200 for i in range(3 * options.block_size + 1)]
        complete(options.url.rstrip("/"), prompt)
    listen(subscriber, mirror, options.seconds, lambda: bool(prompt) and mirror.holds(prompt))
    faults = mirror.faults
    if prompt and not mirror.holds(prompt):
        faults.append("the blocks of the prompt were not announced")
    if not mirror.messages:
        faults.append("no message came")
    if options.replay:
        for sequence, payload in replay(context, options.replay, min(mirror.messages, default=0)):
            if mirror.messages.get(sequence, payload) != payload:
                faults.append(f"message {sequence} is replayed otherwise than it was sent")
    for fault in faults:
        print(fault)
    held = sum(map(len, mirror.held.values()))
    print(f"KV events: {len(mirror.messages)} messages, {held} blocks held, {len(faults)} breaches")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
