"""The script of a `ScriptedModel`, read and unrolled to timed events. Pure functions."""

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
"""A piece of text, a wait in seconds, a chunk to be sent as it is, or a failure."""

Script: TypeAlias = str | Sequence[Step]
"""One text, or steps in their order."""

Event: TypeAlias = tuple[float, Chunk | Exception | None]
"""What happens next (None: nothing), and how many seconds after what happened before it."""


def read_script(script: Script, by: str | None) -> list[Step]:
    """Check a script, and cut its texts.

    Raises:
        BadRequestError: a step is of another kind, or a time is negative.
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
                "a step of a script is a text, a number of seconds, a chunk or an exception, "
                f"not {step!r}"
            )
    return steps


def seconds(value: float) -> float:
    """Check a time.

    Raises:
        BadRequestError: it is negative or not finite.
    """
    if not 0 <= value < float("inf"):
        raise BadRequestError(f"a time is 0 seconds or more, not {value}")
    return value


def continuation(
    script: Sequence[Step],
    request: Request,
    stops: StopSequences | None,
    delays: tuple[float, float],
    finish: tuple[FinishReason | None, Usage | None],
) -> Iterator[Event]:
    """What follows the `Start`.

    Args:
        script: the steps, as `read_script` gives them.
        request: its `max_tokens` count.
        stops: where the script ends early.
        delays: seconds before the first event, and before each later one.
        finish: what the end says, and the usage if it is not to be counted.
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
        if isinstance(event, End):
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
        yield 0.0, usage or Usage(input_tokens=_words(request), output_tokens=tokens)
    yield 0.0, End(reason, met)


def _cut(text: str, by: str | None) -> Iterable[str]:
    if by == "word":
        return re.findall(r"\s*\S+|\s+", text)
    return text if by == "character" else [text]


def _words(request: Request) -> int:
    return sum(len(message.text.split()) for message in request.messages)


def _stopped(script: Sequence[Step], stops: StopSequences) -> tuple[list[Step], str | None]:
    """The script up to a stop sequence, without its text, and the sequence."""
    matcher = stops.matcher()
    before = len(matcher.feed("".join(map(_text, _until_failure(script)))))
    if matcher.matched is None:
        return list(script), None
    end = before + len(matcher.matched)
    spoken: list[Step] = []
    position = 0
    for step in script:
        if position == end:
            break
        text = _text(step)
        kept = text[: max(0, before - position)]
        if kept and isinstance(step, Token):
            spoken.append(msgspec.structs.replace(step, text=kept))
        elif kept or not text:
            spoken.append(kept or step)
        position = min(end, position + len(text))
    return spoken, matcher.matched


def _until_failure(script: Sequence[Step]) -> Iterator[Step]:
    for step in script:
        if isinstance(step, Exception):
            return
        yield step


def _text(step: Step) -> str:
    if isinstance(step, Token):
        return step.text
    return step if isinstance(step, str) else ""
