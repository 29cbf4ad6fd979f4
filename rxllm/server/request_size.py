"""The size of a request, within the limits of the server."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rxllm.requests import Request
from rxllm.server.limits import Limits
from rxllm.web.failures import InvalidMessageError, TooLargeError

__all__ = ["check_size"]


def check_size(request: Request, limits: Limits, prompt_field: str) -> None:
    """Reject a request above a limit.

    Args:
        request: what the client asks for.
        limits: the limits for clients.
        prompt_field: the client's name for the messages.

    Raises:
        InvalidMessageError: `max_tokens` is above the limit.
        TooLargeError: something else is, which it names with the limit.
    """
    if (request.max_tokens or 0) > limits.max_tokens:
        raise InvalidMessageError(
            f"max_tokens must be at most {limits.max_tokens}, got {request.max_tokens}", "maxTokens"
        )
    for what, size, limit, field in _sizes(request, limits, prompt_field):
        if size > limit:
            raise TooLargeError(f"{what} must be at most {limit}, got {size}", field)


def _sizes(request: Request, limits: Limits, field: str) -> Iterator[tuple[str, int, int, str]]:
    text = sum(len(message.text) for message in request.messages)
    schema, grammar = request.response_format, request.extra.get("grammar")
    yield "messages", len(request.messages), limits.messages, "messages"
    yield "the characters of the prompt", text, limits.prompt_characters, field
    yield "the number of stop sequences", len(request.stop), limits.stop_sequences, "stop"
    characters = sum(map(len, request.stop))
    yield "the characters of stop sequences", characters, limits.stop_characters, "stop"
    if isinstance(schema, dict):
        size = len(msgspec.json.encode(schema))
        yield "the bytes of the JSON Schema", size, limits.schema_bytes, "responseFormat"
    if isinstance(grammar, str):
        size = len(grammar.encode())
        yield "the bytes of the grammar", size, limits.grammar_bytes, "grammar"
