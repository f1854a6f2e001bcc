# SPDX-License-Identifier: BSD-3-Clause
"""Replies against OpenAI's published shapes: the models that the Python SDK has, which are made from the OpenAPI
description. Stricter than the SDK's own reading: types must be exact, required keys there, and a key that OpenAI
does not know must be one that vLLM has there."""
import json
import re

import pydantic
from openai.types import Completion, CompletionUsage, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.shared import ErrorObject

# Keys beyond OpenAI's, by where they stand: those of vLLM and of llm-d's scheduler.
OURS = {
    "choices": {"stop_reason", "prompt_logprobs", "token_ids", "prompt_token_ids"},
    "choices.message": {"reasoning", "reasoning_content"},
    "choices.delta": {"reasoning", "reasoning_content"},
    "": {"root", "parent", "max_model_len", "permission"},
}
# Required by the OpenAPI description, though its value may be null, which the SDK's models do not tell apart.
NULLABLE = {
    Completion: {"choices": {"logprobs", "finish_reason", "text", "index"}},
    ChatCompletion: {
        "choices": {"logprobs", "finish_reason", "message", "index"},
        "choices.message": {"content", "refusal", "role"},
    },
    ChatCompletionChunk: {"choices": {"finish_reason", "delta", "index"}},
}


class ShapeFault(AssertionError):
    pass


def require(condition, text):
    if not condition:
        raise ShapeFault(text)


def check_extra(value, path):
    """Walks what pydantic built: extra keys are those its model does not have."""
    if isinstance(value, list):
        for item in value:
            check_extra(item, path)
    if not isinstance(value, pydantic.BaseModel):
        return
    unknown = set(value.model_extra or {}) - OURS.get(path, set())
    require(not unknown, f"unknown keys {sorted(unknown)} at '{path}'")
    for name in type(value).model_fields:
        check_extra(getattr(value, name), f"{path}.{name}".strip("."))


def check_keys(raw, needed):
    for path, keys in needed.items():
        places = [raw]
        for step in path.split("."):
            found = [place[step] for place in places if step in place]
            places = [item for value in found for item in (value if isinstance(value, list) else [value])]
        for place in places:
            require(keys <= set(place), f"no {sorted(keys - set(place))} at '{path}'")


def check(model, raw):
    """The reply as the SDK's object; ShapeFault says what is wrong with it."""
    try:
        value = model.model_validate(raw, strict=True)
    except pydantic.ValidationError as fault:
        raise ShapeFault(f"{fault}\nin {json.dumps(raw)[:2000]}") from None
    check_extra(value, "")
    check_keys(raw, NULLABLE.get(model, {}))
    return value


def with_first_score(raw):
    """Nothing comes before the first token of an echo, so it has null as logprob: OpenAI's replies do, its shape not."""
    told = json.loads(json.dumps(raw))
    for choice in told["choices"]:
        scores = choice["logprobs"] or {"token_logprobs": []}
        if scores["token_logprobs"] and scores["token_logprobs"][0] is None:
            require(scores["top_logprobs"][0] is None, "the first token has tops and no logprob")
            scores["token_logprobs"][0], scores["top_logprobs"][0] = 0.0, {}
    return told


def check_completion(raw):
    require(raw["id"].startswith("cmpl-"), f"id {raw['id']}")
    check_usage(raw["usage"])
    return check(Completion, with_first_score(raw))


def check_completion_event(raw):
    """Streamed completions have null as finish_reason until the last, which the SDK's model does not know."""
    told = with_first_score(raw)
    for choice in told["choices"]:
        require("finish_reason" in choice, "no finish_reason")
        choice["finish_reason"] = choice["finish_reason"] or "stop"
    if told.get("usage"):
        check_usage(told["usage"])
    return check(Completion, told)


def check_chat(raw):
    require(raw["id"].startswith("chatcmpl-"), f"id {raw['id']}")
    check_usage(raw["usage"])
    for choice in raw["choices"]:
        for call in choice["message"].get("tool_calls") or []:
            require(re.fullmatch(r"[A-Za-z0-9_-]+", call["id"]), f"id {call['id']} of a call")
    return check(ChatCompletion, raw)


def check_chat_event(raw):
    if raw.get("usage"):
        check_usage(raw["usage"])
    return check(ChatCompletionChunk, raw)


def check_usage(raw):
    usage = check(CompletionUsage, raw)
    require(
        usage.total_tokens == usage.prompt_tokens + usage.completion_tokens,
        f"usage does not add up: {raw}")
    details = usage.prompt_tokens_details
    require(
        details is None or 0 <= (details.cached_tokens or 0) <= usage.prompt_tokens,
        f"more cached than there is: {raw}")
    return usage


def check_model(raw):
    return check(Model, raw)


def check_error(raw):
    require(set(raw) == {"error"}, f"an error has other keys: {sorted(raw)}")
    require(
        set(raw["error"]) == {"message", "type", "param", "code"},
        f"an error object has the keys {sorted(raw['error'])}")
    error = check(ErrorObject, raw["error"])
    require(error.message.strip() and "\n" not in error.message, f"message {error.message!r}")
    return error
