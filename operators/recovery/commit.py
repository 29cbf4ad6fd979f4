"""The commit boundary: what may follow once part of an answer has been passed on.

Before content has been passed on, one attempt can replace another without a visible difference in
the text. After that, `after_output` decides:

- `"fail"`: the error, with the partial text.
- `"restart"`: `Notice("restart")` with the first content of the next attempt, or at its end, then
  all of that attempt. Chunks before that content are held, so an attempt that fails before it takes
  nothing away.
- `"replay"`: the next attempt is compared with what was passed on, text and reasoning separately.
  The equal beginning is withheld, and the rest is passed on; if it differs, the error. Refused once
  a tool call or JSON has started.
- a function of the partial text: the stream it returns continues the answer. Partial text that it
  repeats is removed (see `Overlap` for the rule). Refused once a tool call or JSON has started, and
  while there is only reasoning, which can't be continued.

The last two are also refused after an `End` and after a merge, and all of them once the answer of
a run is complete, since its tools would run again. Where they are refused, and where a
model refuses to continue a partial answer with a `BadRequestError`, the result is the error.
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
    Notice,
    Reasoning,
    Start,
    Token,
    has_output,
    is_bare_state,
    is_restart,
    text_of,
)
from rxllm.operators._held_text import HeldText
from rxllm.operators.recovery._continuation import Continuation
from rxllm.operators.recovery._overlap import Overlap, Repetition
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
"""What to do after a failure once content was passed on; see the docstring of the module."""


def check_after_output(after_output: object) -> None:
    """Check an argument.

    Raises:
        ValueError: it is neither a function nor one of the three strings.
    """
    if not callable(after_output) and after_output not in get_args(_Word):
        raise ValueError(
            "after_output must be 'fail', 'restart', 'replay', or a function from the partial text "
            f"to the stream that continues it, got {after_output!r}"
        )


class AnswerDiffersError(Exception):
    """A replayed answer differs from what was passed on."""


class ReplayFilter:
    """Filters the chunks of an attempt. Never calls an observer; any exception is its own.

    Attributes:
        is_open: whether all further chunks pass unchanged.
    """

    is_open: bool = False

    def feed(self, chunk: Chunk) -> Iterable[Chunk]:
        """The chunks to pass on after `chunk`.

        Raises:
            AnswerDiffersError: the answer differs.
        """
        raise NotImplementedError

    def end(self) -> Iterable[Chunk]:
        """The chunks to pass on at the completion of the attempt.

        Raises:
            AnswerDiffersError: the answer differs.
        """
        raise NotImplementedError


def replay_filter_after(transcript: Transcript, after_output: AfterOutput) -> ReplayFilter | None:
    """The filter for an attempt after output was passed on, or `None` if none may follow.

    None may follow once a tool has run: it would run again.
    """
    if after_output == "fail" or transcript.tools_ran:
        return None
    if after_output == "restart":
        return RestartingFilter()
    if not transcript.is_plain:
        return None
    if after_output == "replay":
        return ComparingFilter(transcript.text, transcript.reasoning, transcript.states)
    if not transcript.text:
        return None
    text = transcript.text
    words = after_output.repeated(text) if isinstance(after_output, Continuation) else ""
    return ContinuingFilter(text, transcript.reasoning, words, transcript.tokens)


class RestartingFilter(ReplayFilter):
    """Sends the restart notice with the first content of the new answer."""

    def __init__(self) -> None:
        self._held: list[Chunk] = []  # a `Start`, mostly

    def feed(self, chunk: Chunk) -> Iterable[Chunk]:
        if type(chunk) is Notice:
            return () if is_restart(chunk) else (chunk,)  # a restart notice follows in any case
        if type(chunk) is Start:  # replaces an attempt without content
            self._held = [held for held in self._held if held.source != chunk.source]
        self._held.append(chunk)
        return self.end() if type(chunk) is End or has_output(chunk) else ()

    def end(self) -> Iterable[Chunk]:
        self.is_open: bool = True
        return (Notice("restart"), *self._held)


class ComparingFilter(ReplayFilter):
    """Withholds the beginning that is equal to `text` and `reasoning`.

    The states that belong to it aren't compared: the first `states` ones are withheld.
    """

    def __init__(self, text: str, reasoning: str, states: int) -> None:
        self._text = _Expected(text)
        self._reasoning = _Expected(reasoning)
        self._states = states  # still to come again

    def feed(self, chunk: Chunk) -> Iterable[Chunk]:
        if is_restart(chunk):
            self.is_open = True
            return (Notice("restart"),)
        kind = type(chunk)
        if kind is Token or kind is Reasoning or kind is Batch:
            if chunk.source is not None:
                raise AnswerDiffersError("it has several sources")
            kept = self._rest_of(chunk)
            self.is_open: bool = self._text.is_met and self._reasoning.is_met and not self._states
            return kept
        if chunk.is_content or kind is End:
            self.end()
        return (chunk,)

    def end(self) -> Iterable[Chunk]:
        if not (self._text.is_met and self._reasoning.is_met):
            raise AnswerDiffersError("it is missing part of the earlier text")
        return ()

    def _rest_of(self, chunk: Chunk) -> tuple[Chunk, ...]:
        if type(chunk) is Batch:
            rests = [rest for part in chunk.chunks for rest in self._rest_of(part)]
            if len(rests) == len(chunk.chunks) and all(map(_is, rests, chunk.chunks)):
                return (chunk,)
            parts = tuple(part for part in rests if type(part) is Token or type(part) is Reasoning)
            return (Batch(parts, "".join(map(text_of, parts))),) if parts else ()
        assert type(chunk) is Token or type(chunk) is Reasoning  # noqa: S101 - checked in `feed`
        expected = self._text if type(chunk) is Token else self._reasoning
        if is_bare_state(chunk):
            is_known = self._states > 0 or not expected.is_met
            self._states = max(0, self._states - 1)
            return () if is_known else (chunk,)
        if expected.is_met:
            self._states = 0  # what belongs to this text hasn't been passed on
            return (chunk,)
        rest = expected.beyond(chunk.text)
        self._states = 0 if rest else self._states
        return (msgspec.structs.replace(chunk, text=rest),) if rest else ()


class ContinuingFilter(ReplayFilter):
    """Holds the beginning of a continuation while it may repeat `text`, and drops the repetition.

    The maximum of its `Start` becomes that of the whole answer, which has `tokens` already.

    At a failure the held text is dropped: it may be a repetition, and the next attempt continues
    the same text.
    """

    def __init__(self, text: str, reasoning: str, words: str, tokens: int) -> None:
        self._earlier = (text, reasoning)
        self._tokens = tokens
        self._words = words  # that the model was asked to repeat
        self._begin()

    def again(self) -> Iterable[Chunk]:
        """Restart the continuation: send the restart notice and the earlier text again."""
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
        if type(chunk) is Start and chunk.max_tokens is not None:
            chunk = msgspec.structs.replace(chunk, max_tokens=self._tokens + chunk.max_tokens)
        if self._held:
            self._held.append(chunk)
            return ()
        return (chunk,)

    def end(self) -> Iterable[Chunk]:
        return self._release(self._overlap.end())

    def _begin(self) -> None:
        self.is_open: bool = False
        text = self._earlier[0]
        self._overlap = Repetition(text, self._words) if self._words else Overlap(text)
        self._held = HeldText()

    def _release(self, repeated: int) -> list[Chunk]:
        self.is_open = True
        return [*self._held.drop(repeated), *self._held.take_all()]


class _Expected:
    """A text that is expected again, split in any way."""

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
            raise AnswerDiffersError("its text is not the same")
        self._at += len(known)
        return piece[left:]


def _is(one: object, other: object) -> bool:
    return one is other
