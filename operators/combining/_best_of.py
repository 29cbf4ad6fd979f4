"""`best_of`: of what several models say at a time, the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reactivex import Observable

from rxllm.arguments import check_number
from rxllm.chunks import Batch, Chunk, Token
from rxllm.operators.combining._choice import Choice, choose_best
from rxllm.operators.combining._streams import check_callback, named
from rxllm.stream import Stream

__all__ = ["best_of"]

_UNKNOWN = 0.5


def best_of(
    streams: Mapping[str, Observable[Chunk]],
    *,
    weights: Mapping[str, float] | None = None,
    score: Callable[[Token | Batch], float] | None = None,
    on_choice: Callable[[Choice], object] | None = None,
) -> Stream[Chunk]:
    """Take the next piece of text of each stream, pass the best one on, drop the others, and so on.

    ::

        S-a-b-E|
        S-x---y-E|
        [ best_of({"left": first, "right": second}) ]
        SSa---y-EE|               rounds: a or x, b or y

    A round waits until each stream that lives has said a piece (a `Token` or `Batch` with text), so
    it goes at the pace of the slowest (`ops.timeouts` in each stream bounds that); a stream that
    has ended takes part no more. Each piece is
    looked at once. The score is confidence x min(length / 10, 1) x weight, where the confidence of
    a batch is the mean of its tokens', an unknown one counts as 0.5, and the length is in
    characters. Of equal scores the first stream's is taken. Put `ops.words()` or `ops.sentences()`
    into the streams, so that pieces are worth comparing.

    Each chunk is tagged with the name of its stream. Chunks that are no text are passed on from all
    streams, each after the piece that came before it. A stream that fails sends a `Notice` of the
    kind `"failed"` behind what it had said, and the others go on. The pipeable form is
    `best_of_with`.

    - Completion: when all have ended. Error: `AllModelsFailedError`, if every one has failed;
      what `score` or `on_choice` raise.
    - Restart: text and other content that waits of that stream is dropped (of a merge: of that
      source in it). What else waits of it (`Usage`, `Notice`, ...) leaves before the notice, which
      is passed on.
    - Disposal: all are disposed, what waits is dropped; so too if the subscriber raises.
    - Demand: a stream with a piece waiting is held by a valve of its own until the round is over,
      so that one piece of each waits, and what a source without demand sends all the same.

    Args:
        streams: streams by name.
        weights: of streams, 0 or more; 1 for those that are not named.
        score: of a piece, in place of confidence x min(length / 10, 1); higher is better.
        on_choice: called with each choice, before its piece is passed on: the stream, its score,
            and those of the others.

    Raises:
        TypeError: something is not a stream or a number, or can't be called.
        ValueError: there is no stream, or a weight is below 0, infinite, or of no stream.

    >>> from rxllm import Token
    >>> from rxllm.testing import Marbles
    >>> marbles, text = Marbles(), {"a": Token("a word", 0.9), "b": Token("another one", 0.7)}
    >>> left, right = marbles.cold("a|", lookup=text), marbles.cold("b|", lookup=text)
    >>> def on_choice(choice):
    ...     print(choice.source, round(choice.score, 2), choice.text)
    >>> stream = best_of({"left": left, "right": right}, on_choice=on_choice)
    >>> [(event.source, event.text) for _, event in marbles.run(stream)[:-1]]
    right 0.7 another one
    [('right', 'another one')]
    """
    if not isinstance(streams, Mapping):
        raise TypeError(f"best_of takes streams by name, not {type(streams).__name__}")
    by_name = named("best_of", streams)
    check_callback("score", score)
    check_callback("on_choice", on_choice)
    factors = dict.fromkeys(by_name, 1.0)
    if not isinstance(weights, Mapping | None):
        raise TypeError(f"weights are numbers by the name of a stream, not {weights!r}")
    for name, weight in (weights or {}).items():
        if name not in factors:
            raise ValueError(f"there is a weight for {name!r}, and no such stream")
        factors[name] = check_number(
            f"weights[{name!r}]", weight, "the weight of a stream", minimum=0
        )
    return choose_best(by_name, factors, score or _score, on_choice)


def _score(piece: Token | Batch) -> float:
    parts = piece.chunks if isinstance(piece, Batch) else (piece,)
    known = [
        _UNKNOWN if part.confidence is None else part.confidence
        for part in parts
        if type(part) is Token and part.text
    ]
    confidence = sum(known) / len(known) if known else _UNKNOWN
    return confidence * min(len(piece.text) / 10, 1.0)
