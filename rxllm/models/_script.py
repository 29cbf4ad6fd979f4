"""Pure functions that parse the script of a `ScriptedModel` and unroll it into timed events."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import msgspec

from rxllm.chunks import Chunk, End, FinishReason, Reasoning, Token, Usage
from rxllm.errors import BadRequestError
from rxllm.requests import Request
from rxllm.text.stop_sequences import StopSequences

__all__ = ["Event", "Script", "Step", "continuation", "read_script", "seconds"]

Step: TypeAlias = str | float | Chunk | Exception
"""A piece of text, a wait in seconds, a chunk to send unchanged, or an exception to fail with."""

Script: TypeAlias = str | Sequence[Step]
"""One text, or a sequence of steps."""

Event: TypeAlias = tuple[float, Chunk | Exception | None]
"""Seconds since the previous event, and what happens then (`None` for nothing)."""


def read_script(script: Script, by: str | None) -> list[Step]:
    """Validate a script and split its texts.

    Raises:
        BadRequestError: a step has an unsupported type, or a wait is negative or not finite.
    """
    steps: list[Step] = []
    for step in [script] if isinstance(script, str) else script:
        if isinstance(step, str):
            steps.extend(_cut(step, by))
        elif isinstance(step, int | float) and not isinstance(step, bool):
            steps.append(seconds(step))
        elif isinstance(step, Chunk | Exception):
            steps.append(step)
        else:
            raise BadRequestError(
                "a script step must be a str, a wait in seconds, a chunk or an exception, "
                f"got {step!r}"
            )
    return steps


def seconds(value: float) -> float:
    """Validate a wait.

    Raises:
        BadRequestError: it is negative or not finite.
    """
    if not 0 <= value < float("inf"):
        raise BadRequestError(f"a wait must be 0 seconds or more and finite, got {value}")
    return value


def continuation(
    script: Sequence[Step],
    request: Request,
    stops: StopSequences | None,
    delays: tuple[float, float],
    finish: tuple[FinishReason | None, Usage | None],
) -> Iterator[Event]:
    """Yield the events that follow the `Start`.

    Args:
        script: the steps, as returned by `read_script`.
        request: only its `max_tokens` and its messages (for the usage) are read.
        stops: the stop sequences that end the script early, if any.
        delays: seconds before the first event, and before each later one.
        finish: the finish reason of `End`, and the usage to report instead of counting tokens.
    """
    reason, usage = finish
    met, usage_sent = None, False
    if stops is not None:
        script, met = _stopped(script, stops)
        reason = reason if met is None else "stop"
    tokens, pause, delay = 0, 0.0, delays[0]
    for step in script:
        if isinstance(step, int | float):
            pause += step
            continue
        event = Token(step) if isinstance(step, str) else step
        yield pause + delay, event
        if isinstance(event, End) and not event.more:
            return
        pause, delay = 0.0, delays[1]
        tokens += isinstance(event, Token | Reasoning)
        usage_sent = usage_sent or isinstance(event, Usage)
        if tokens == request.max_tokens:
            reason, met = "length", None
            break
    yield pause, None
    if reason is None:
        return
    if not usage_sent:
        yield 0.0, usage or Usage(input_tokens=words_in(request), output_tokens=tokens)
    yield 0.0, End(reason, met)


def _cut(text: str, by: str | None) -> Iterable[str]:
    if by == "word":
        return re.findall(r"\s*\S+|\s+", text)
    return text if by == "character" else [text]


def words_in(request: Request) -> int:
    """Return the number of words of a prompt."""
    return sum(len(message.text.split()) for message in request.messages)


def _stopped(script: Sequence[Step], stops: StopSequences) -> tuple[list[Step], str | None]:
    """The script up to the first stop sequence, and that sequence (`None` if there is none)."""
    matcher = stops.matcher()
    before = len(matcher.feed("".join(map(_text, _until_failure(script)))))
    if matcher.matched is None:
        return list(script), None
    end = before + len(matcher.matched)
    played: list[Step] = []
    position = 0
    for step in script:
        if position == end:
            break
        text = _text(step)
        kept = text[: max(0, before - position)]
        if kept and isinstance(step, Token):
            played.append(msgspec.structs.replace(step, text=kept))
        elif kept or not text:
            played.append(kept or step)
        position = min(end, position + len(text))
    return played, matcher.matched


def _until_failure(script: Sequence[Step]) -> Iterator[Step]:
    for step in script:
        if isinstance(step, Exception):
            return
        yield step


def _text(step: Step) -> str:
    if isinstance(step, Token):
        return step.text
    return step if isinstance(step, str) else ""
