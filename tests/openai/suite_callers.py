# SPDX-License-Identifier: BSD-3-Clause
"""The calls that `vllm bench serve` and guidellm make, in their order and read as they read them.

Written from descriptions of those clients, not run with them. The places described: vllm-project/vllm vllm/benchmarks/{serve.py,lib/endpoint_request_func.py,lib/ready_checker.py};
vllm-project/guidellm src/guidellm/backends/openai/{http,request_handlers}.py.
"""
import json

import httpx2

from case import WORDS, Case


class VllmBench(Case):
    def read_stream(self, path, body):
        """As its request functions do: text, the number of timed events, and the tokens that usage tells."""
        text, events, tokens = "", 0, None
        with self.http.stream("POST", self.server.url + path, json=body, headers={"Authorization": "Bearer none"}) as reply:
            self.assertEqual(reply.status_code, 200)
            for message in reply.read().decode().split("\n\n"):
                if not message.strip() or message.startswith(":"):
                    continue
                chunk = message.removeprefix("data: ")
                if chunk == "[DONE]":
                    continue
                data = json.loads(chunk)
                if choices := data.get("choices"):
                    events += 1
                    text += choices[0].get("text") or choices[0].get("delta", {}).get("content") or ""
                elif usage := data.get("usage"):
                    tokens = usage["completion_tokens"]
        return text, events, tokens

    def body(self, **more):
        return {"model": "demo", "repetition_penalty": 1.0, "temperature": 0.0, "logprobs": None, "stream": True,
                "stream_options": {"include_usage": True}, "ignore_eos": True, **more}

    def test_completions(self):
        (model,) = self.get("/v1/models").json()["data"]
        self.assertTrue(model["id"] and model["root"])
        tokens = self.post("/tokenize", {"model": "demo", "prompt": WORDS, "add_special_tokens": False}).json()["tokens"]
        prompt = self.post("/detokenize", {"model": "demo", "tokens": tokens[:12]}).json()["prompt"]
        for output in (1, 16):  # the ready check is a request like the others
            text, events, told = self.read_stream("/v1/completions", self.body(prompt=prompt, max_tokens=output))
            self.assertEqual((events, told), (output, output))
            self.assertTrue(text)

    def test_chats(self):
        messages = [{"role": "user", "content": [{"type": "text", "text": WORDS}]}]
        body = self.body(messages=messages, max_completion_tokens=16)
        _, events, told = self.read_stream("/v1/chat/completions", body)
        self.assertEqual((events, told), (16, 16))

    def test_metrics_are_there_and_profiles_are_not(self):
        metrics = httpx2.get(self.server.url + "/metrics")  # not recorded: it differs from run to run
        self.assertEqual(metrics.status_code, 200)
        self.assertIn("vllm:", metrics.text)
        self.assertEqual(self.post("/start_profile", {}).status_code, 404)


class GuideLlm(Case):
    OPTIONS = {"include_usage": True, "continuous_usage_stats": True}

    def read_stream(self, path, body):
        """As its handlers do: each non-empty text is a token, the last usage counts."""
        texts, usage = [], None
        reply = self.post(path, body)
        self.assertEqual(reply.status_code, 200, reply.text)
        for line in reply.text.splitlines():
            if not line.startswith("data:") or line.strip() == "data: [DONE]":
                continue
            data = json.loads(line.removeprefix("data:").strip())
            self.assertNotIn("error", data)
            usage = data.get("usage") or usage
            for choice in data.get("choices", []):
                texts.append(choice.get("text") or choice.get("delta", {}).get("content") or "")
        return [text for text in texts if text], usage

    def test_it_asks_for_health_and_models_first(self):
        self.assertEqual(self.get("/health").status_code // 100, 2)
        self.assertEqual(self.get("/v1/models").json()["data"][0]["id"], "demo")

    def test_chats(self):
        messages = [{"role": "user", "content": [{"type": "text", "text": WORDS}]}]
        texts, usage = self.read_stream("/v1/chat/completions", {
            "model": "demo", "messages": messages, "stream": True, "stream_options": self.OPTIONS,
            "max_completion_tokens": 12, "max_tokens": 12, "stop": None, "ignore_eos": True, "temperature": 0})
        self.assertEqual((len(texts), usage["completion_tokens"]), (12, 12))

    def test_completions(self):
        texts, usage = self.read_stream("/v1/completions", {
            "model": "demo", "prompt": WORDS, "stream": True, "stream_options": self.OPTIONS, "max_tokens": 12,
            "stop": None, "ignore_eos": True, "temperature": 0})
        self.assertEqual((len(texts), usage["completion_tokens"]), (12, 12))
        self.assertEqual(usage["prompt_tokens"] + 12, usage["total_tokens"])
