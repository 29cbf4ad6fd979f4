"""A server that refuses bad histories, as the APIs of the providers do: with status 400.

The rules, and most of their words, are those of the APIs in November 2026: Anthropic's and OpenAI's
references, https://api-docs.deepseek.com/guides/thinking_mode,
https://openrouter.ai/docs/use-cases/reasoning-tokens,
https://ai.google.dev/gemini-api/docs/thought-signatures and Mistral's reference. Bodies are checked
against the types of the SDKs, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from types import TracebackType
from typing import Any, Self, TypeAlias

from aiohttp import web
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from pydantic import TypeAdapter, ValidationError

Body: TypeAlias = dict[str, Any]
Rules: TypeAlias = Callable[[Body], Iterator[str]]
"""Yields what is wrong with the body of a request."""


class StrictServer:
    """Answers each good request with the next of `answers`, and each bad one with status 400.

    The rules of the providers' own APIs are in `strict_native_providers`.

    Attributes:
        bodies: of all requests.
        refused: why requests were refused.
    """

    def __init__(self, rules: Rules, *answers: Sequence[bytes]) -> None:
        self.bodies: list[Body] = []
        self.refused: list[str] = []
        self._rules = rules
        self._answers = list(answers)
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        wrong = next(self._rules(body), None)
        if wrong is not None:
            self.refused.append(wrong)
            error = {"type": "invalid_request_error", "message": wrong}
            return web.json_response({"type": "error", "error": error}, status=400)
        events = b"".join(self._answers.pop(0))
        kind = "application/x-ndjson" if events.startswith(b"{") else "text/event-stream"
        return web.Response(body=events, content_type=kind)


def anthropic(body: Body) -> Iterator[str]:
    """The rules of Anthropic's Messages API. Good signatures are `"signed " + thinking`."""
    yield from type_errors(MessageCreateParamsStreaming, body)
    turns = body["messages"]
    last = len(turns) - 1
    open_calls: list[str] = []
    for place, turn in enumerate(turns):
        blocks = turn["content"]
        if isinstance(blocks, str):
            blocks = [{"type": "text", "text": blocks}]
        if not blocks or blocks == [{"type": "text", "text": ""}]:
            yield f"messages.{place}: all messages must have non-empty content"
        yield from _wrong_blocks(place, blocks, turn["role"])
        answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if sorted(answered) != sorted(open_calls):
            yield (
                f"messages.{place}: `tool_use` ids were found without `tool_result` blocks "
                f"immediately after: {open_calls}, got {answered}"
            )
        open_calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if turn["role"] == "assistant":
            if body.get("thinking") and open_calls and not _is_thinking(blocks[0]):
                yield (
                    f"messages.{place}.content.0.type: Expected `thinking` or "
                    f"`redacted_thinking`, but found `{blocks[0]['type']}`"
                )
            if _is_thinking(blocks[-1]):
                yield "The final block in an assistant message cannot be `thinking`."
            text = blocks[-1].get("text", "")
            if place == last and text != text.rstrip():
                yield "messages: final assistant content cannot end with trailing whitespace"
    if open_calls:
        yield f"`tool_use` ids were found without `tool_result` blocks: {open_calls}"


def _wrong_blocks(place: int, blocks: Sequence[Body], role: str) -> Iterator[str]:
    for number, block in enumerate(blocks):
        if block["type"] == "text" and not block["text"].strip():
            yield "messages: text content blocks must contain non-whitespace text"
        if block["type"] == "thinking":
            if "signature" not in block:
                yield f"messages.{place}.content.{number}.thinking.signature: Field required"
            elif block["signature"] != f"signed {block['thinking']}":
                yield f"messages.{place}.content.{number}: Invalid `signature` in `thinking` block"
        if block["type"] == "redacted_thinking" and not block["data"].startswith("encrypted"):
            yield f"messages.{place}.content.{number}: Invalid `data` in `redacted_thinking` block"
        if role != "assistant" and (_is_thinking(block) or block["type"] == "tool_use"):
            yield f"messages.{place}: `{block['type']}` blocks can only be in `assistant` messages"


def _is_thinking(block: Body) -> bool:
    return block["type"] in ("thinking", "redacted_thinking")


_MESSAGE_FIELDS = {"role", "content", "name", "tool_calls", "tool_call_id", "refusal"}


def openai(body: Body) -> Iterator[str]:
    """The rules of OpenAI's chat completions."""
    yield from type_errors(CompletionCreateParamsStreaming, body)
    yield from _unknown_fields(body["messages"], _MESSAGE_FIELDS)
    yield from _pairs(body["messages"])


def mistral(body: Body) -> Iterator[str]:
    """The rules of Mistral: as OpenAI, but no blank answers, and thinking as a part."""
    yield from _unknown_fields(body["messages"], {*_MESSAGE_FIELDS, "prefix"} - {"refusal"})
    yield from _pairs(body["messages"])
    for message in body["messages"]:
        if message["role"] == "assistant" and not (message["content"] or message.get("tool_calls")):
            yield "Assistant message must have either content or tool_calls, but not none."
        for part in message["content"] if isinstance(message["content"], list) else ():
            if part["type"] == "thinking" and not all(
                each["type"] == "text" for each in part["thinking"]
            ):
                yield "thinking must be a list of parts"


def deepseek(body: Body) -> Iterator[str]:
    """The rules of DeepSeek: the reasoning before the calls of this turn is sent back."""
    yield from _pairs(body["messages"])
    for message in _this_turn(body["messages"]):
        if message.get("tool_calls") and not message.get("reasoning_content"):
            yield "Missing `reasoning_content` field in the assistant message"


def gemini(body: Body) -> Iterator[str]:
    """The rules of Gemini behind OpenAI's form: the first call of each step is signed."""
    yield from _pairs(body["messages"])
    for message in _this_turn(body["messages"]):
        for call in message.get("tool_calls", ())[:1]:
            signature = call.get("extra_content", {}).get("google", {}).get("thought_signature")
            if signature != f"signed {call['id']}":
                yield "Function call is missing a thought_signature in functionCall parts."


def openrouter(details: Sequence[Body]) -> Rules:
    """The rules of OpenRouter: the reasoning of this turn is sent back as `details`."""

    def rules(body: Body) -> Iterator[str]:
        yield from _pairs(body["messages"])
        for message in _this_turn(body["messages"]):
            if message.get("reasoning_details") != list(details):
                yield f"reasoning_details were changed: {message.get('reasoning_details')}"

    return rules


def _this_turn(messages: Sequence[Body]) -> list[Body]:
    """The answers since the user's last message."""
    asked = max(place for place, each in enumerate(messages) if each["role"] == "user")
    return [each for each in messages[asked:] if each["role"] == "assistant"]


def _pairs(messages: Sequence[Body]) -> Iterator[str]:
    open_calls: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                yield "messages with role 'tool' must be a response to a preceding 'tool_calls'"
            else:
                open_calls.remove(message["tool_call_id"])
            continue
        if open_calls:
            break
        calls = message.get("tool_calls", ())
        for call in calls:
            try:
                json.loads(call["function"]["arguments"])
            except ValueError:
                yield "function.arguments must be JSON"
        open_calls = [call["id"] for call in calls]
    if open_calls:
        yield f"these tool_call_ids did not have response messages: {open_calls}"


def _unknown_fields(messages: Sequence[Mapping[str, Any]], known: set[str]) -> Iterator[str]:
    for message in messages:
        if unknown := set(message) - known:
            yield f"Extra inputs are not permitted: {sorted(unknown)}"


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def type_errors(kind: Any, body: Body) -> Iterator[str]:
    if unknown := set(body) - set(kind.__annotations__) - _inherited(kind):
        yield f"Extra inputs are not permitted: {sorted(unknown)}"
    try:
        _adapter(kind).validate_python(body)
    except ValidationError as error:
        yield str(error)


def _inherited(kind: Any) -> set[str]:
    return {name for each in kind.__orig_bases__ for name in getattr(each, "__annotations__", ())}
