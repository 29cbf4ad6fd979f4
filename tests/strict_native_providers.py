"""The rules of the Responses API and of Gemini's and Ollama's own, for a `StrictServer`.

They are those of the APIs in November 2026: OpenAI's reference and the 400s in its community's
reports, https://ai.google.dev/gemini-api/docs/thought-signatures,
https://ai.google.dev/gemini-api/docs/function-calling, and Ollama's `api/types.go`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

from google.genai import types
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from pydantic import ValidationError

from tests.strict_providers import Body, type_errors

_SIGNATURES = ("c2lnbmVk", "skip_thought_signature_validator")


def responses(body: Body) -> Iterator[str]:
    """The rules of OpenAI's Responses API, with `store: false`.

    Good reasoning is encrypted as `"encrypted " + id`.
    """
    yield from type_errors(ResponseCreateParamsStreaming, body)
    items = body["input"]
    for item, following in zip(items, [*items[1:], {}], strict=True):
        if item.get("type") != "reasoning":
            continue
        if not item.get("encrypted_content"):
            yield f"Item with id '{item['id']}' not found: `store` is set to false."
        elif item["encrypted_content"] != f"encrypted {item['id']}":
            yield f"The encrypted content for item {item['id']} could not be verified."
        is_output = following.get("role") == "assistant" or "call" in following.get("type", "")
        if not is_output or following.get("type") == "function_call_output":
            yield (
                f"Item '{item['id']}' of type 'reasoning' was provided without its required "
                "following item."
            )
    calls = [item["call_id"] for item in items if item.get("type") == "function_call"]
    outputs = [item["call_id"] for item in items if item.get("type") == "function_call_output"]
    for call_id in set(calls) ^ set(outputs):
        yield f"No tool call or no tool output found for call_id {call_id}."


def gemini_native(body: Body) -> Iterator[str]:
    """The rules of Gemini's own API: the first call of each step of this turn is signed.

    Good signatures are base64 of `"signed"`; for calls of other models there is a dummy.
    """
    contents = body["contents"]
    yield from _wrong_contents(contents)
    open_calls = 0
    for place, content in enumerate(contents):
        answers = _of("functionResponse", content)
        if len(answers) != open_calls:
            yield (
                "Please ensure that the number of function response parts is equal to the number "
                "of function call parts of the function call turn."
            )
        calls = _of("functionCall", content)
        if calls and (place == 0 or contents[place - 1]["role"] != "user"):
            yield (
                "Please ensure that function call turn comes immediately after a user turn or "
                "after a function response turn."
            )
        is_this_turn = not any(_is_question(each) for each in contents[place:])
        if is_this_turn and calls and calls[0].get("thoughtSignature") not in _SIGNATURES:
            yield "Function call is missing a thought_signature in functionCall parts."
        open_calls = len(calls)
    if open_calls:
        yield "Please ensure that function call turn is followed by a function response turn."


def _wrong_contents(contents: Sequence[Body]) -> Iterator[str]:
    for place, content in enumerate(contents):
        if content["role"] not in ("user", "model"):
            yield "Please use a valid role: user, model."
        if not content["parts"]:
            yield f"contents[{place}].parts: contents.parts must not be empty."
        if any(part in ({}, {"text": ""}) for part in content["parts"]):
            yield "contents.parts.data: required oneof field 'data' must have one initialized field"
        try:
            types.Content.model_validate(deepcopy(content))
        except ValidationError as error:
            yield str(error)


def _of(kind: str, content: Body) -> list[Body]:
    return [part for part in content["parts"] if kind in part]


def _is_question(content: Body) -> bool:
    return content["role"] == "user" and not _of("functionResponse", content)


def ollama(body: Body) -> Iterator[str]:
    """What Ollama's decoder of Go refuses; it takes any order of messages."""
    for message in body["messages"]:
        if not isinstance(message["content"], str):
            yield "json: cannot unmarshal array into Go struct field Message.content of type string"
        for call in message.get("tool_calls", ()):
            arguments: Any = call["function"]["arguments"]
            if not isinstance(arguments, dict):
                yield "json: cannot unmarshal string into Go struct field arguments of type map"
        if unknown := set(message) - {
            "role", "content", "thinking", "images", "tool_calls", "tool_name", "tool_call_id",
        }:  # fmt: skip
            yield f"unknown fields: {sorted(unknown)}"
