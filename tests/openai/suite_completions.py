# SPDX-License-Identifier: BSD-3-Clause
"""/v1/completions: every parameter, whole and streamed."""
import shapes
from case import WORDS, Case

GREEDY = {"temperature": 0}


def texts(reply):
    return [choice["text"] for choice in reply["choices"]]


def joined(events):
    """The choices that the events of a stream put together make."""
    choices = {}
    for event in events:
        for piece in event["choices"]:
            whole = choices.setdefault(piece["index"], {"index": piece["index"], "text": "", "logprobs": None})
            whole["text"] += piece["text"]
            for name, values in (piece["logprobs"] or {}).items():
                whole["logprobs"] = whole["logprobs"] or {}
                whole["logprobs"].setdefault(name, []).extend(values)
            whole["finish_reason"] = piece["finish_reason"]
            whole["stop_reason"] = piece["stop_reason"]
    return [choices[index] for index in sorted(choices)]


class Plain(Case):
    def test_the_sdk_gets_a_completion(self):
        reply = self.client.completions.create(model="demo", prompt=WORDS, max_tokens=8, temperature=0)
        self.assertEqual(reply.object, "text_completion")
        (choice,) = reply.choices
        self.assertEqual((choice.index, choice.finish_reason, choice.logprobs), (0, "length", None))
        self.assertEqual(reply.usage.completion_tokens, 8)

    def test_max_tokens_is_16_by_default(self):
        self.assertEqual(self.complete(prompt=WORDS, ignore_eos=True)["usage"]["completion_tokens"], 16)

    def test_a_prompt_of_tokens_is_the_same_as_its_text(self):
        tokens = self.post("/tokenize", {"prompt": WORDS}).json()["tokens"]
        by_text = self.complete(prompt=WORDS, max_tokens=8, **GREEDY)
        by_tokens = self.complete(prompt=tokens, max_tokens=8, **GREEDY)
        self.assertEqual(by_text["choices"], by_tokens["choices"])
        self.assertEqual(by_tokens["usage"]["prompt_tokens"], len(tokens))
        sdk = self.client.completions.create(model="demo", prompt=tokens, max_tokens=8, temperature=0)
        self.assertEqual(sdk.choices[0].text, texts(by_text)[0])

    def test_a_batch_of_prompts_answers_as_each_alone(self):
        prompts = [WORDS, "And the king", "He said unto them"]
        together = self.complete(prompt=prompts, max_tokens=8, **GREEDY)
        alone = [texts(self.complete(prompt=prompt, max_tokens=8, **GREEDY))[0] for prompt in prompts]
        self.assertEqual(texts(together), alone)
        self.assertEqual([choice["index"] for choice in together["choices"]], [0, 1, 2])

    def test_a_batch_of_token_lists_answers_in_order(self):
        lists = [self.post("/tokenize", {"prompt": text}).json()["tokens"] for text in (WORDS, "And")]
        together = self.complete(prompt=lists, max_tokens=4, **GREEDY)
        self.assertEqual(texts(together), texts(self.complete(prompt=[WORDS, "And"], max_tokens=4, **GREEDY)))

    def test_n_choices_differ_and_the_seed_fixes_them(self):
        body = {"prompt": WORDS, "n": 4, "max_tokens": 12, "temperature": 1, "seed": 5}
        first = self.complete(**body)
        self.assertEqual(texts(first), texts(self.complete(**body)))
        self.assertEqual(len(set(texts(first))), 4)
        self.assertEqual(first["usage"]["completion_tokens"], 48)
        self.assertNotEqual(texts(first), texts(self.complete(**{**body, "seed": 6})))

    def test_n_and_prompts_are_numbered_prompt_by_prompt(self):
        body = {"n": 2, "max_tokens": 6, "temperature": 1, "seed": 11}
        together = texts(self.complete(prompt=[WORDS, "And"], **body))
        self.assertEqual(together[:2], texts(self.complete(prompt=WORDS, **body)))
        self.assertEqual(together[2:], texts(self.complete(prompt="And", **body)))

    def test_a_seed_has_64_bits(self):
        for seed in (0, -1, 2**63 - 1, -(2**63)):
            self.complete(prompt=WORDS, max_tokens=2, seed=seed)

    def test_cached_tokens_are_told(self):
        prompt = WORDS * 8
        self.complete(prompt=prompt, max_tokens=1)
        usage = self.complete(prompt=prompt, max_tokens=1)["usage"]
        self.assertGreater(usage["prompt_tokens_details"]["cached_tokens"], 0)

    def test_logit_bias_forces_and_forbids(self):
        forced = self.complete(prompt=WORDS, max_tokens=3, logit_bias={"65": 100}, temperature=0)
        token = self.post("/detokenize", {"tokens": [65]}).json()["prompt"]
        self.assertEqual(texts(forced), [token * 3])


class Stops(Case):
    def continuation(self, tokens=40):
        return texts(self.complete(prompt=WORDS, max_tokens=tokens, ignore_eos=True, **GREEDY))[0]

    def test_a_stop_string_across_tokens_cuts_the_text(self):
        whole = self.continuation()
        for length in (1, 2, 3, 5, 8):
            stop = whole[10:10 + length]
            reply = self.complete(prompt=WORDS, max_tokens=40, ignore_eos=True, stop=stop, **GREEDY)
            (choice,) = reply["choices"]
            self.assertEqual(choice["text"], whole[:whole.index(stop)])
            self.assertEqual((choice["finish_reason"], choice["stop_reason"]), ("stop", stop))
            self.assertLess(reply["usage"]["completion_tokens"], 40)

    def test_a_stream_never_shows_a_piece_of_a_stop_string(self):
        whole = self.continuation()
        for length in (2, 5, 8):
            stop = whole[10:10 + length]
            body = {"prompt": WORDS, "max_tokens": 40, "ignore_eos": True, "stop": [stop, "###"], **GREEDY}
            (choice,) = joined(self.stream("/v1/completions", body))
            self.assertEqual(choice["text"], whole[:whole.index(stop)])
            self.assertEqual((choice["finish_reason"], choice["stop_reason"]), ("stop", stop))

    def test_the_stop_string_stays_on_request(self):
        whole = self.continuation()
        stop = whole[10:14]
        reply = self.complete(
            prompt=WORDS, max_tokens=40, ignore_eos=True, stop=stop, include_stop_str_in_output=True, **GREEDY)
        self.assertEqual(texts(reply)[0], whole[:whole.index(stop) + 4])

    def test_a_stop_string_that_never_comes_is_not_lost_text(self):
        whole = self.continuation()
        stop = whole[-3:] + "\x01never"
        body = {"prompt": WORDS, "max_tokens": 40, "ignore_eos": True, "stop": stop, **GREEDY}
        (choice,) = joined(self.stream("/v1/completions", body))
        self.assertEqual((choice["text"], choice["finish_reason"]), (whole, "length"))

    def test_a_stop_token_ends_the_answer_and_is_told(self):
        tokens = self.post("/tokenize", {"prompt": self.continuation(), "add_special_tokens": False}).json()["tokens"]
        reply = self.complete(
            prompt=WORDS, max_tokens=40, ignore_eos=True, stop_token_ids=[tokens[3]], **GREEDY)
        (choice,) = reply["choices"]
        self.assertEqual((choice["finish_reason"], choice["stop_reason"]), ("stop", tokens[3]))

    def test_logprobs_of_a_cut_answer_are_the_same_in_a_stream(self):
        """Two letters at random, and a stop string that its own beginning precedes: aab in aaab."""
        letters = [self.post("/tokenize", {"prompt": letter}).json()["tokens"] for letter in "ab"]
        bias = {str(tokens[0]): 100 for tokens in letters}
        for seed in range(12):
            body = {"prompt": WORDS, "max_tokens": 24, "temperature": 1, "logit_bias": bias, "logprobs": 1,
                    "stop": ["aab"], "seed": seed}
            whole = self.complete(**body)["choices"]
            self.assertEqual(joined(self.stream("/v1/completions", body)), whole)


class Logprobs(Case):
    def test_lists_are_parallel_and_offsets_point_into_the_text(self):
        for logprobs in (0, 1, 5, 20):
            reply = self.complete(prompt=WORDS, max_tokens=12, logprobs=logprobs, ignore_eos=True, **GREEDY)
            (choice,) = reply["choices"]
            told = choice["logprobs"]
            self.assertEqual({len(values) for values in told.values()}, {12})
            for token, offset in zip(told["tokens"], told["text_offset"]):
                self.assertEqual(choice["text"][offset:offset + len(token)], token)
            for tops in told["top_logprobs"]:
                self.assertIn(len(tops), (max(logprobs, 1), logprobs + 1))

    def test_the_greedy_token_is_the_likeliest_bit_for_bit(self):
        told = self.complete(prompt=WORDS, max_tokens=16, logprobs=1, **GREEDY)["choices"][0]["logprobs"]
        for token, value, tops in zip(told["tokens"], told["token_logprobs"], told["top_logprobs"]):
            self.assertEqual(value, max(tops.values()))
            self.assertEqual(value, tops[token])

    def test_a_drawn_token_is_among_the_tops_whatever_its_rank(self):
        told = self.complete(
            prompt=WORDS, max_tokens=40, logprobs=2, temperature=1.5, seed=3, top_p=1)["choices"][0]["logprobs"]
        for token, value, tops in zip(told["tokens"], told["token_logprobs"], told["top_logprobs"]):
            self.assertEqual(value, tops[token])
            self.assertLessEqual(value, max(tops.values()))
        self.assertTrue(any(len(tops) == 3 for tops in told["top_logprobs"]))

    def test_offsets_count_characters(self):
        prompt = "é文🙂x"
        tokens = self.post("/tokenize", {"prompt": prompt}).json()["tokens"]
        told = self.complete(prompt=prompt, max_tokens=1, echo=True, logprobs=1, **GREEDY)["choices"][0]
        self.assertEqual(told["logprobs"]["text_offset"][len(tokens) - 1], prompt.index("x"))


class Echo(Case):
    def test_the_prompt_comes_first(self):
        plain = self.complete(prompt=WORDS, max_tokens=6, **GREEDY)
        echo = self.complete(prompt=WORDS, max_tokens=6, echo=True, **GREEDY)
        self.assertEqual(texts(echo)[0], WORDS + texts(plain)[0])

    def test_logprobs_cover_the_prompt_and_the_first_is_null(self):
        count = len(self.post("/tokenize", {"prompt": WORDS}).json()["tokens"])
        (choice,) = self.complete(prompt=WORDS, max_tokens=3, echo=True, logprobs=1, **GREEDY)["choices"]
        told = choice["logprobs"]
        self.assertEqual({len(values) for values in told.values()}, {count + 3})
        self.assertEqual((told["token_logprobs"][0], told["top_logprobs"][0]), (None, None))
        self.assertTrue(all(value <= 0 for value in told["token_logprobs"][1:]))
        self.assertEqual("".join(told["tokens"]), choice["text"])

    def test_scores_of_a_prompt_do_not_depend_on_the_cache(self):
        body = {"prompt": WORDS * 4, "max_tokens": 0, "echo": True, "logprobs": 1}
        self.assertEqual(self.complete(**body)["choices"], self.complete(**body)["choices"])

    def test_a_continuation_scores_as_it_was_generated(self):
        made = self.complete(prompt=WORDS, max_tokens=8, logprobs=1, **GREEDY)["choices"][0]
        tokens = self.post("/tokenize", {"prompt": WORDS}).json()["tokens"]
        own = [self.post("/tokenize", {"prompt": token, "add_special_tokens": False}).json()["tokens"]
               for token in made["logprobs"]["tokens"]]
        if any(len(ids) != 1 for ids in own):
            self.skipTest("a token that is not its own text")
        scored = self.complete(
            prompt=tokens + [ids[0] for ids in own], max_tokens=0, echo=True, logprobs=1)["choices"][0]
        self.assertEqual(scored["logprobs"]["token_logprobs"][len(tokens):], made["logprobs"]["token_logprobs"])

    def test_max_tokens_0_generates_nothing(self):
        (choice,) = self.complete(prompt=WORDS, max_tokens=0, echo=True)["choices"]
        self.assertEqual((choice["text"], choice["finish_reason"]), (WORDS, "length"))


class Streams(Case):
    def same_as_whole(self, **body):
        whole = self.complete(**body)
        events = self.stream("/v1/completions", {**body, "stream_options": {"include_usage": True}})
        self.assertEqual(joined(events), whole["choices"])
        self.assertTrue(all(event["usage"] is None for event in events[:-1]))
        last = events[-1]
        self.assertEqual(last["choices"], [])
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            self.assertEqual(last["usage"][name], whole["usage"][name])
        return events

    def test_a_stream_says_what_the_whole_reply_says(self):
        self.same_as_whole(prompt=WORDS, max_tokens=24, temperature=0.9, seed=1, logprobs=2)

    def test_choices_of_a_stream_are_told_apart(self):
        self.same_as_whole(prompt=[WORDS, "And"], n=3, max_tokens=10, temperature=1, seed=2)

    def test_an_echo_streams_too(self):
        self.same_as_whole(prompt=WORDS, max_tokens=4, echo=True, logprobs=1, temperature=0)
        self.same_as_whole(prompt=WORDS, max_tokens=0, echo=True, logprobs=1, temperature=0)

    def test_there_is_an_event_for_each_token(self):
        events = self.same_as_whole(prompt=WORDS, max_tokens=20, temperature=0, ignore_eos=True)
        self.assertEqual(len(events), 20 + 1)

    def test_usage_comes_only_when_asked_for(self):
        events = self.stream("/v1/completions", {"prompt": WORDS, "max_tokens": 4})
        self.assertTrue(all("usage" not in event and event["choices"] for event in events))

    def test_continuous_usage_counts_up(self):
        options = {"include_usage": True, "continuous_usage_stats": True}
        events = self.stream(
            "/v1/completions",
            {"prompt": WORDS, "max_tokens": 6, "stream_options": options, "ignore_eos": True, **GREEDY})
        counts = [event["usage"]["completion_tokens"] for event in events]
        self.assertEqual(counts, [1, 2, 3, 4, 5, 6, 6])

    def test_the_sdk_reads_a_stream(self):
        whole = self.client.completions.create(model="demo", prompt=WORDS, max_tokens=9, temperature=0)
        stream = self.client.completions.create(
            model="demo", prompt=WORDS, max_tokens=9, temperature=0, stream=True,
            stream_options={"include_usage": True})
        events = list(stream)
        text = "".join(event.choices[0].text for event in events if event.choices)
        self.assertEqual(text, whole.choices[0].text)
        self.assertEqual(events[-1].usage.completion_tokens, whole.usage.completion_tokens)

    def test_head_of_a_stream_forbids_caches_and_buffers(self):
        reply = self.post("/v1/completions", {"prompt": "a", "max_tokens": 1, "stream": True})
        self.assertEqual(reply.headers["cache-control"], "no-cache")
        self.assertEqual(reply.headers["x-accel-buffering"], "no")
        shapes.require(reply.headers["x-request-id"], "no id")
