# SPDX-License-Identifier: BSD-3-Clause
"""Tools: what each tool_choice lets the model write, and how calls come back, whole and streamed."""
import json

import jsonschema

from case import Case

PATH = "/v1/chat/completions"
ASKED = [{"role": "user", "content": "What is the weather in Rome?"}]
WEATHER = {
    "type": "object", "required": ["city", "days"], "additionalProperties": False,
    "properties": {"city": {"enum": ["Paris", "Rome", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
}
LIGHT = {
    "type": "object", "required": ["on"], "additionalProperties": False, "properties": {"on": {"type": "boolean"}},
}
PARAMETERS = {"get_weather": WEATHER, "set_light": LIGHT}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": f"To {name}", "parameters": schema}}
    for name, schema in PARAMETERS.items()]
NAMED = {"type": "function", "function": {"name": "set_light"}}
HERMES = (r'(<tool_call>\{"name": "get_weather", "arguments": \{"city": "(Paris|Rome)", "days": [1-7]\}\}</tool_call>)')


def calls_of(events):
    """The calls that the deltas of one choice make."""
    calls = []
    for event in events:
        for choice in event["choices"]:
            for piece in choice["delta"].get("tool_calls") or []:
                if piece["index"] == len(calls):
                    calls.append({"id": piece["id"], "function": dict(piece["function"])})
                else:
                    calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
    return calls


class Tools(Case):
    def ask(self, **body):
        body = {"messages": ASKED, "tools": TOOLS, "max_tokens": 200, "seed": 1, "temperature": 1, **body}
        (choice,) = self.chat(**body)["choices"]
        events = self.stream(PATH, body)
        self.assertEqual(len(calls_of(events)), len(choice["message"].get("tool_calls") or []))
        for streamed, whole in zip(calls_of(events), choice["message"].get("tool_calls") or []):
            self.assertEqual(streamed["function"], whole["function"])
        self.assertEqual(events[-1]["choices"][0]["finish_reason"], choice["finish_reason"])
        return choice

    def check_calls(self, choice, most):
        calls = choice["message"]["tool_calls"]
        self.assertIn(len(calls), range(1, most + 1))
        for call in calls:
            arguments = json.loads(call["function"]["arguments"])
            jsonschema.validate(arguments, PARAMETERS[call["function"]["name"]])
        self.assertEqual((choice["message"]["content"], choice["finish_reason"]), (None, "tool_calls"))
        self.assertEqual(len({call["id"] for call in calls}), len(calls))

    def test_a_named_function_is_called(self):
        choice = self.ask(tool_choice=NAMED)
        self.check_calls(choice, 1)
        self.assertEqual(choice["message"]["tool_calls"][0]["function"]["name"], "set_light")

    def test_required_calls_one_of_them(self):
        self.check_calls(self.ask(tool_choice="required", parallel_tool_calls=False), 1)

    def test_none_calls_nothing_and_hides_the_tools(self):
        choice = self.ask(tool_choice="none", max_tokens=8)
        self.assertNotIn("tool_calls", choice["message"])
        with_tools = self.post("/tokenize", {"messages": ASKED, "tools": TOOLS}).json()["count"]
        hidden = self.chat(messages=ASKED, tools=TOOLS, tool_choice="none", max_tokens=1)
        shown = self.chat(messages=ASKED, tools=TOOLS, tool_choice="auto", max_tokens=1)
        self.assertEqual(shown["usage"]["prompt_tokens"], with_tools)
        self.assertLess(hidden["usage"]["prompt_tokens"], with_tools)

    def test_auto_finds_the_call_that_the_model_writes(self):
        choice = self.ask(tool_choice="auto", structured_outputs={"regex": HERMES})
        self.check_calls(choice, 1)
        self.assertEqual(choice["message"]["tool_calls"][0]["function"]["name"], "get_weather")

    def test_auto_finds_several_calls_behind_content(self):
        choice = self.ask(structured_outputs={"regex": "I will look[.] " + HERMES + HERMES})
        self.assertEqual(choice["message"]["content"], "I will look.")
        self.assertEqual(len(choice["message"]["tool_calls"]), 2)
        self.assertEqual(choice["finish_reason"], "tool_calls")

    def test_what_only_looks_like_a_call_is_content(self):
        choice = self.ask(structured_outputs={"regex": "<tool_call>no</tool_call>"})
        self.assertEqual(choice["message"]["content"], "<tool_call>no</tool_call>")
        self.assertNotIn("tool_calls", choice["message"])

    def test_the_sdk_reads_a_call_and_sends_its_result(self):
        reply = self.client.chat.completions.create(
            model="demo", messages=ASKED, tools=TOOLS, tool_choice=NAMED, max_tokens=60, seed=2)
        message = reply.choices[0].message
        answered = [*ASKED, message.model_dump(exclude_none=True),
                    {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "done"}]
        again = self.client.chat.completions.create(
            model="demo", messages=answered, tools=TOOLS, max_tokens=4, temperature=0)
        self.assertGreater(again.usage.prompt_tokens, reply.usage.prompt_tokens)

    def test_wrong_tools_are_refused(self):
        function = TOOLS[0]["function"]
        for tools in ([{}], [{"type": "code"}], [{"type": "function"}], "f", [TOOLS[0], TOOLS[0]],
                      [{"type": "function", "function": {**function, "name": "a b"}}]):
            with self.subTest(tools=tools):
                reply = self.post(PATH, {"messages": ASKED, "tools": tools})
                self.assertEqual(reply.status_code, 400, reply.text)
                self.assertTrue(reply.json()["error"]["param"].startswith("tools"), reply.text)
        for choice in ("maybe", {"type": "function", "function": {"name": "other"}}, {"type": "function"}):
            with self.subTest(choice=choice):
                reply = self.post(PATH, {"messages": ASKED, "tools": TOOLS, "tool_choice": choice})
                self.assertEqual(reply.status_code, 400, reply.text)
                self.assertTrue(reply.json()["error"]["param"].startswith("tool_choice"), reply.text)
        self.refused(400, PATH, {"messages": ASKED, "tool_choice": "required"}, param="tool_choice")
