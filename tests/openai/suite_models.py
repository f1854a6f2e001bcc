# SPDX-License-Identifier: BSD-3-Clause
"""What is served, paths and methods, bodies that are none, ids of requests, text to tokens and back."""
import shapes
from case import WORDS, Case


class Models(Case):
    def test_the_list_has_the_model_with_root_and_context(self):
        reply = self.get("/v1/models")
        self.assertEqual(reply.status_code, 200)
        self.assertEqual((set(reply.json()), reply.json()["object"]), ({"object", "data"}, "list"))
        (model,) = reply.json()["data"]
        shapes.check_model(model)
        self.assertEqual((model["id"], model["max_model_len"]), ("demo", 2048))
        self.assertTrue(model["root"].endswith("models/demo"))

    def test_the_sdk_lists_and_retrieves_the_model(self):
        self.assertEqual([model.id for model in self.client.models.list()], ["demo"])
        self.assertEqual(self.client.models.retrieve("demo").id, "demo")

    def test_another_model_is_not_found(self):
        reply = self.get("/v1/models/other")
        self.assertEqual(reply.status_code, 404)
        self.assertEqual(shapes.check_error(reply.json()).code, "model_not_found")


class Paths(Case):
    def test_an_unknown_path_is_404_with_an_error_object(self):
        reply = self.get("/v1/nothing")
        self.assertEqual(reply.status_code, 404)
        self.assertEqual(shapes.check_error(reply.json()).type, "not_found_error")

    def test_another_method_is_405_and_told_what_is_allowed(self):
        reply = self.get("/v1/completions")
        self.assertEqual((reply.status_code, reply.headers["allow"]), (405, "POST"))
        shapes.check_error(reply.json())

    def test_head_answers_as_get_without_a_body(self):
        whole = self.get("/v1/models")
        head = self.http.head(self.server.url + "/v1/models")
        self.assertEqual((head.status_code, head.content), (200, b""))
        self.assertEqual(head.headers["content-length"], whole.headers["content-length"])

    def test_health_version_and_load_answer(self):
        self.assertEqual((self.get("/health").status_code, self.get("/ping").status_code), (200, 200))
        self.assertRegex(self.get("/version").json()["version"], r"^\d+\.\d+")
        self.assertEqual(self.get("/load").json(), {"server_load": 0})


class Bodies(Case):
    def send(self, content, **headers):
        return self.http.post(self.server.url + "/v1/completions", content=content, headers=headers)

    def test_what_is_not_json_is_refused_with_the_place(self):
        for content in (b"", b"{", b'{"prompt": "a",}', b"prompt=a", b'{"prompt": "\xff"}'):
            reply = self.send(content)
            self.assertEqual(reply.status_code, 400, content)
            error = shapes.check_error(reply.json())
            self.assertEqual((error.type, error.code), ("invalid_request_error", None))
            self.assertIn("JSON", error.message)

    def test_json_that_is_no_object_is_refused(self):
        for content in (b"[]", b'"a"', b"1", b"null"):
            reply = self.send(content)
            self.assertEqual(reply.status_code, 400, content)
            shapes.check_error(reply.json())

    def test_chunked_bodies_are_taken(self):
        def parts():
            for byte in b'{"prompt":"In the","max_tokens":1,"temperature":0}':
                yield bytes([byte])

        reply = self.http.post(self.server.url + "/v1/completions", content=parts())
        self.assertEqual(reply.status_code, 200, reply.text)
        shapes.check_completion(reply.json())

    def test_unknown_fields_are_ignored(self):
        plain = self.complete(prompt=WORDS, max_tokens=4, temperature=0)
        more = self.complete(
            prompt=WORDS, max_tokens=4, temperature=0, store=True, metadata={"a": "b"}, nothing=[1])
        self.assertEqual(plain["choices"], more["choices"])

    def test_null_is_absent(self):
        plain = self.complete(prompt=WORDS, max_tokens=4, temperature=0)
        nulls = self.complete(
            prompt=WORDS, max_tokens=4, temperature=0, stop=None, n=None, logprobs=None, seed=None,
            stream=None, stream_options=None, suffix=None, echo=None, logit_bias=None, user=None,
            best_of=None, top_p=None, presence_penalty=None, frequency_penalty=None)
        self.assertEqual(plain["choices"], nulls["choices"])


class RequestIds(Case):
    def ask(self, **headers):
        reply = self.post("/v1/completions", {"prompt": "a", "max_tokens": 1}, headers=headers)
        self.assertEqual(reply.status_code, 200, reply.text)
        return reply

    def test_a_given_id_is_echoed_and_in_the_reply(self):
        reply = self.ask(**{"X-Request-Id": "mine-7"})
        self.assertEqual(reply.headers["x-request-id"], "mine-7")
        self.assertEqual(reply.json()["id"], "cmpl-mine-7")

    def test_an_error_echoes_it_too(self):
        reply = self.post("/v1/completions", {}, headers={"X-Request-Id": "mine-8"})
        self.assertEqual((reply.status_code, reply.headers["x-request-id"]), (400, "mine-8"))

    def test_the_sdk_sees_it(self):
        reply = self.client.completions.create(
            model="demo", prompt="a", max_tokens=1, extra_headers={"X-Request-Id": "mine-9"})
        self.assertEqual(reply._request_id, "mine-9")

    def test_the_same_id_draws_the_same_tokens(self):
        def text(name):
            body = {"prompt": WORDS, "max_tokens": 12, "temperature": 1}
            reply = self.post("/v1/completions", body, headers={"X-Request-Id": name})
            return reply.json()["choices"][0]["text"]

        self.assertEqual(text("one"), text("one"))
        self.assertNotEqual(text("one"), text("two"))


class Tokens(Case):
    def test_tokens_of_a_text_give_the_text_back(self):
        for prompt in (WORDS, "naïve 文字 🙂\n", " "):
            told = self.post("/tokenize", {"prompt": prompt}).json()
            self.assertEqual((told["count"], told["max_model_len"]), (len(told["tokens"]), 2048))
            back = self.post("/detokenize", {"tokens": told["tokens"]}).json()
            self.assertEqual(back, {"prompt": prompt})

    def test_token_strings_come_on_request(self):
        told = self.post("/tokenize", {"prompt": "In the", "return_token_strs": True}).json()
        self.assertEqual("".join(told["token_strs"]), "In the")

    def test_a_chat_is_tokenised_through_its_template(self):
        body = {"messages": [{"role": "user", "content": "Hi"}]}
        tokens = self.post("/tokenize", body).json()["tokens"]
        text = self.post("/detokenize", {"tokens": tokens}).json()["prompt"]
        self.assertEqual(text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
        usage = self.chat(max_tokens=1, **body)["usage"]
        self.assertEqual(usage["prompt_tokens"], len(tokens))

    def test_user_text_cannot_become_a_special_token(self):
        body = {"messages": [{"role": "user", "content": "<|im_end|>"}]}
        tokens = self.post("/tokenize", body).json()["tokens"]
        text = self.post("/detokenize", {"tokens": tokens}).json()["prompt"]
        special = self.post("/tokenize", {"prompt": "<|im_end|>"}).json()["tokens"]
        self.assertEqual(len(special), 1)
        self.assertEqual(text.count("<|im_end|>"), 2)
        self.assertEqual(tokens.count(special[0]), 1)

    def test_the_tokenizer_tells_its_eos_and_template(self):
        told = self.get("/tokenizer_info").json()
        self.assertEqual(told["eos_token"], "<|endoftext|>")
        self.assertIn("<tool_call>", told["chat_template"])

    def test_render_gives_the_tokens_of_a_request(self):
        reply = self.post("/v1/completions/render", {"prompt": WORDS})
        self.assertEqual(reply.status_code, 200, reply.text)
        tokens = self.post("/tokenize", {"prompt": WORDS}).json()["tokens"]
        self.assertIn(str(tokens).replace(" ", ""), reply.text.replace(" ", ""))
