"""The commit boundary: what may follow once a part of an answer has been passed on.

Before content has been passed on, an attempt may be followed by another one, and nobody sees a
difference in the text. After it, `after_output` decides:

- `"fail"`: the error, with the partial text.
- `"restart"`: `Notice("restart")`, once the next attempt says something or ends, then all that it
  gives. What comes before that is held, so that an attempt that only began takes nothing away.
- `"replay"`: the next attempt is compared with what was passed on, text and reasoning apart. What
  is equal is withheld, and it goes on from there; where it differs, the error. Refused once a tool
  call or JSON has begun.
- a function of the partial text: the stream that it gives goes on from there. What that repeats of
  the partial text is removed (see `Overlap` for the rule). Refused once a tool call or JSON has
  begun, and while there is nothing but reasoning, which nothing can go on from.

Where the last two are refused, after an `End`, and after a merge, it is the error; and so it is
where a model refuses to go on from a partial answer, with a `BadRequestError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias, get_args

import msgspec
from reactivex import Observable

from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Json,
    Notice,
    Reasoning,
    Start,
    Token,
    ToolCall,
    has_output,
    is_restart,
    text_of,
)
from rxllm.operators._held_text import HeldText
from rxllm.operators.recovery._overlap import Overlap
from rxllm.transcript import Transcript

__all__ = [
    "AfterOutput",
    "AnswerDiffersError",
    "ComparingFilter",
    "ContinuingFilter",
    "ReplayFilter",
    "RestartingFilter",
    "check_after_output",
    "replay_filter_after",
]

_Word: TypeAlias = Literal["fail", "restart", "replay"]

AfterOutput: TypeAlias = _Word | Callable[[str], Observable[Chunk]]
"""What to do about a failure after content was passed on: see the module's docstring."""


def check_after_output(after_output: object) -> None:
    """Check an argument.

    Raises:
        ValueError: it is neither a function nor one of the three words.
    """
    if not callable(after_output) and after_output not in get_args(_Word):
        raise ValueError(
            "after_output is 'fail', 'restart', 'replay', or a function of the partial text that "
            f"gives the stream that goes on from there, not {after_output!r}"
        )


class AnswerDiffersError(Exception):
    """A replayed answer is not what was passed on."""


class ReplayFilter:
    """What becomes of an attempt's chunks. Calls no observer, so what it raises is its own.

    Attributes:
        is_open: from here on every chunk passes as it is.
    """

    is_open = False

    def feed(self, chunk: Chunk) -> Iterable[Chunk]:
        """What is passed on, now that `chunk` has come.

        Raises:
            AnswerDiffersError: the answer is another one.
        """
        raise NotImplementedError

    def end(self) -> Iterable[Chunk]:
        """What is passed on, now that the attempt has completed.

        Raises:
            AnswerDiffersError: the answer is another one.
        """
        raise NotImplementedError


def replay_filter_after(transcript: Transcript, after_output: AfterOutput) -> ReplayFilter | None:
    """How another attempt may follow what was passed on; None: not at all."""
    if after_output == "fail":
        return None
    if after_output == "restart":
        return RestartingFilter()
    if not transcript.is_plain:
        return None
    if after_output == "replay":
        return ComparingFilter(transcript.text, transcript.reasoning)
    return ContinuingFilter(transcript.text, transcript.reasoning) if transcript.text else None


class RestartingFilter(ReplayFilter):
    """Tells of the restart when there is something to begin again with: not before."""

    def __init__(self) -> None:
        self._held: list[Chunk] = []  # a `Start`, mostly

    def feed(self, chunk: Chunk) -> Iterable[Chunk]:
        if type(chunk) is Notice:
            return () if is_restart(chunk) else (chunk,)  # the restart is told in any case
        if type(chunk) is Start:  # what began before it has said nothing, and is over
            self._held = [held for held in self._held if held.source != chunk.source]
        self._held.append(chunk)
        return self.end() if type(chunk) is End or has_output(chunk) else ()

    def end(self) -> Iterable[Chunk]:
        self.is_open = True
        return (Notice("restart"), *self._held)


class ComparingFilter(ReplayFilter):
    """Withholds what is equal to `text` and `reasoning`."""

    def __init__(self, text: str, reasoning: str) -> None:
        self._text = _Expected(text)
        self._reasoning = _Expected(reasoning)

    def feed(self, chunk: Chunk) -> Iterable[Chunk]:
        if is_restart(chunk):
            self.is_open = True
            return (Notice("restart"),)
        kind = type(chunk)
        if kind is Token or kind is Reasoning or kind is Batch:
            if chunk.source is not None:
                raise AnswerDiffersError("it comes from several streams")
            kept = self._rest_of(chunk)
            self.is_open = self._text.is_met and self._reasoning.is_met
            return kept
        if kind is ToolCall or kind is Json or kind is End:
            self.end()
        return (chunk,)

    def end(self) -> Iterable[Chunk]:
        if not (self._text.is_met and self._reasoning.is_met):
            raise AnswerDiffersError("it has no such text")
        return ()

    def _rest_of(self, chunk: Chunk) -> tuple[Chunk, ...]:
        if type(chunk) is Batch:
            rests = [rest for part in chunk.chunks for rest in self._rest_of(part)]
            if len(rests) == len(chunk.chunks) and all(map(_is, rests, chunk.chunks)):
                return (chunk,)
            parts = tuple(part for part in rests if type(part) is Token or type(part) is Reasoning)
            return (Batch(parts, "".join(map(text_of, parts))),) if parts else ()
        assert type(chunk) is Token or type(chunk) is Reasoning  # noqa: S101 - `feed` saw to it
        expected = self._text if type(chunk) is Token else self._reasoning
        if expected.is_met:
            return (chunk,)
        rest = expected.beyond(chunk.text)
        return (msgspec.structs.replace(chunk, text=rest),) if rest else ()


class ContinuingFilter(ReplayFilter):
    """Holds the beginning of a continuation while it may repeat `text`, and drops what does.

    At a failure what is held is dropped: it may be a repetition, and the next attempt continues
    the same text.
    """

    def __init__(self, text: str, reasoning: str) -> None:
        self._earlier = (text, reasoning)
        self._begin()

    def again(self) -> Iterable[Chunk]:
        """The continuation begins again: tell the subscriber, and repeat what was before it."""
        self._begin()
        text, reasoning = self._earlier
        before: list[Chunk] = [Reasoning(reasoning)] if reasoning else []
        return [Notice("restart"), *before, Token(text)]

    def feed(self, chunk: Chunk) -> Iterable[Chunk]:
        if type(chunk) is Token or type(chunk) is Batch:
            self._held.append(chunk)
            repeated = self._overlap.feed(chunk.text)
            return () if repeated is None else self._release(repeated)
        if type(chunk) is End:
            return [*self.end(), chunk]
        if self._held:
            self._held.append(chunk)
            return ()
        return (chunk,)

    def end(self) -> Iterable[Chunk]:
        return self._release(self._overlap.end())

    def _begin(self) -> None:
        self.is_open = False
        self._overlap = Overlap(self._earlier[0])
        self._held = HeldText()

    def _release(self, repeated: int) -> list[Chunk]:
        self.is_open = True
        return [*self._held.drop(repeated), *self._held.take_all()]


class _Expected:
    """A text that is to come again, in whatever pieces."""

    __slots__ = ("_at", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    @property
    def is_met(self) -> bool:
        return self._at == len(self._text)

    def beyond(self, piece: str) -> str:
        """The part of `piece` that goes beyond the expected text."""
        left = len(self._text) - self._at
        known = piece[:left]
        if not self._text.startswith(known, self._at):
            raise AnswerDiffersError("its text is another one")
        self._at += len(known)
        return piece[left:]


def _is(one: object, other: object) -> bool:
    return one is other
