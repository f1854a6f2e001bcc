#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Golden renders of chat templates (tests/data/templates), by Python's jinja2 in the environment that transformers uses.

    pip install jinja2; scripts/make_template_vectors.py [--templates FOLDER --out FILE]

Writes cases.jsonl (variables of a render), goldens.jsonl (each template with each case), constructs.jsonl (small templates,
one construct each), and VERSION. With --templates, goldens of another folder's *.jinja: for a look at templates that may
not be committed.
"""
import argparse
import datetime
import json
import pathlib

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT / "tests/data/templates"
NOW = 1720000000  # 2024-07-03 09:46:40 UTC


class Generation(jinja2.ext.Extension):
    """{% generation %}: marks what the assistant said; printed as it is."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_print"), [], [], body).set_lineno(line)

    @staticmethod
    def _print(caller):
        return caller()


def environment():
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(text):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).strftime(text)

    made.filters["tojson"] = tojson
    made.filters["from_json"] = json.loads  # not of transformers; templates of the community use it
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = strftime_now
    return made


# ---- cases

TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "Get the current weather \"now\" <b>&</b>.",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "A city, e.g. Zürich"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
        "days": {"type": "integer", "minimum": 1},
        "at": {"type": "object", "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}},
               "required": ["lat"]}},
        "required": ["city"]}}},
    {"type": "function", "function": {
        "name": "stop", "description": "Ends it.", "parameters": {"type": "object", "properties": {}}}}]
USER = {"role": "user", "content": "  Hello, who are you?\n"}
SYSTEM = {"role": "system", "content": "You are \"brief\" & kind.\nAlways."}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "call12345", "type": "function", "function": {
    "name": "get_weather", "arguments": {"city": "Zürich", "days": 2, "at": {"lat": 47.25, "lon": -8.5}, "fine": True,
                                         "none": None, "list": [1, "a'b"]}}}]}
RESULT = {"role": "tool", "tool_call_id": "call12345", "name": "get_weather", "content": "{\"celsius\": 21.5}"}


def case(name, messages, **more):
    variables = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": True,
                 "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "now": NOW}
    variables.update(more)
    return {"name": name, "variables": variables}


def cases():
    thought = {"role": "assistant", "content": "I am a model.", "reasoning_content": "Say who.\nBriefly."}
    inline = {"role": "assistant", "content": "<think>\nSay who.\n</think>\n\nI am a model."}
    text = json.loads(json.dumps(CALL))
    text["tool_calls"][0]["function"]["arguments"] = json.dumps(CALL["tool_calls"][0]["function"]["arguments"])
    two = json.loads(json.dumps(CALL))
    two["content"] = "Two calls."
    two["tool_calls"].append({"id": "call67890", "type": "function", "function": {"name": "stop", "arguments": {}}})
    second = {"role": "tool", "tool_call_id": "call67890", "name": "stop", "content": "stopped"}
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}]
    again = {"role": "user", "content": "And then? <|im_end|> {{ x }} 中文 😀 \\n"}
    return [
        case("simple", [USER]),
        case("system_history", [SYSTEM, USER, {"role": "assistant", "content": "I am a model."}, again]),
        case("no_generation", [USER, {"role": "assistant", "content": "I am a model."}], add_generation_prompt=False),
        case("tools", [SYSTEM, USER], tools=TOOLS),
        case("tool_call", [USER, CALL, RESULT], tools=TOOLS),
        case("tool_call_then_more", [SYSTEM, USER, CALL, RESULT, {"role": "assistant", "content": "It is fine."}, again],
             tools=TOOLS),
        case("two_tool_calls", [USER, two, RESULT, second], tools=TOOLS),
        case("tool_arguments_as_text", [USER, text, RESULT], tools=TOOLS),
        case("parts", [{"role": "user", "content": parts}]),
        case("image_part", [{"role": "user", "content": [{"type": "image"}, parts[1]]}]),
        case("system_parts", [{"role": "system", "content": parts[:1]}, {"role": "user", "content": parts}]),
        case("thinking_off", [USER], enable_thinking=False, thinking=False),
        case("thinking_on", [SYSTEM, USER], enable_thinking=True, thinking=True, reasoning_effort="high"),
        case("thought", [USER, thought, again]),
        case("thought_inline", [USER, inline, again]),
        case("thought_before_call", [USER, {**CALL, "reasoning_content": "Ask."}, RESULT], tools=TOOLS,
             enable_thinking=True),
        case("developer", [{"role": "developer", "content": "Be brief."}, USER]),
        case("builtin_tools", [USER], builtin_tools=["code_interpreter", "brave_search"]),
        case("unknown_role", [{"role": "critic", "content": "No."}]),
        case("two_users", [USER, again]),
        case("empty_content", [{"role": "user", "content": ""}, {"role": "assistant", "content": None}, USER]),
        case("no_messages", []),
    ]


# ---- constructs: a template, and variables if it needs any

EMPTY = {}
WORDS = {"s": "  Hello, wörld  ", "l": [3, 1, 2], "d": {"b": 1, "a": [True, None, 1.5], "c": {"x": "it's \"q\""}},
         "n": None, "t": True, "i": 7, "f": 2.5, "m": [{"r": "u", "v": {"k": 1}}, {"r": "a", "v": {"k": 2}}, {"r": "u"}]}
EXPRESSIONS = r"""
"{}-{}".format(1, "x"), "{0}{1}{0} {n} {{}} }}{{".format("a", none, n=[1]), "no".format(5)
1 + 2 * 3 ** 2 - 4 / 2
7 // 2, -7 // 2, 7 % 3, -7 % 3, 7 // -2, 7 % -3, 7.5 // 2, -7.5 % 2, 2 ** -1, 2 ** 10, 2 ** 3 ** 2
10 / 4, 10 / 5, 1e16, 1e15, 1.0, 0.1 + 0.2, 1e-5, 0.0001, 123456789.123, 1e300 * 10, -0.0, 5e-324, 1.5e22
1_000 + 0x1f + 0b11 + 0o17
True + 1, true, false, none, True and 0, 0 or "x", not 1, not none
1 < 2 < 3, 1 < 3 < 2, 1 == 1.0, 1 == true, "a" < "b", [1, 2] < [1, 3], (1, 2) == (1, 2), "1" == 1, none == false
"a" in "abc", "z" not in "abc", 2 in l, "a" in d, 5 not in l, none in [none], 1.0 in [1]
"a" ~ 1 ~ none ~ true ~ 1.0 ~ [1, "x"] ~ missing
"a" "b" 'c'
"x" * 3, [1] * 2, 3 * "ab", "x" * -1
"abc"[1], "abc"[-1], "abc"[5], "abc"[1:], "abc"[:-1], "abc"[::-1], "abcdef"[1:5:2], "wörld"[1:3], "abcdef"[-2:0:-2], "abc"[10:], "abc"[-10:2]
l[0], l[-1], l[9], l[1:], l[::-1], l[::2], (1, 2, 3)[1:], l[:0], range(10)[2:8:3] | list
d.b, d["b"], d.missing, d["missing"] is defined, d.a[2], d.c.x, d.get("zz"), d.get("zz", 5), d.get("b"), d["items"] is defined
d, l, n, t, i, f, (1,), (), [], {}, {"k": [1, (2, 3)]}, "it's", ["it's", 'a"b', "a'b\"c", "tab\tnl\n", "é\x01\u200b"]
d.items() | list, d.keys() | list, d.values() | list, d.items(), d.keys()
d | items | list, {} | items | list, missing | items | list
d | tojson, l | tojson, s | tojson, n | tojson, t | tojson, 1.5 | tojson, "é<>&'\"\\\n\x01\x7f/" | tojson
d | tojson(indent=2)
d | tojson(indent=4), [] | tojson(indent=2), {} | tojson(indent=2), [[], {}] | tojson(indent=1)
d | tojson(separators=(",", ":")), d | tojson(sort_keys=true), "é😀" | tojson(ensure_ascii=true), d | tojson(indent=0)
{1: 2, none: 3, true: 4, 1.5: 5} | tojson
(1, 2) | tojson, [1e100, -1, 1e16] | tojson
s | trim, s | upper, s | lower, s | title, s | capitalize, s | length, "xxaxx" | trim("x"), s | replace("l", "L"), s | replace("l", "L", 1)
"ß straße ÀÉ" | upper, "ÀÉ ÖÜ" | lower, "hello wORLD-foo (bar)" | title, "it's o'neil".title()
l | length, d | length, "" | length, missing | length, (1, 2) | count
l | first, l | last, [] | first, "abc" | first, "abc" | last, d | first
l | sort, l | sort(reverse=true), ["b", "A", "c"] | sort, ["b", "A", "c"] | sort(case_sensitive=true), m | sort(attribute="r") | map(attribute="r") | list
l | join, l | join(", "), ["a", none, 1.0] | join("-"), m | join("/", attribute="r"), missing | join
l | list, "abc" | list, d | list, range(3) | list, range(1, 10, 4) | list, range(5, 0, -2) | list, range(3)
l | sum, l | min, l | max, m[:2] | map(attribute="v.k") | list, [[1, 2], [3]] | sum(start=[]), [1.5, 2] | sum
m | map(attribute="zz", default="-") | list, ["a", "b"] | map("upper") | list, ["a", "b"] | map("replace", "a", "z") | list
m | selectattr("v") | list | length, m | selectattr("r", "equalto", "u") | list | length, m | rejectattr("r", "eq", "u") | map(attribute="r") | list
[1, 2, 3, 4] | select("odd") | list, [1, 2, 3, 4] | reject("odd") | list, [0, 1, "", "x"] | select | list, [1, 5, 9] | select(">", 4) | list, ["a", "b"] | reject("in", ["a"]) | list
[1, 1, 2, "a", "A"] | unique | list, m | unique(attribute="r") | map(attribute="r") | list
d | dictsort | map("first") | list, {"b": 1, "A": 2} | dictsort, {"b": 1, "A": 2} | dictsort(true), {"b": 1, "A": 2} | dictsort(by="value"), {"b": 1, "a": 2} | dictsort(reverse=true)
missing | default("x"), none | default("x"), none | default("x", true), "" | d("y", boolean=true), missing | default
"42" | int, "4.9" | int, "x" | int, "x" | int(7), 4.9 | int, "0x1f" | int(base=16), true | int, none | int, " 12 " | int, "1e3" | float, "x" | float, 3 | float, "x" | float(1.5), "inf" | float
-3 | abs, -2.5 | abs, 2.567 | round(2), 2.5 | round, 3.5 | round, 7 | round, 2.1 | round(method="ceil"), 2.9 | round(0, "floor")
"abc" | reverse, l | reverse | list, "a b  c" | wordcount, "%s-%s" | format(1, "x")
"one\ntwo\n\nthree" | indent, "one\ntwo" | indent(2, true), "a\n\nb" | indent(1, blank=true), "a\nb" | indent("> ")
l | string, none | string, 1.0 | string, "x" | string, missing | string
"a<b" | safe, ("a" | safe) + "<b>", "<i>" + ("a" | safe), "<" ~ ("a" | safe), ("a" | safe) + ("<b>" | safe)
"%d %s %r %.2f %% %i" % (5, "x", "y", 1.005, 3.9), "%s" % "solo", "%s" % 5
"{}".split("{"), "a,b,c".split(","), "a,b,c".split(",", 1), " a  b ".split(), "a b c".split(none, 1), "".split(","), "".split(), "a,b,c".rsplit(",", 1), "a b c d".rsplit(none, 2), "axbxc".split("x", maxsplit=1)
"  x ".strip(), "  x ".lstrip(), "  x ".rstrip(), "xyx".strip("x"), "abcabc".lstrip("ba"), "\u00a0x\u3000".strip(), "x\n".rstrip("\n")
"abc".startswith("a"), "abc".endswith(("x", "c")), "abc".startswith(""), "abc".replace("b", ""), "aaa".replace("a", "b", 2), "abc".replace("", "-")
"abc".upper(), "ABC".lower(), "abc".find("c"), "abc".find("z"), "wörld".find("l"), "abcabc".rfind("b"), "banana".count("an"), "abc".index("b"), "hello world".capitalize()
"-".join(["a", "b"]), "".join(["x"]), "a\nb\r\nc\n".splitlines(), "a\nb".splitlines(true), "12".isdigit(), "a1".isalnum(), "ab".isalpha(), " ".isspace(), "".isdigit()
"abc".removeprefix("a"), "abc".removesuffix("bc"), "abc".removeprefix("z"), [1, 2, 1].count(1), [1, 2].index(2)
"a" if t else "b", "a" if n, ("a" if n) is defined, 1 if n else 2 if t else 3
t is true, t is boolean, 1 is boolean, n is none, missing is defined, missing is undefined, s is string, d is mapping, l is mapping, l is sequence, s is sequence, d is sequence, n is sequence, missing is sequence
l is iterable, s is iterable, 1 is iterable, missing is iterable, n is iterable, 1 is number, true is number, 1.0 is float, 1 is integer, true is integer, range is callable, false is false, 0 is false, 1 is true
3 is odd, 4 is even, 9 is divisibleby 3, 9 is divisibleby(2), "a" is in "abc", 1 is eq 1, 1 is ne 2, 1 is lt 2, 2 is ge 2, "abc" is lower, "ABC" is upper, "1" is lower, 1 is sameas 1, none is sameas none, "tojson" is filter, "zz" is filter, "odd" is test
not 1 is odd, 1 is not odd, n is not none and t is true
-1 | abs, -l[0], +i, - -1, 2 - -1, -f
missing, missing or "x", missing == missing2, missing == none, missing != 1, missing ~ "x", not missing
n.foo, n["foo"], n.foo is defined, i.foo is defined, s.foo is defined, l.foo is defined, l["foo"] is defined
namespace(a=1).a, namespace({"x": 2}).x, namespace().y is defined, dict(a=1, b=[2]), dict({"x": 1}, y=2)
strftime_now("%Y-%m-%d"), strftime_now("%d %B %Y %H:%M %j %A %b %y"), strftime_now("%%")
"\x41\u00e9\n\t\\\'\"\101\q" | tojson, 'a\
b'
"a,b" | from_json if false else "[1, {\"k\": null}]" | from_json
{"a": 1}.a, {"a": {"b": 2}}["a"]["b"], {"items": 1}["items"], [1, [2, 3]][1][0], {1: "x"}[1], {true: "y"}[1]
[1,2,3,][0], (1,)[0], {"a": 1,}.a, ((1))
"x" is string and 1 is number or false, 1 == 1 and 2 == 2 or missing.foo
"abc".0, l.0, l.1
(l | map("string") | list)[0], l | map("string") | join("+"), (l | select("odd")) is iterable, (l | select("odd")) is sequence
""".strip("\n")
STATEMENTS = [
    "{% if a %}1{% elif b %}2{% else %}3{% endif %}",
    "{% for x in l %}{{ x }}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}"
    "{{ loop.last }}{{ loop.length }}{{ loop.depth }};{% endfor %}",
    "{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }}{{ loop.cycle('a', 'b') }} {% endfor %}",
    "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{% endfor %}",
    "{% for x in [] %}x{% else %}none{% endfor %}{% for x in [1] %}x{% else %}none{% endfor %}",
    "{% for x in l if x > 1 %}{{ x }}/{{ loop.length }} {% else %}-{% endfor %}{% for x in l if x > 9 %}x{% else %}e{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}",
    "{% for (a, (b, c)) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}{% for a, b in ['xy'] %}{{ b }}{{ a }}{% endfor %}",
    "{% for x in [1, 2, 3, 4] %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}!",
    "{% for a in [1, 2] %}{% for b in [1, 2] %}{% if b == 2 %}{% break %}{% endif %}{{ a }}{{ b }}{{ loop.depth }}{% endfor %}{{ loop.index }}{% endfor %}",
    "{% for c in 'wö' %}[{{ c }}]{% endfor %}{% for x in missing %}x{% endfor %}",
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}",
    "{% set ns = namespace(x=1) %}{% for i in [1, 2] %}{% set ns.x = ns.x + 1 %}{% endfor %}{{ ns.x }}{% set ns.y = [1] %}{{ ns.y }}",
    "{% if true %}{% set x = 5 %}{% endif %}{{ x }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set a, b = b, a %}{{ a }}{{ b }}{% set t = 1, 2 %}{{ t }}",
    "{% set x %} in {{ 1 }} {% endset %}[{{ x }}]{% set y | trim | upper %} q {% endset %}[{{ y }}]{{ x is string }}",
    "{% set x %}{% set inner = 1 %}{% endset %}{{ inner is defined }}",
    "{% macro f(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}|{% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(b=5, a=4) }}{{ f() }}{{ f(1, c=9) }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(4) }}{{ f is callable }}",
    "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, x=3) }}",
    "{% macro f(x) %}<{{ caller(x) }}>{% endmacro %}{% call(y) f(5) %}{{ y * 2 }}{% endcall %}",
    "{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}in{{ l }}{% endcall %}",
    "{% set g = 1 %}{% macro f() %}{{ g }}{% set g = 5 %}{% endmacro %}{{ f() }}{% set g = 2 %}{{ f() }}{{ g }}",
    "{% for i in [1, 2] %}{% macro f() %}{{ i }}{% endmacro %}{{ f() }}{% endfor %}",
    "{% filter upper %}a{{ 'b' }}{% endfilter %}{% filter replace('a', 'x') | trim %} aba {% endfilter %}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}",
    "{% generation %}x{% set q = 1 %}{% endgeneration %}{{ q is defined }}",
    "{% raw %}{{ x }} {% if %}{% endraw %}!", "{%- raw -%}  {{ x }}  {%- endraw -%}  !", "a\n  {% raw %}\n b {% endraw %}\n c",
    "a {# c #} b {#- c -#} c", "a\n  {# c #}\nb", "a\n{#- c #}\n b", "{# {{ x }} {% y %} #}z",
    "  {% if true %}\n  a\n  {% endif %}\n  b\n", "x {% if true %} y {% endif %} z", "x\n  {{ 1 }}\n  y",
    "  {%- if true -%}\n  a\n  {%- endif -%}\n  b\n", "  {%+ if true +%}\n  a\n  {%+ endif %}\n  b", "a  {{- 1 -}}  b", "a\n\n {{- 1 }} \n{{ 2 -}}\n\n b",
    "\n\n{% set x = 1 %}\n\n{{ x }}\n\n", "a\r\nb\rc\n", "{{ 'a\r\nb' }}", "trailing\n", "trailing\n\n", "", "\n", "{{ '}}' }}{{ {'a': {'b': 1}} }}{{ '{%' }}", "{{ \"a\nb\" }}",
    "\t {% if true %}\tx\t {% endif %}\ty", "a{% if true %}\n\nb{% endif %}", "  \n  {%- for x in l %}\n  {{ x }}\n  {%- endfor %}\n",
    "{{ 1 if true }}{{ 1 if false }}|", "{{ {'a': 1}['a'] }}{{ ('x') }}{{ 1, 2 }}{{ () }}", "{{ l[0] }}{{ l[-1] }}{{ l[0:2] }}",
    "{% set x = [1] + [2] %}{{ x }}{% set y = x + [3] %}{{ y }}{{ x }}", "{% for x in range(3) %}{{ x }}{% endfor %}",
    "{% for x in l | sort %}{{ x }}{% endfor %}{% for x in l, d %}{{ x }}{% endfor %}", "{% if 1, 2 %}t{% endif %}",
    "{% set g = l | map('string') %}{% for x in g %}{{ x }}{% endfor %}{% for x in g %}{{ x }}{% endfor %}{{ g | list }}",
    "{% set g = l | map('string') %}{{ g | first }}{{ g | list }}{{ '2' in (l | map('string')) }}",
    "{% for m in m %}{{ m.r }}{% endfor %}{{ m | length }}", "{% for x in l %}{% set loop_x = loop.index %}{{ loop_x }}{% endfor %}{{ loop_x is defined }}",
    "{% for x in l %}{% for y in l %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% for item in d.a %}{{ item is none }}{{ item is boolean }}{% endfor %}", "{{ caller is defined }}{{ loop is defined }}",
    "{% set messages = [1, 2, 3] %}{% set messages = messages[1:] %}{{ messages }}",
    "{% for k, v in d | dictsort %}{{ k }}:{{ v | tojson }},{% endfor %}", "{% for a in l %}{{ ', ' if not loop.first }}{{ a }}{% endfor %}",
    "{{ true if l }}{{ l and d }}{{ l or d }}{{ n or l }}", "{% if not missing %}a{% endif %}{% if missing is not defined %}b{% endif %}",
    "{{ '%s' % [1] }}{{ '%s %s' % ('a', [2]) }}", "{{ f }}{{ i }}{{ -f }}{{ f | int }}{{ f * 2 }}", "{{ s }}|{{ s | trim }}|",
]
ERRORS = [
    "{{ raise_exception('No <b>') }}", "{{ raise_exception('é ' ~ 1) }}", "{% if true %}{{ raise_exception('in if') }}{% endif %}",
    "{{ missing.foo }}", "{{ missing['foo'] }}", "{{ missing.foo.bar }}", "{{ d.missing.foo }}", "{{ missing() }}", "{{ d.nope() }}", "{{ l.append(1) }}",
    "{{ d.update({}) }}", "{{ d.pop('b') }}", "{{ 'a' + 1 }}", "{{ 1 + 'a' }}", "{{ [1] + (2,) }}", "{{ none + 'a' }}", "{{ missing + 'a' }}", "{{ 'a' + missing }}",
    "{{ 1 < 'a' }}", "{{ none < 1 }}", "{{ missing < 1 }}", "{{ 1 in 5 }}", "{{ 1 in 'a' }}", "{{ missing in 'a' }}", "{{ 1 in none }}", "{{ 1 / 0 }}", "{{ 1 // 0 }}", "{{ 1 % 0 }}",
    "{% for x in none %}{% endfor %}", "{% for x in 5 %}{% endfor %}", "{% for a, b in [1] %}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    "{{ n[1:] }}", "{{ d[1:] }}", "{{ missing[1:] }}", "{{ l['a':] }}", "{{ l[::0] }}", "{{ missing | tojson }}", "{{ [missing] | tojson }}", "{{ none | length }}", "{{ 5 | length }}",
    "{{ none | list }}", "{{ none | join }}", "{{ none | items | list }}", "{{ l | items | list }}", "{{ missing | int }}", "{{ missing | abs }}", "{{ (l | map('string')) | length }}", "{{ ['a', 1] | sort }}",
    "{{ [1, [2]] | sum }}", "{{ {[1]: 2} }}", "{{ [1] in d }}", "{{ 'x'() }}", "{{ 5() }}", "{{ l | select('nope') | list }}", "{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}",
    "{% macro f(a) %}{% endmacro %}{{ f(b=1) }}", "{% macro f(a) %}{% endmacro %}{{ f(1, a=2) }}", "{% set x = 1 %}{% set x.y = 2 %}", "{{ range(200000) }}", "{{ range() }}", "{{ 'a'.split('') }}",
    "{{ 'a' | replace('b') }}", "{{ 'a' | upper(1) }}", "{{ 'a' is eq }}", "{{ -'a' }}", "{{ -missing }}", "{{ '%d' % 'a' }}", "{{ '%s %s' % 'a' }}", "{{ '%s' % (1, 2) }}", "{{ ','.join([1]) }}", "{{ '{}'.format() }}", "{{ '{x}'.format(1) }}", "{{ '{'.format(1) }}", "{{ '}'.format(1) }}",
    "{{ 'abc'.index('z') }}", "{% set a, b = [1] %}", "{{ dict(5) }}", "{{ d.items().foo.bar }}", "{{ none.foo.bar }}", "{{ 'a' * 'b' }}", "{{ l | nosuchfilter }}", "{{ l is nosuchtest }}",
    "{% if false %}{{ l | nosuchfilter }}{% endif %}ok", "{% if false %}{{ missing.foo }}{% endif %}ok", "{{ 'x' if true else missing.foo }}", "{{ '' | from_json }}",
    "{% for x in l %}{{ loop.nope.foo }}{% endfor %}", "{{ namespace(5) }}", "{{ l | map(attribute='a.b') | list }}", "{{ m | selectattr('v.k.z.y') | list }}",
]
SYNTAX = [
    "{{", "{% if", "{% if true %}", "{% endif %}", "{{ 1 + }}", "{{ (1 }}", "{{ [1, }}", "{{ 'a }}", "{% for x %}{% endfor %}", "{% for in l %}{% endfor %}", "{# c", "{% raw %} x", "{% nosuch %}",
    "{{ 1 2 }}", "{{ a b }}", "{% set %}", "{% set 1 = 2 %}", "{% macro %}{% endmacro %}", "{% macro f(a=1, b) %}{% endmacro %}", "{% else %}", "{% for x in l %}{% endif %}", "{% break %}",
    "{{ a. }}", "{{ a | }}", "{{ a is }}", "{{ f(a=1, 2) }}", "{% call f %}{% endcall %}", "{{ } }}", "{{ ( ] }}", "{% if x %}{% else %}{% elif y %}{% endif %}", "{{ a ? b }}", "{{ 1 is odd is even }}",
    "{{ {1} }}", "{{ @ }}", "{% filter %}{% endfilter %}", "{{ x[ }}", "{% endfor %}", "{% if a = 1 %}{% endif %}", "{% with a %}{% endwith %}",
]


# ---- rendering

def render(env, text, variables):
    """{"text"} or {"error"}, with "raised" when the template said so itself."""
    try:
        return {"text": env.from_string(text).render(**variables)}
    except jinja2.exceptions.TemplateSyntaxError as error:
        return {"error": str(error), "syntax": True}
    except jinja2.exceptions.TemplateError as error:
        return {"error": str(error), "raised": type(error) is jinja2.exceptions.TemplateError}
    except (TypeError, ValueError, ArithmeticError, LookupError, SyntaxError, AttributeError) as error:
        return {"error": f"{type(error).__name__}: {error}", "syntax": isinstance(error, SyntaxError)}


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def goldens(env, files):
    for path in files:
        text = path.read_text()
        for one in cases():
            yield {"template": f"{path.parent.name}/{path.name}", "case": one["name"], **render(env, text, one["variables"])}


def constructs(env):
    expressions = [f"{{{{ {line} }}}}" for line in EXPRESSIONS.replace("'a\\\nb'", "'a\\\0b'").split("\n")]
    expressions = [line.replace("\0", "\n") for line in expressions]
    for text in expressions + STATEMENTS + ERRORS + SYNTAX:
        yield {"template": text, **render(env, text, {**WORDS, "now": NOW})}


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--templates", type=pathlib.Path)
    options.add_argument("--out", type=pathlib.Path)
    options = options.parse_args()
    env = environment()
    if options.templates:
        write_lines(options.out, goldens(env, sorted(options.templates.glob("*.jinja"))))
        return
    write_lines(DATA / "cases.jsonl", cases())
    write_lines(DATA / "goldens.jsonl", goldens(env, sorted(DATA.glob("*/*.jinja"))))
    write_lines(DATA / "constructs.jsonl", [{"variables": {**WORDS, "now": NOW}}, *constructs(env)])
    (DATA / "VERSION").write_text(f"jinja2 {jinja2.__version__}\n")


if __name__ == "__main__":
    main()
