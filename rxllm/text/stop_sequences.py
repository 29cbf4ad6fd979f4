"""Stop sequences, searched for in text that arrives in pieces.

The sequences are compiled once to an Aho-Corasick automaton (https://doi.org/10.1145/360825.360855),
so that a character costs the same with one sequence as with a hundred, and its memory grows with
the length of the sequences alone. Text without the first character of any sequence is skipped
at the speed of `re`.

>>> matcher = StopSequences("\\nHuman:").matcher()
>>> matcher.feed("Hello\\nHu"), matcher.held
('Hello', '\\nHu')
>>> matcher.feed("man: hi"), matcher.matched
('', '\\nHuman:')
"""

from __future__ import annotations

import re
from collections import deque
from functools import lru_cache

from rxllm.errors import BadRequestError

__all__ = ["StopMatcher", "StopSequences"]

_ROOT = 0

_MOST_CACHED = 1_000
"""Characters of sequences whose automaton is kept for the next request that has them."""


class StopSequences:
    """Sequences that end a text, compiled for any number of matchers.

    The sequence that ends first counts; of several that end at the same place, the longest. This
    holds however the text is cut into pieces.

    Args:
        sequences: one or more strings, none of them empty.

    Raises:
        BadRequestError: there is no sequence, or one is empty or not a string.
    """

    __slots__ = ("fails", "first", "met", "sequences", "steps")

    def __init__(self, *sequences: str) -> None:
        _check(sequences)
        self.sequences: tuple[str, ...] = sequences
        is_short = sum(map(len, sequences)) <= _MOST_CACHED
        automaton = (_automaton if is_short else _automaton.__wrapped__)(sequences)
        self.steps: list[dict[str, int]]
        self.fails: list[int]
        self.steps, self.fails, depths, words = automaton
        self.first: re.Pattern[str] = re.compile(
            "|".join(sorted({re.escape(text[0]) for text in sequences}))
        )
        self.met: tuple[tuple[int, str | None], ...] = tuple(zip(depths, words, strict=True))

    def matcher(self) -> StopMatcher:
        """Return a matcher for one text."""
        return StopMatcher(self)


class StopMatcher:
    """Searches one text for stop sequences. Made by `StopSequences.matcher`.

    Attributes:
        matched: the sequence that matched, `None` before that. Nothing is passed on after it.
        held: the text held back: the longest suffix of the text so far that is a prefix of a
            sequence, so always shorter than the longest sequence.
    """

    __slots__ = ("_sequences", "_state", "held", "matched")

    def __init__(self, sequences: StopSequences) -> None:
        self._sequences = sequences
        self._state = _ROOT
        self.held: str = ""
        self.matched: str | None = None

    def feed(self, text: str) -> str:
        """Read the next piece of the text, and return the text that may be passed on now.

        That is everything that can no longer be part of a sequence. The call that sets `matched`
        returns the rest of the text before the sequence; later calls return `""`.
        """
        if self.matched is not None:
            return ""
        first = self._sequences.first
        if self._state == _ROOT and first.search(text) is None:
            return text
        steps, fails, met = self._sequences.steps, self._sequences.fails, self._sequences.met
        state = self._state
        position, text = len(self.held), self.held + text
        depth = position
        while position < len(text):
            if state == _ROOT:
                found = first.search(text, position)
                if found is None:
                    break
                position = found.start()
            character = text[position]
            while (following := steps[state].get(character)) is None and state != _ROOT:
                state = fails[state]
            state = following or _ROOT
            depth, self.matched = met[state]
            position += 1
            if self.matched is not None:
                self._state, self.held = _ROOT, ""
                return text[: position - len(self.matched)]
        passed = len(text) - depth
        self._state, self.held = state, text[passed:]
        return text[:passed]

    def flush(self) -> str:
        """End or restart the text: return the held text, and hold nothing."""
        held, self.held, self._state = self.held, "", _ROOT
        return held


def _check(sequences: tuple[str, ...]) -> None:
    if not sequences:
        raise BadRequestError("at least one stop sequence is required")
    for sequence in sequences:
        if not isinstance(sequence, str):
            raise BadRequestError(
                f"a stop sequence must be a string, got {type(sequence).__name__}: "
                "pass several as separate arguments, as in StopSequences(*sequences)"
            )
        if not sequence:
            raise BadRequestError("stop sequences must not be empty")


@lru_cache
def _automaton(
    sequences: tuple[str, ...],
) -> tuple[list[dict[str, int]], list[int], list[int], list[str | None]]:
    """Build the automaton of all sequences, state by state.

    Returns:
        For each state the steps to longer states; the state of the longest proper suffix of what
        has matched, to continue from where there is no step; its depth (how much of a sequence has
        matched); and the longest sequence that ends there.
    """
    steps, depths, words = _trie(sequences)
    fails = [_ROOT] * len(steps)
    waiting = deque(steps[_ROOT].values())
    while waiting:
        state = waiting.popleft()
        words[state] = words[state] or words[fails[state]]
        for character, child in steps[state].items():
            fail = fails[state]
            while character not in steps[fail] and fail != _ROOT:
                fail = fails[fail]
            fails[child] = steps[fail].get(character, _ROOT)
            waiting.append(child)
    return steps, fails, depths, words


def _trie(
    sequences: tuple[str, ...],
) -> tuple[list[dict[str, int]], list[int], list[str | None]]:
    steps: list[dict[str, int]] = [{}]
    depths = [0]
    words: list[str | None] = [None]
    for sequence in sequences:
        state = _ROOT
        for character in sequence:
            if character not in steps[state]:
                steps[state][character] = len(steps)
                steps.append({})
                depths.append(depths[state] + 1)
                words.append(None)
            state = steps[state][character]
        words[state] = sequence
    return steps, depths, words
