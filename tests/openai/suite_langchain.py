# SPDX-License-Identifier: BSD-3-Clause
"""LangChain's ChatOpenAI against the server, unchanged."""
from typing import Literal

import pydantic
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI

import recording
from case import TRANSCRIPT, WORDS, Case


class Judge(pydantic.BaseModel):
    """A judge of Israel."""

    name: Literal["Deborah", "Gideon", "Samson"]
    years: int = pydantic.Field(ge=1, le=99)


@tool
def count_days(city: Literal["Paris", "Rome"], days: Literal[1, 2, 3]) -> str:
    """Counts days in a city."""
    return f"{city}: {days}"


class LangChain(Case):
    def model(self, kind=ChatOpenAI, **options):
        return kind(
            model="demo", base_url=self.server.endpoint["url"], api_key="none", max_retries=0,
            http_client=recording.client_of(TRANSCRIPT), **options)

    def test_invoke(self):
        reply = self.model(temperature=0, max_tokens=8).invoke([SystemMessage("Be brief."), HumanMessage(WORDS)])
        self.assertIsInstance(reply, AIMessage)
        self.assertTrue(reply.content)
        self.assertEqual(reply.usage_metadata["output_tokens"], 8)
        self.assertEqual(reply.response_metadata["finish_reason"], "length")

    def test_stream_with_usage(self):
        whole = self.model(temperature=0, max_tokens=8).invoke(WORDS)
        pieces = list(self.model(temperature=0, max_tokens=8, stream_usage=True).stream(WORDS))
        total = pieces[0]
        for piece in pieces[1:]:
            total = total + piece
        self.assertEqual(total.content, whole.content)
        self.assertEqual(total.usage_metadata["total_tokens"], whole.usage_metadata["total_tokens"])
        self.assertGreater(len(pieces), 5)

    def test_logprobs_and_n(self):
        model = self.model(temperature=1, seed=1, max_tokens=4, n=2, logprobs=True, top_logprobs=2)
        (choices,) = model.generate([[HumanMessage(WORDS)]]).generations
        self.assertEqual(len(choices), 2)
        entries = choices[0].message.response_metadata["logprobs"]["content"]
        self.assertEqual([len(entry["top_logprobs"]) for entry in entries], [2] * 4)

    def test_bind_tools_and_answer_with_the_result(self):
        model = self.model(temperature=1, seed=2, max_tokens=80)
        asked = [HumanMessage("How many days in Rome?")]
        reply = model.bind_tools([count_days], tool_choice="count_days").invoke(asked)
        (call,) = reply.tool_calls
        self.assertEqual(call["name"], "count_days")
        result = count_days.invoke(call)
        self.assertIsInstance(result, ToolMessage)
        again = self.model(temperature=0, max_tokens=4).bind_tools([count_days]).invoke([*asked, reply, result])
        self.assertGreater(again.usage_metadata["input_tokens"], reply.usage_metadata["input_tokens"])

    def test_a_streamed_call_adds_up(self):
        model = self.model(temperature=1, seed=3, max_tokens=80).bind_tools([count_days], tool_choice="any")
        pieces = list(model.stream("How many days in Rome?"))
        total = pieces[0]
        for piece in pieces[1:]:
            total = total + piece
        self.assertEqual({call["name"] for call in total.tool_calls}, {"count_days"})
        for call in total.tool_calls:
            self.assertIn(call["args"]["days"], (1, 2, 3))

    def test_structured_output_by_json_schema(self):
        model = self.model(temperature=1, seed=4, max_tokens=80)
        judge = model.with_structured_output(Judge, method="json_schema").invoke("Who judged?")
        self.assertIsInstance(judge, Judge)

    def test_structured_output_by_function_calling(self):
        model = self.model(temperature=1, seed=5, max_tokens=80)
        judge = model.with_structured_output(Judge, method="function_calling").invoke("Who judged?")
        self.assertIsInstance(judge, Judge)

    def test_completions(self):
        model = self.model(OpenAI, temperature=0, max_tokens=6)
        self.assertEqual("".join(model.stream(WORDS)), model.invoke(WORDS))
