"""Random streams, as models and agents give them, for the tests of the wire formats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from hypothesis import strategies as st

from rxllm.chunks import (
    Batch,
    Chunk,
    Citation,
    End,
    ErrorInfo,
    FileOutput,
    Notice,
    Progress,
    ProviderState,
    Reasoning,
    Start,
    Steering,
    Token,
    ToolCall,
    ToolResult,
    Usage,
    is_restart,
)
from rxllm.errors import OverloadedError
from rxllm.messages import Part, ReasoningPart, TextPart
from rxllm.transcript import Transcript
from rxllm.web.failures import failure_message
from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed
from rxllm.web.stream_store import Frame

__all__ = ["RUNS", "STREAMS", "Sent", "answers_of", "frames_of", "joined"]

STATE = ProviderState("anthropic", "claude", {"type": "thinking", "signature": "s"})
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=8)
STATES = st.sampled_from([None, None, STATE])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text("abc\u2028\n", max_size=4),
    lambda inner: st.dictionaries(st.text("ab", max_size=2), inner, max_size=2),
    max_leaves=4,
)
ARGUMENTS = st.dictionaries(st.text("ab", max_size=3), VALUES, max_size=3).map(json.dumps)


def _texts(kind: Any, pieces: list[str], state: ProviderState | None, batched: bool) -> list[Chunk]:
    said: list[Any] = [kind(piece) for piece in pieces]
    if batched:
        said = [Batch(tuple(said), "".join(pieces) if kind is Token else "")]
    return [*said, *([kind("", state=state)] if state is not None else [])]


PASSAGES = st.builds(
    _texts,
    st.sampled_from([Token, Reasoning]),
    st.lists(TEXTS, min_size=1, max_size=4),
    STATES,
    st.booleans(),
)
EXTRAS: st.SearchStrategy[list[Chunk]] = st.sampled_from(
    [
        [Citation("https://a.example", "A", "said")],
        [FileOutput("image/png", "iVBO")],
        [FileOutput("image/png", url="https://a.example/b.png")],
        [Notice("retry", 1, 0.5, error=ErrorInfo("E", "m"))],
        [Progress(3, 1.0, stage="generate")],
        [Token("")],
    ]
)


@st.composite
def _calls(draw: st.DrawFn, step: int) -> list[Chunk]:
    """Up to three calls, whose pieces may come in any order."""
    pieces: list[list[Chunk]] = []
    for index in range(draw(st.integers(0, 3))):
        arguments = draw(ARGUMENTS)
        cuts = sorted(draw(st.lists(st.integers(0, len(arguments)), max_size=3)))
        name, call_id = draw(st.sampled_from(["weather", "time"])), f"c{step}-{index}"
        growing: list[Chunk] = [ToolCall(call_id, name, arguments[:cut], index) for cut in cuts]
        state = draw(STATES)
        growing.append(ToolCall(call_id, name, arguments, index, complete=True, state=state))
        pieces.append(growing)
    mixed: list[Chunk] = []
    while any(pieces):
        growing = draw(st.sampled_from([each for each in pieces if each]))
        mixed.append(growing.pop(0))
    return mixed


@st.composite
def _answers(draw: st.DrawFn, step: int, more: bool, restarts: bool) -> list[Chunk]:
    chunks: list[Chunk] = [Start(f"r{step}", "model", "provider")]
    attempts = 2 if restarts and draw(st.booleans()) else 1
    for attempt in range(attempts):
        parts: list[list[Chunk]] = draw(st.lists(PASSAGES | EXTRAS, max_size=5))
        chunks += [chunk for part in parts for chunk in part]
        calls = draw(_calls(step))
        chunks += calls
        if attempt + 1 < attempts:
            chunks += [Notice("restart"), Start(f"r{step}", "model", "provider")]
    usage = st.builds(Usage, st.integers(0, 9), st.integers(0, 9), cached_tokens=st.none())
    chunks += draw(st.lists(usage, max_size=1))
    reason: Any = (
        "tool_calls" if calls else draw(st.sampled_from(["stop", "length", "content_filter"]))
    )
    return [*chunks, End(reason, more=more)]


class Sent(NamedTuple):
    """A stream: its chunks, and how it ended."""

    chunks: list[Chunk]
    failure: StreamFailed | None

    @property
    def has_restart(self) -> bool:
        return any(map(is_restart, self.chunks))


@st.composite
def _streams(draw: st.DrawFn, steps: int, restarts: bool = True, fails: bool = True) -> Sent:
    chunks: list[Chunk] = []
    count = draw(st.integers(1, steps))
    for step in range(count):
        more = step + 1 < count
        answer = draw(_answers(step, more, restarts))
        chunks += answer
        if more:
            begun = max((n for n, chunk in enumerate(answer) if is_restart(chunk)), default=0)
            for call in answer[begun:]:
                if isinstance(call, ToolCall) and call.complete:
                    if draw(st.booleans()):
                        chunks.append(ToolResult(call.id, call.name, 1, preliminary=True))
                        nested = Token("inner", source=call.id)
                        chunks += [Start("n", "inner", source=call.id), nested]
                    error = ErrorInfo("ToolError", "no") if draw(st.booleans()) else None
                    output = None if error else draw(VALUES)
                    chunks.append(ToolResult(call.id, call.name, output, error))
            if draw(st.booleans()):
                chunks.append(Steering("and?", f"u{step}"))
    failure = None
    if fails and draw(st.integers(0, 4)) == 0:
        chunks = chunks[: draw(st.integers(0, len(chunks) - 1))]
        failure = failure_message(OverloadedError("busy"), "s")
    return Sent(chunks, failure)


STREAMS = _streams(1)
"""Streams of models."""

RUNS = _streams(3)
"""Streams of agents: answers with results of tools between them."""

PLAIN = _streams(1, restarts=False, fails=False)
"""Streams of models without a restart or a failure."""


def frames_of(sent: Sent) -> list[Frame]:
    """Return the frames of a stream, as a store gives them."""
    transcript = Transcript()
    frames = []
    for position, chunk in enumerate(sent.chunks, 1):
        transcript.add(chunk)
        frames.append(
            Frame(position, StreamChunk(id="s", position=position, timestamp=0.0, chunk=chunk))
        )
    end = transcript.end
    last: Complete | StreamFailed = sent.failure or Complete(
        id="s",
        tokens=transcript.tokens,
        seconds=1.0,
        finish_reason=None if end is None else end.finish_reason,
        usage=transcript.usage,
        model="model",
        text=transcript.text,
    )
    return [*frames, Frame(len(frames) + 1, last)]


def answers_of(sent: Sent) -> list[list[Part]]:
    """Return the parts of each answer of a run, without nested ones: joined where they touch."""
    answers: list[list[Part]] = []
    transcript = Transcript()
    for chunk in sent.chunks:
        if chunk.source is None:
            transcript.add(chunk)
        if isinstance(chunk, End) and chunk.source is None:
            answers.append(joined(transcript.parts))
            transcript = Transcript()
    if transcript.parts:
        answers.append(joined(transcript.parts))
    return answers


def joined(parts: Sequence[Part]) -> list[Part]:
    """Join texts, and thinking, that touch each other and have no state between them."""
    found: list[Part] = []
    for part in parts:
        last = found[-1] if found else None
        touches = type(part) is type(last) and getattr(last, "state", None) is None
        if touches and isinstance(part, TextPart | ReasoningPart):
            text = last.text + part.text  # type: ignore[union-attr]
            found[-1] = msgspec.structs.replace(part, text=text)
        else:
            found.append(part)
    return found
