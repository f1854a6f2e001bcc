# SPDX-License-Identifier: BSD-3-Clause
"""Refusals: status, type, param and code of each, and the SDK's exception for it."""
import openai

from case import WORDS, Case

PATH = "/v1/completions"


class Refusals(Case):
    def test_a_wrong_field_is_named(self):
        wrong = {
            "max_tokens": [-1, "a", 1.5, [], 2**40], "n": [0, -1, 129, "2"], "temperature": [-1, 101, "hot"],
            "top_p": [0, -0.1, 1.1], "logprobs": [-1, 21, True], "stop": ["", [""], [1], {}],
            "seed": ["a", 0.5], "stream": [1, "yes"], "presence_penalty": [-2.1, 2.1],
            "frequency_penalty": [3], "logit_bias": [[], {"a": 1}, {"1": "x"}, {"1": 101}],
            "echo": ["no"], "user": [7], "stop_token_ids": [1, ["a"], [-1]], "ignore_eos": [0],
            "min_p": [-1, 2], "repetition_penalty": [0, -1], "priority": ["high"],
        }
        for name, values in wrong.items():
            for value in values:
                with self.subTest(name=name, value=value):
                    self.refused(400, PATH, {"prompt": WORDS, name: value}, param=name)

    def test_a_wrong_prompt_is_refused(self):
        for prompt in ([], "", [[]], [""], 7, {"a": 1}, [-1], [2048], ["a", 1], [1.5], [True]):
            with self.subTest(prompt=prompt):
                self.refused(400, PATH, {"prompt": prompt}, param="prompt")
        self.refused(400, PATH, {}, param="prompt")

    def test_what_is_not_supported_is_refused(self):
        for name, value in {
            "suffix": "x", "best_of": 3, "use_beam_search": True, "prompt_logprobs": 1,
            "length_penalty": 1.5, "prompt_embeds": "a", "logits_processors": ["x"],
        }.items():
            with self.subTest(name=name):
                self.refused(400, PATH, {"prompt": WORDS, name: value}, param=name)

    def test_options_of_a_stream_need_a_stream(self):
        self.refused(400, PATH, {"prompt": "a", "stream_options": {"include_usage": True}}, param="stream_options")

    def test_a_prompt_beyond_the_context_is_told_so(self):
        self.refused(400, PATH, {"prompt": [5] * 2048}, param="prompt", code="context_length_exceeded")
        self.refused(
            400, PATH, {"prompt": [5] * 2000, "max_tokens": 49}, param="max_tokens",
            code="context_length_exceeded")
        self.complete(prompt=[5] * 2047, max_tokens=1)

    def test_another_model_is_not_found(self):
        self.refused(
            404, PATH, {"model": "gpt-4", "prompt": "a"}, param="model", code="model_not_found",
            kind="not_found_error")

    def test_a_refused_stream_is_an_error_not_a_stream(self):
        self.refused(400, PATH, {"prompt": "a", "stream": True, "n": 0}, param="n")

    def test_a_message_quotes_hostile_text_safely(self):
        error = self.refused(
            404, PATH, {"model": "\"\\\u2028" + "é" * 99, "prompt": "a"}, param="model",
            code="model_not_found", kind="not_found_error")
        self.assertIn("é", error.message)


class SdkExceptions(Case):
    def create(self, **body):
        return self.client.completions.create(**{"model": "demo", "prompt": "a", **body})

    def test_a_bad_field_is_bad_request(self):
        with self.assertRaises(openai.BadRequestError) as raised:
            self.create(n=0)
        fault = raised.exception
        self.assertEqual((fault.status_code, fault.param, fault.code), (400, "n", None))
        self.assertEqual(fault.type, "invalid_request_error")
        self.assertIn("'n' is 0", fault.message)
        self.assertTrue(fault.request_id)

    def test_another_model_is_not_found(self):
        with self.assertRaises(openai.NotFoundError) as raised:
            self.create(model="other")
        self.assertEqual((raised.exception.code, raised.exception.param), ("model_not_found", "model"))

    def test_an_unknown_path_is_not_found(self):
        with self.assertRaises(openai.NotFoundError):
            self.client.embeddings.create(model="demo", input="a")

    def test_a_stream_that_is_refused_raises_at_once(self):
        with self.assertRaises(openai.BadRequestError):
            self.create(stream=True, temperature=-1)
