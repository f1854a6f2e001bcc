# SPDX-License-Identifier: BSD-3-Clause
"""Clients whose requests and replies are written down, so that two layouts can be compared byte by byte.

Left out is what differs between two runs of one layout: ids, times, how much of a prompt was cached, and how the
choices of one stream alternate. A request that names no id of its own gets one, since default seeds come from it.
"""
import json
import re
import threading

import httpx2

VARYING = [
    (re.compile(rb'("(?:tool_call_)?id":")(?:cmpl|chatcmpl|call)[-_][^"]*"'), rb'\1*"'),
    (re.compile(rb'("created":)\d+'), rb"\1*"),
    (re.compile(rb'("cached_tokens":)\d+'), rb"\1*"),
]


def events_of(body):
    """The data of a stream's events, comments left out."""
    return [event[len(b"data: "):] for event in body.split(b"\n\n") if event.startswith(b"data: ")]


def choice_of(event):
    """Events of one choice keep their order; those of no choice come last."""
    choices = json.loads(event).get("choices") if event.startswith(b"{") else None
    return choices[0]["index"] if choices else 1 << 30


def without_varying(body, content_type):
    if content_type.startswith("text/event-stream"):
        body = b"\n".join(sorted(events_of(body), key=choice_of))
    for pattern, replacement in VARYING:
        body = pattern.sub(replacement, body)
    return body


class Transcript:
    """What was asked and answered, by the name of the test that asked."""

    def __init__(self):
        self.name = ""
        self.entries = []

    def begin(self, name):
        self.name = name
        self.asked = 0

    def next_id(self):
        self.asked += 1
        return f"{self.name}-{self.asked}"

    def write(self, path):
        with open(path, "wb") as out:
            for entry in self.entries:
                out.write(entry.text())


class Exchange:
    def __init__(self, request, name):
        self.request = f"{request.method} {request.url.raw_path.decode()}".encode()
        self.asked = request.read()
        self.name = name.encode()
        self.status = 0
        self.content_type = ""
        self.body = b""

    def text(self):
        body = without_varying(self.body, self.content_type)
        asked = without_varying(self.asked, "")
        parts = [b"== " + self.name, self.request, asked, b"-> %d" % self.status, body]
        return b"\n".join(parts) + b"\n"


class RecordedBody(httpx2.SyncByteStream):
    def __init__(self, stream, exchange):
        self.stream = stream
        self.exchange = exchange

    def __iter__(self):
        for part in self.stream:
            self.exchange.body += part
            yield part

    def close(self):
        self.stream.close()


class RecordingTransport(httpx2.HTTPTransport):
    def __init__(self, transcript):
        super().__init__()
        self.transcript = transcript
        self.lock = threading.Lock()

    def handle_request(self, request):
        with self.lock:
            name = self.transcript.next_id()
        request.headers.setdefault("X-Request-Id", name)
        request.headers["Accept-Encoding"] = "identity"
        exchange = Exchange(request, name)
        self.transcript.entries.append(exchange)
        response = super().handle_request(request)
        exchange.status = response.status_code
        exchange.content_type = response.headers.get("content-type", "")
        response.stream = RecordedBody(response.stream, exchange)
        return response


def client_of(transcript):
    return httpx2.Client(transport=RecordingTransport(transcript), timeout=60)
