# SPDX-License-Identifier: BSD-3-Clause
"""Load, keys, origins, clients that leave, and the end: each on a server of its own that is started for it."""
import concurrent.futures
import http.client
import threading
import time
import unittest

import httpx2
import openai

import shapes
from case import COMMON_FLAGS, Shared, open_client
from server import Server

LONG = {"model": "demo", "prompt": "In the beginning", "max_tokens": 1800, "ignore_eos": True, "stream": True}
SHORT = {"model": "demo", "prompt": "In the beginning", "max_tokens": 2}


class LongStream:
    """A stream whose first event is here; close it to leave."""

    def __init__(self, client, url):
        request = client.build_request("POST", url + "/v1/completions", json=LONG)
        self.reply = client.send(request, stream=True)
        self.parts = self.reply.iter_bytes()
        next(self.parts)

    def close(self):
        self.reply.close()


class Served(unittest.TestCase):
    flags = []
    environment = {}

    @classmethod
    def setUpClass(cls):
        cls.server = Server(Shared.layout, *COMMON_FLAGS, *cls.flags, environment=cls.environment)
        cls.http = httpx2.Client(timeout=60)

    @classmethod
    def tearDownClass(cls):
        cls.http.close()
        cls.server.stop()

    def post(self, body, **headers):
        return self.http.post(self.server.url + "/v1/completions", json=body, headers=headers)

    def begin_long(self):
        return LongStream(self.http, self.server.url)


class Overload(Served):
    flags = ["--max-queue", "1"]

    def test_beyond_the_queue_is_429_with_retry_after(self):
        long = self.begin_long()
        reply = self.post(SHORT)
        long.close()
        self.assertEqual(reply.status_code, 429)
        self.assertGreaterEqual(int(reply.headers["retry-after"]), 1)
        self.assertEqual(reply.headers["x-llm-d-request-dropped-reason"], "rejected-saturated")
        self.assertEqual(shapes.check_error(reply.json()).type, "rate_limit_error")
        self.assertTrue(self.server.wait_for_load(0))

    def test_the_sdk_raises_rate_limit_error_without_retries(self):
        long = self.begin_long()
        with open_client(self.server) as client, self.assertRaises(openai.RateLimitError):
            client.completions.create(**SHORT)
        long.close()
        self.assertTrue(self.server.wait_for_load(0))

    def test_a_client_that_retries_gets_through(self):
        long = self.begin_long()
        leaves = threading.Timer(0.5, long.close)
        leaves.start()
        with open_client(self.server, max_retries=5) as client:
            reply = client.completions.with_raw_response.create(**SHORT)
        leaves.join()
        self.assertGreaterEqual(reply.retries_taken, 1)
        self.assertEqual(reply.parse().usage.completion_tokens, 2)

    def test_choices_count_against_the_queue(self):
        reply = self.post({**SHORT, "n": 2})
        self.assertNotEqual(reply.status_code, 200)
        shapes.check_error(reply.json())
        self.assertEqual(self.server.load(), 0)


class Leaving(Served):
    def test_a_closed_stream_frees_its_sequences(self):
        streams = [self.begin_long() for _ in range(3)]
        self.assertEqual(self.server.load(), 3)
        for stream in streams:
            stream.close()
        self.assertTrue(self.server.wait_for_load(0, within_s=3))
        self.assertEqual(self.post(SHORT).status_code, 200)

    def test_a_closed_whole_request_is_cancelled_too(self):
        connection = http.client.HTTPConnection(self.server.url.removeprefix("http://"))
        body = str({**LONG, "stream": False, "n": 4}).replace("'", '"').replace("True", "true").replace("False", "false")
        connection.request("POST", "/v1/completions", body)
        self.assertTrue(self.server.wait_for_load(4))
        connection.close()
        self.assertTrue(self.server.wait_for_load(0, within_s=3))

    def test_the_sdk_can_close_a_stream(self):
        with open_client(self.server) as client:
            stream = client.completions.create(
                **{name: value for name, value in LONG.items() if name != "ignore_eos"}, extra_body={"ignore_eos": True})
            self.assertTrue(next(stream).choices)
            stream.close()
        self.assertTrue(self.server.wait_for_load(0, within_s=3))

    def test_who_stays_is_not_disturbed_by_who_leaves(self):
        body = {**SHORT, "max_tokens": 60, "temperature": 0, "ignore_eos": True}
        alone = self.post(body).json()["choices"]
        with concurrent.futures.ThreadPoolExecutor(4) as clients:
            staying = [clients.submit(self.post, body) for _ in range(4)]
            for _ in range(4):
                self.begin_long().close()
            for reply in staying:
                self.assertEqual(reply.result().json()["choices"], alone)
        self.assertTrue(self.server.wait_for_load(0))


class Keys(Served):
    flags = ["--api-key", "first", "--api-key", "second"]

    def status(self, path, **headers):
        return self.http.get(self.server.url + path, headers=headers).status_code

    def test_without_a_key_there_is_nothing_but_health(self):
        for path, status in {"/v1/models": 401, "/tokenizer_info": 401, "/load": 401, "/health": 200, "/version": 200}.items():
            self.assertEqual(self.status(path), status, path)

    def test_the_error_names_the_header(self):
        reply = self.post(SHORT)
        error = shapes.check_error(reply.json())
        self.assertEqual((reply.status_code, error.type, error.code), (401, "authentication_error", "invalid_api_key"))
        self.assertEqual(reply.headers["www-authenticate"], "Bearer")

    def test_each_key_opens(self):
        for key in ("first", "second"):
            self.assertEqual(self.status("/v1/models", Authorization=f"Bearer {key}"), 200)

    def test_others_do_not(self):
        for value in ("Bearer third", "Bearer first2", "Bearer firs", "Bearer", "Basic first", "first", "Bearer first second"):
            self.assertEqual(self.status("/v1/models", Authorization=value), 401, value)

    def test_the_sdk_raises_authentication_error(self):
        with open_client(self.server, api_key="wrong") as client:
            with self.assertRaises(openai.AuthenticationError) as raised:
                client.models.list()
        self.assertEqual(raised.exception.code, "invalid_api_key")
        with open_client(self.server, api_key="first") as client:
            self.assertEqual(client.completions.create(**SHORT).usage.completion_tokens, 2)


class Origins(Served):
    flags = ["--cors-origin", "https://pages.example"]

    def test_a_preflight_from_the_allowed_origin_is_answered(self):
        reply = self.http.options(self.server.url + "/v1/chat/completions", headers={
            "Origin": "https://pages.example", "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type"})
        self.assertIn(reply.status_code, (200, 204))
        self.assertEqual(reply.headers["access-control-allow-origin"], "https://pages.example")
        self.assertIn("POST", reply.headers["access-control-allow-methods"])
        self.assertIn("authorization", reply.headers["access-control-allow-headers"].lower())

    def test_replies_to_it_carry_the_origin(self):
        reply = self.post(SHORT, Origin="https://pages.example")
        self.assertEqual(reply.status_code, 200)
        self.assertEqual(reply.headers["access-control-allow-origin"], "https://pages.example")

    def test_another_origin_is_refused(self):
        reply = self.post(SHORT, Origin="https://elsewhere.example")
        self.assertEqual(reply.status_code, 403)
        self.assertEqual(shapes.check_error(reply.json()).code, "foreign_origin")

    def test_a_page_that_knows_this_machine_by_another_name_is_refused_where_no_key_is_needed(self):
        for host, status in {"rebound.example:80": 403, "localhost:80": 200, "127.0.0.1:80": 200, "[::1]:80": 200}.items():
            self.assertEqual(self.post(SHORT, Origin="http://" + host, Host=host).status_code, status, host)


class End(unittest.TestCase):
    """Draining: open streams finish, new requests get 503, every rank ends with 0."""

    def drain_with_a_stream(self, ask):
        server = Server(Shared.layout, *COMMON_FLAGS)
        body = {**LONG, "max_tokens": 300, "temperature": 0}
        with httpx2.Client(timeout=60) as client:
            with client.stream("POST", server.url + "/v1/completions", json=body) as stream:
                parts = stream.iter_bytes()
                text = next(parts)
                ask(server)
                refused = self.ask_until_refused(server)
                for part in parts:
                    text += part
        self.assertTrue(text.endswith(b"data: [DONE]\n\n"), text[-200:])
        self.assertIn(b'"finish_reason":"length"', text)
        if refused is not None:
            self.assertEqual(refused.status_code, 503)
            self.assertIn("retry-after", refused.headers)
            self.assertEqual(shapes.check_error(refused.json()).type, "overloaded_error")
        self.assertEqual(server.wait(), 0)
        return refused

    def ask_until_refused(self, server):
        """The first reply that is not 200; None when the run was over before."""
        for _ in range(50):
            try:
                reply = httpx2.post(server.url + "/v1/completions", json=SHORT)
            except httpx2.HTTPError:
                return None
            if reply.status_code != 200:
                return reply
            time.sleep(0.01)
        self.fail("a draining server takes requests")

    def test_sigterm_lets_streams_finish(self):
        self.drain_with_a_stream(lambda server: server.ask_to_end())

    def test_drain_lets_streams_finish(self):
        def ask(server):
            self.assertEqual(httpx2.post(server.url + "/v1/polyreme/drain").status_code, 200)

        self.drain_with_a_stream(ask)

    def test_a_retrying_client_gives_up_with_the_servers_words(self):
        # The slowest kernels: the server must still be draining when the client tries again.
        server = Server(Shared.layout, *COMMON_FLAGS, "--cpu-isa", "reference")
        with httpx2.Client(timeout=60) as http, open_client(server, max_retries=1) as client:
            with http.stream("POST", server.url + "/v1/completions", json={**LONG, "n": 16}) as stream:
                parts = stream.iter_bytes()
                next(parts)
                server.ask_to_end()
                self.ask_until_refused(server)
                with self.assertRaises(openai.InternalServerError) as raised:
                    client.completions.create(**SHORT)
        self.assertEqual((raised.exception.status_code, raised.exception.type), (503, "overloaded_error"))
        self.assertEqual(server.wait(), 0)
