"""Stop sequences, searched for in text that arrives in pieces.

The sequences are compiled once to an Aho-Corasick automaton, so that a character costs the same
with one sequence as with a hundred. Text without the first character of any sequence is skipped
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


class StopSequences:
    """Sequences that end a text, compiled for any number of matchers.

    The sequence that ends first counts; of several that end at the same place, the longest. This
    holds however the text is cut into pieces.

    Args:
        sequences: one or more strings, none of them empty.

    Raises:
        BadRequestError: there is no sequence, or one is empty or not a string.
    """

    __slots__ = ("first", "met", "sequences", "steps")

    def __init__(self, *sequences: str) -> None:
        _check(sequences)
        self.sequences: tuple[str, ...] = sequences
        self.steps: list[dict[str, int]]
        self.steps, depths, words = _automaton(sequences)
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
        steps, met, state = self._sequences.steps, self._sequences.met, self._state
        position, text = len(self.held), self.held + text
        depth = position
        while position < len(text):
            if state == _ROOT:
                found = first.search(text, position)
                if found is None:
                    break
                position = found.start()
            state = steps[state].get(text[position], _ROOT)
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
) -> tuple[list[dict[str, int]], list[int], list[str | None]]:
    """Build the automaton of all sequences, state by state.

    Returns:
        For each state the steps to other states (a character without one leads to the root), its
        depth (how much of a sequence has matched), and the longest sequence that ends there.
    """
    steps, depths, words = _trie(sequences)
    falls = [_ROOT] * len(steps)  # the state of the longest proper suffix of what has matched
    waiting = deque([_ROOT])
    while waiting:
        state = waiting.popleft()
        fall = falls[state]
        for character, child in steps[state].items():
            falls[child] = steps[fall].get(character, _ROOT) if state != _ROOT else _ROOT
            waiting.append(child)
        steps[state] = steps[fall] | steps[state]
        words[state] = words[state] or words[fall]
    return steps, depths, words


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
