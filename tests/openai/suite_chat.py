# SPDX-License-Identifier: BSD-3-Clause
"""/v1/chat/completions: messages, choices, logprobs, stops, streams."""
import openai

from case import WORDS, Case

USER = [{"role": "user", "content": WORDS}]
PATH = "/v1/chat/completions"


def contents(reply):
    return [choice["message"]["content"] for choice in reply["choices"]]


def streamed_contents(events):
    texts = {}
    for event in events:
        for choice in event["choices"]:
            texts[choice["index"]] = texts.get(choice["index"], "") + (choice["delta"].get("content") or "")
    return [texts[index] for index in sorted(texts)]


class Messages(Case):
    def test_the_sdk_gets_a_message(self):
        reply = self.client.chat.completions.create(model="demo", messages=USER, max_tokens=8, temperature=0)
        (choice,) = reply.choices
        self.assertEqual((choice.message.role, choice.finish_reason), ("assistant", "length"))
        self.assertTrue(choice.message.content)
        self.assertEqual((choice.message.refusal, choice.message.tool_calls), (None, None))
        self.assertEqual(reply.usage.completion_tokens, 8)

    def test_roles_and_history_are_rendered(self):
        history = [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi", "name": "ada"},
            {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "More"}]
        reply = self.chat(messages=history, max_tokens=4, temperature=0)
        text = ("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
                "<|im_start|>assistant\nYes?<|im_end|>\n<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\n")
        written_out = self.complete(prompt=text, max_tokens=4, temperature=0)
        self.assertEqual(reply["usage"]["prompt_tokens"], written_out["usage"]["prompt_tokens"])
        self.assertEqual(contents(reply), [written_out["choices"][0]["text"]])

    def test_content_parts_are_text(self):
        plain = self.chat(messages=[{"role": "user", "content": "a\nb"}], max_tokens=6, temperature=0)
        parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        by_parts = self.chat(messages=[{"role": "user", "content": parts}], max_tokens=6, temperature=0)
        self.assertEqual(plain["choices"], by_parts["choices"])

    def test_max_completion_tokens_is_max_tokens(self):
        old = self.chat(max_tokens=7, temperature=0, ignore_eos=True)
        new = self.chat(max_completion_tokens=7, temperature=0, ignore_eos=True)
        self.assertEqual((old["choices"], old["usage"]["completion_tokens"]), (new["choices"], 7))

    def test_the_rest_of_the_context_is_open_by_default(self):
        prompt = [{"role": "user", "content": WORDS * 130}]
        tokens = self.post("/tokenize", {"messages": prompt}).json()["count"]
        self.assertGreater(tokens, 1900)
        usage = self.chat(messages=prompt, ignore_eos=True, temperature=0)["usage"]
        self.assertEqual(usage["total_tokens"], 2048)

    def test_n_choices_and_seeds(self):
        body = {"n": 3, "max_tokens": 10, "temperature": 1, "seed": 4}
        first = self.chat(**body)
        self.assertEqual([choice["index"] for choice in first["choices"]], [0, 1, 2])
        self.assertEqual(len(set(contents(first))), 3)
        self.assertEqual(contents(first), contents(self.chat(**body)))

    def test_a_stop_string_ends_the_message(self):
        whole = contents(self.chat(max_tokens=30, temperature=0, ignore_eos=True))[0]
        stop = whole[9:13]
        (choice,) = self.chat(max_tokens=30, temperature=0, ignore_eos=True, stop=[stop])["choices"]
        self.assertEqual(choice["message"]["content"], whole[:whole.index(stop)])
        self.assertEqual((choice["finish_reason"], choice["stop_reason"]), ("stop", stop))

    def test_the_last_message_can_be_continued(self):
        begun = [*USER, {"role": "assistant", "content": "And God"}]
        self.chat(messages=begun, continue_final_message=True, max_tokens=4)
        self.refused(
            400, PATH, {"messages": begun, "continue_final_message": True, "add_generation_prompt": True},
            param="continue_final_message")


class Logprobs(Case):
    def test_there_is_an_entry_for_each_token_with_its_bytes(self):
        (choice,) = self.chat(max_tokens=8, temperature=0, logprobs=True, top_logprobs=3)["choices"]
        entries = choice["logprobs"]["content"]
        self.assertEqual(len(entries), 8)
        text = b"".join(bytes(entry["bytes"]) for entry in entries)
        self.assertEqual(text.decode(), choice["message"]["content"])
        for entry in entries:
            self.assertEqual(len(entry["top_logprobs"]), 3)
            self.assertEqual(entry["top_logprobs"][0]["logprob"], entry["logprob"])
            self.assertEqual(entry["top_logprobs"][0]["token"], entry["token"])

    def test_without_tops_the_list_is_empty(self):
        (choice,) = self.chat(max_tokens=3, logprobs=True)["choices"]
        self.assertEqual([entry["top_logprobs"] for entry in choice["logprobs"]["content"]], [[], [], []])

    def test_a_completion_has_the_same_numbers(self):
        entries = self.chat(max_tokens=8, temperature=0, logprobs=True)["choices"][0]["logprobs"]["content"]
        text = f"<|im_start|>user\n{WORDS}<|im_end|>\n<|im_start|>assistant\n"
        told = self.complete(prompt=text, max_tokens=8, temperature=0, logprobs=0)["choices"][0]["logprobs"]
        self.assertEqual([entry["logprob"] for entry in entries], told["token_logprobs"])


class Streams(Case):
    def test_role_and_first_text_are_one_event(self):
        events = self.stream(PATH, {"messages": USER, "max_tokens": 5, "temperature": 0, "ignore_eos": True})
        self.assertEqual(len(events), 5)
        first = events[0]["choices"][0]["delta"]
        self.assertEqual(first["role"], "assistant")
        self.assertTrue(first["content"])
        self.assertTrue(all("role" not in event["choices"][0]["delta"] for event in events[1:]))
        self.assertEqual(events[-1]["choices"][0]["finish_reason"], "length")

    def test_a_stream_says_what_the_whole_says(self):
        body = {"messages": USER, "max_tokens": 12, "temperature": 1, "n": 2, "seed": 9,
                "logprobs": True, "top_logprobs": 2}
        whole = self.chat(**body)
        events = self.stream(PATH, body)
        self.assertEqual(streamed_contents(events), contents(whole))
        for choice in whole["choices"]:
            pieces = [piece["logprobs"]["content"] for event in events for piece in event["choices"]
                      if piece["index"] == choice["index"]]
            self.assertEqual(sum(pieces, []), choice["logprobs"]["content"])

    def test_usage_is_an_event_of_its_own_at_the_end(self):
        body = {"messages": USER, "max_tokens": 4, "stream_options": {"include_usage": True}}
        events = self.stream(PATH, body)
        self.assertEqual((events[-1]["choices"], events[-1]["usage"]["completion_tokens"]), ([], 4))
        self.assertTrue(all(event["usage"] is None for event in events[:-1]))

    def test_the_sdk_streams(self):
        whole = contents(self.chat(max_tokens=30, temperature=0))[0]
        with self.client.chat.completions.stream(
                model="demo", messages=USER, max_tokens=30, temperature=0, stop=whole[9:13]) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_completion()
        self.assertIn("content.delta", kinds)
        self.assertEqual(final.choices[0].message.content, whole[:whole.index(whole[9:13])])


class Refusals(Case):
    def test_wrong_messages_are_refused_with_the_place(self):
        image = {"type": "image_url", "image_url": {"url": "data:"}}
        for messages in (
                None, [], "hi", [1], [{}], [{"role": "", "content": "a"}], [{"role": "user", "content": 1}],
                [{"role": "user", "content": [image]}], [{"role": "function", "content": "a"}],
                [{"role": "prophet", "content": "a"}]):
            with self.subTest(messages=messages):
                reply = self.post(PATH, {"messages": messages})
                self.assertEqual(reply.status_code, 400, reply.text)
                self.assertTrue(reply.json()["error"]["param"].startswith("messages"), reply.text)

    def test_old_and_foreign_fields_are_refused(self):
        for name, value in {
            "functions": [{"name": "f"}], "function_call": "auto", "modalities": ["audio"],
            "prediction": {"type": "content", "content": "a"},
        }.items():
            with self.subTest(name=name):
                self.refused(400, PATH, {"messages": USER, name: value}, param=name)

    def test_top_logprobs_need_logprobs(self):
        self.refused(400, PATH, {"messages": USER, "top_logprobs": 2}, param="top_logprobs")

    def test_a_long_chat_is_told_so(self):
        self.refused(
            400, PATH, {"messages": [{"role": "user", "content": WORDS * 300}]}, param="messages",
            code="context_length_exceeded")

    def test_the_sdk_raises(self):
        with self.assertRaises(openai.BadRequestError) as raised:
            self.client.chat.completions.create(model="demo", messages=[])
        self.assertEqual(raised.exception.param, "messages")
