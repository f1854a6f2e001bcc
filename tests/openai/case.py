# SPDX-License-Identifier: BSD-3-Clause
"""What the suites share: the server of this run, clients that are recorded, and streams put together."""
import json
import unittest

import openai

import recording
import shapes
from server import TEMPLATE, Server

COMMON_FLAGS = ["--served-model-name", "demo", "--chat-template", str(TEMPLATE)]
TRANSCRIPT = recording.Transcript()
WORDS = "In the beginning God created the heaven and the earth."


class Shared:
    """One server for all suites of a run; special ones are started by those who need them."""

    layout = "one"
    server = None

    @classmethod
    def get(cls):
        if not cls.server:
            cls.server = Server(cls.layout, *COMMON_FLAGS)
        return cls.server

    @classmethod
    def stop(cls):
        if cls.server:
            cls.server.stop()
            cls.server = None


def open_client(server, **options):
    options.setdefault("api_key", server.key or "none")
    options.setdefault("max_retries", 0)
    return openai.OpenAI(base_url=server.endpoint["url"], **options)


class Case(unittest.TestCase):
    """A test against the shared server. `post` and `get` are plain HTTP, `client` is the SDK; all is recorded."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.server = Shared.get()
        cls.http = recording.client_of(TRANSCRIPT)
        cls.client = open_client(cls.server, http_client=recording.client_of(TRANSCRIPT))

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.http.close()

    def setUp(self):
        TRANSCRIPT.begin(self.id())

    def get(self, path, **options):
        return self.http.get(self.server.url + path, **options)

    def post(self, path, body, **options):
        return self.http.post(self.server.url + path, json=body, **options)

    def complete(self, **body):
        """A completion by plain HTTP, its shape checked; raw JSON."""
        reply = self.post("/v1/completions", {"model": "demo", **body})
        self.assertEqual(reply.status_code, 200, reply.text)
        shapes.check_completion(reply.json())
        return reply.json()

    def chat(self, **body):
        body.setdefault("messages", [{"role": "user", "content": WORDS}])
        reply = self.post("/v1/chat/completions", {"model": "demo", **body})
        self.assertEqual(reply.status_code, 200, reply.text)
        shapes.check_chat(reply.json())
        return reply.json()

    def refused(self, status, path, body, param=None, code=None, kind="invalid_request_error"):
        """An error reply with all its fields checked; the error object."""
        reply = self.post(path, body)
        self.assertEqual(reply.status_code, status, reply.text)
        error = shapes.check_error(reply.json())
        self.assertEqual((error.type, error.param, error.code), (kind, param, code), error.message)
        return error

    def stream(self, path, body):
        """The events of a stream as JSON, shapes checked; the end must be [DONE]."""
        reply = self.post(path, {"model": "demo", "stream": True, **body})
        self.assertEqual(reply.status_code, 200, reply.text)
        self.assertEqual(reply.headers["content-type"], "text/event-stream; charset=utf-8")
        self.assertTrue(reply.content.endswith(b"data: [DONE]\n\n"), reply.content[-200:])
        events = [json.loads(event) for event in recording.events_of(reply.content)[:-1]]
        look = shapes.check_chat_event if "chat" in path else shapes.check_completion_event
        for event in events:
            look(event)
        self.assertEqual(len({(event["id"], event["created"]) for event in events}), 1)
        return events
