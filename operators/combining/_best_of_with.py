"""`best_of_with`: `best_of` in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from reactivex import Observable

from rxllm.chunks import Batch, Chunk, Token
from rxllm.operators.combining._best_of import best_of
from rxllm.operators.combining._choice import Choice
from rxllm.operators.combining._pipeable import pipeable
from rxllm.stream import Stream

__all__ = ["best_of_with"]


def best_of_with(
    *streams: Observable[Chunk] | Mapping[str, Observable[Chunk]],
    name: str = "0",
    weights: Mapping[str, float] | None = None,
    score: Callable[[Token | Batch], float] | None = None,
    on_choice: Callable[[Choice], object] | None = None,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Compare this stream with others piece by piece, and pass on the best piece of each round.

    ::

        S-a-b-E|
        S-x---y-E|                other
        [ best_of_with(other) ]
        SSa---y-EE|               rounds: a or x, b or y

    `a.pipe(best_of_with(b))` is `best_of({"0": a, "1": b})`: the piped stream is `"0"`, the others
    are numbered from `"1"`. `a.pipe(best_of_with({"b": b}, name="a"))` is
    `best_of({"a": a, "b": b})`. Rounds and scores are those of `best_of`.

    - Completion: when all streams have ended. Error: `AllModelsFailedError` if every stream has
      failed; an exception of `score` or `on_choice`.
    - Restart: the waiting text of that stream is dropped, and the notice is passed on.
    - Disposal: all streams are disposed and waiting pieces are dropped, also if the subscriber
      raises.
    - Demand: a stream whose piece is waiting is paused until the round is over, so one piece of
      each stream is held.

    Args:
        streams: the other streams, or one mapping of names to streams.
        name: the name of the piped stream.
        weights: by the name of a stream, 0 or more; 1 for those that are missing.
        score: of a piece, in place of the score of `best_of`; higher is better.
        on_choice: called with each `Choice` before its piece is passed on.

    Raises:
        TypeError: something is not a stream, a weight is not a number, a name is not a string, or a
            callback is not callable.
        ValueError: there is no other stream, two streams have the same name, or a weight is below
            0, infinite, or for an unknown stream.

    >>> from rxllm import Token
    >>> from rxllm.testing import Marbles
    >>> marbles, text = Marbles(), {"a": Token("a word", 0.9), "b": Token("another one", 0.7)}
    >>> left, right = marbles.cold("a|", lookup=text), marbles.cold("b|", lookup=text)
    >>> [(event.source, event.text) for _, event in marbles.run(
    ...     left.pipe(best_of_with(right, weights={"0": 2})))[:-1]]
    [('0', 'a word')]
    """
    combine = partial(best_of, weights=weights, score=score, on_choice=on_choice)
    return pipeable("best_of_with", streams, name, combine)
