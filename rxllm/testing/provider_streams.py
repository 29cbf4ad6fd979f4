r"""Answers as providers stream them: bodies for a `FaultServer`, one item per event.

The formats follow the public references:
https://platform.openai.com/docs/api-reference/chat-streaming and
https://docs.anthropic.com/en/docs/build-with-claude/streaming.

>>> openai_events("Hi")[-1]
b'data: [DONE]\n\n'
>>> anthropic_events("Hi")[-1]
b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["anthropic_event", "anthropic_events", "openai_event", "openai_events"]


def openai_event(**fields: Any) -> bytes:
    """Return one event of a chat completion; `fields` override its defaults.

    >>> b'"choices":[]' in openai_event(choices=[], usage={"prompt_tokens": 1})
    True
    """
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "gpt",
        **fields,
    }
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def openai_events(
    *texts: str,
    model: str = "gpt",
    finish_reason: str | None = "stop",
    usage: bool = True,
    done: bool = True,
) -> list[bytes]:
    """Return a chat completion that streams `texts`, one delta each.

    Args:
        texts: the deltas.
        model: name of the model that answers.
        finish_reason: of the event after the deltas, or `None` to omit that event.
        usage: whether to send a usage event, with 5 input tokens and one output token per text.
        done: whether to send `[DONE]`.
    """

    def choice(delta: dict[str, str], reason: str | None = None) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
        return openai_event(model=model, choices=choices)

    first: dict[str, str] = {"role": "assistant"}
    events = [
        choice({**(first if number == 0 else {}), "content": text})
        for number, text in enumerate(texts)
    ]
    if finish_reason is not None:
        events.append(choice({}, finish_reason))
    if usage:
        counts = {"prompt_tokens": 5, "completion_tokens": len(texts)}
        events.append(openai_event(model=model, choices=[], usage=counts))
    if done:
        events.append(b"data: [DONE]\n\n")
    return events


def anthropic_event(type: str, **fields: Any) -> bytes:  # noqa: A002 - its name on the wire
    """Return one event of a message, named after its type.

    >>> anthropic_event("ping")
    b'event: ping\\ndata: {"type":"ping"}\\n\\n'
    """
    data = msgspec.json.encode({"type": type, **fields})
    return b"event: " + type.encode() + b"\ndata: " + data + b"\n\n"


def anthropic_events(*texts: str, stop_reason: str | None = "end_turn") -> list[bytes]:
    """Return a message that streams `texts`, one delta each, after a ping.

    Its usage is 5 input tokens and one output token per text.

    Args:
        texts: the deltas.
        stop_reason: of the event after the deltas, or `None` to omit everything after the texts.
    """
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 1},
    }
    block = {"type": "text", "text": ""}
    events = [
        anthropic_event("message_start", message=message),
        anthropic_event("content_block_start", index=0, content_block=block),
        anthropic_event("ping"),
    ]
    for text in texts:
        delta = {"type": "text_delta", "text": text}
        events.append(anthropic_event("content_block_delta", index=0, delta=delta))
    if stop_reason is not None:
        end = {"stop_reason": stop_reason, "stop_sequence": None}
        events += [
            anthropic_event("content_block_stop", index=0),
            anthropic_event("message_delta", delta=end, usage={"output_tokens": len(texts)}),
            anthropic_event("message_stop"),
        ]
    return events
