# SPDX-License-Identifier: BSD-3-Clause
"""Structured output: what is asked for is what comes, greedy or drawn, whole or streamed."""
import json
import re
from typing import List, Literal, Optional

import pydantic
from pydantic import Field

from case import Case

PATH = "/v1/chat/completions"
ASKED = [{"role": "user", "content": "Who was it?"}]


class Child(pydantic.BaseModel):
    name: str = Field(pattern="^[A-Z][a-z]{1,6}$")
    age: int = Field(ge=0, le=99)


class Person(pydantic.BaseModel):
    title: Literal["king", "priest", "shepherd"]
    alive: bool
    children: List[Child] = Field(min_length=1, max_length=2)
    tribe: Optional[Literal["Levi", "Dan"]]


def schema_format(schema, **more):
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **more}}


class Structured(Case):
    def content(self, **body):
        body = {"messages": ASKED, "max_tokens": 200, "seed": 3, "temperature": 1, **body}
        (choice,) = self.chat(**body)["choices"]
        events = self.stream(PATH, body)
        streamed = "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
        self.assertEqual(streamed, choice["message"]["content"])
        self.assertEqual(choice["finish_reason"], "stop", choice)
        return choice["message"]["content"]

    def test_parse_gives_the_object(self):
        for temperature in (0, 1):
            reply = self.client.beta.chat.completions.parse(
                model="demo", messages=ASKED, response_format=Person, max_tokens=400, temperature=temperature, seed=7)
            message = reply.choices[0].message
            self.assertIsInstance(message.parsed, Person)
            self.assertEqual(Person.model_validate_json(message.content), message.parsed)

    def test_a_schema_holds_whatever_the_seed(self):
        schema = {
            "type": "object", "required": ["a", "b", "c"], "additionalProperties": False, "properties": {
                "a": {"type": "array", "items": {"type": "integer", "minimum": -5, "maximum": 5}, "maxItems": 3},
                "b": {"anyOf": [{"type": "null"}, {"const": "x"}]}, "c": {"type": "string", "format": "date"}}}
        for seed in range(6):
            value = json.loads(self.content(response_format=schema_format(schema), seed=seed))
            self.assertEqual(list(value), ["a", "b", "c"])
            self.assertTrue(len(value["a"]) <= 3 and all(-5 <= item <= 5 for item in value["a"]))
            self.assertIn(value["b"], (None, "x"))
            self.assertRegex(value["c"], r"^\d{4}-\d\d-\d\d$")

    def test_json_object_gives_an_object_if_it_ends(self):
        reply = self.chat(messages=ASKED, response_format={"type": "json_object"}, max_tokens=80, temperature=0)
        (choice,) = reply["choices"]
        self.assertTrue(choice["message"]["content"].startswith("{"))
        if choice["finish_reason"] == "stop":
            self.assertIsInstance(json.loads(choice["message"]["content"]), dict)

    def test_a_regex_is_matched(self):
        pattern = r"[A-Z][a-z]{2,5}, (19|20)\d{2}(-(0[1-9]|1[0-2]))?"
        for seed in range(4):
            self.assertTrue(re.fullmatch(pattern, self.content(structured_outputs={"regex": pattern}, seed=seed)))

    def test_a_choice_is_one_of_them(self):
        choices = ["yes", "no", "no, never", "文字"]
        found = {self.content(structured_outputs={"choice": choices}, seed=seed) for seed in range(12)}
        self.assertLessEqual(found, set(choices))
        self.assertGreater(len(found), 1)

    def test_the_sdk_passes_extra_bodies(self):
        reply = self.client.chat.completions.create(
            model="demo", messages=ASKED, max_tokens=20, extra_body={"structured_outputs": {"regex": "[ab]{3}"}})
        self.assertRegex(reply.choices[0].message.content, "^[ab]{3}$")

    def test_completions_take_it_too(self):
        reply = self.complete(prompt="Who?", max_tokens=20, structured_outputs={"choice": ["Adam", "Eve"]})
        self.assertIn(reply["choices"][0]["text"], ("Adam", "Eve"))

    def test_each_choice_is_held_to_it(self):
        reply = self.chat(messages=ASKED, n=4, max_tokens=20, structured_outputs={"regex": "[0-9]{4}"}, temperature=1)
        for choice in reply["choices"]:
            self.assertRegex(choice["message"]["content"], "^[0-9]{4}$")

    def test_an_unsupported_keyword_is_named(self):
        body = {"messages": ASKED, "response_format": schema_format({"type": "object", "patternProperties": {"a": {}}})}
        reply = self.post(PATH, body)
        self.assertEqual(reply.status_code, 400, reply.text)
        self.assertIn("patternProperties", reply.json()["error"]["message"])

    def test_wrong_formats_are_refused(self):
        for value in ({"type": "xml"}, {"type": "json_schema"}, "json", schema_format({"type": "thing"})):
            with self.subTest(value=value):
                reply = self.post(PATH, {"messages": ASKED, "response_format": value})
                self.assertEqual(reply.status_code, 400, reply.text)
                self.assertTrue(reply.json()["error"]["param"].startswith("response_format"), reply.text)
        for value in ({"regex": "("}, {"choice": []}, {"regex": "a", "choice": ["a"]}, [], {"choice": [1]}):
            with self.subTest(value=value):
                reply = self.post(PATH, {"messages": ASKED, "structured_outputs": value})
                self.assertEqual(reply.status_code, 400, reply.text)
