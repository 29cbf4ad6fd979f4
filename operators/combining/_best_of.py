"""`best_of`: the best piece of several streams in each round."""

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
    """Compare streams piece by piece, and pass on the best piece of each round.

    ::

        S-a-b-E|
        S-x---y-E|
        [ best_of({"left": first, "right": second}) ]
        SSa---y-EE|               rounds: a or x, b or y

    In each round, every active stream contributes its next piece of text (a `Token` or `Batch` with
    text); the best one is passed on, and the others are dropped. So the output is as slow as the
    slowest stream (`ops.timeouts` in each stream bounds that). A stream that has ended no longer
    takes part. The score is confidence x min(length / 10, 1) x weight, where the confidence of a
    batch is the mean of its tokens', an unknown confidence counts as 0.5, and the length is in
    characters. Of equal scores, the first stream's wins. Put `ops.words()` or `ops.sentences()`
    into the streams to get pieces that are worth comparing.

    Each chunk is tagged with the name of its stream. Chunks other than text are passed on from all
    streams, each after the piece before it. A stream that fails sends a `Notice` of kind `"failed"`
    after its remaining chunks, and the others continue. The pipeable form is `best_of_with`.

    - Completion: when all streams have ended. Error: `AllModelsFailedError` if every stream has
      failed; an exception of `score` or `on_choice`.
    - Restart: waiting text and other content of that stream is dropped (in a merge: of that
      source). Its other waiting chunks (`Usage`, `Notice`, ...) are sent before the notice, which
      is passed on.
    - Disposal: all streams are disposed and waiting pieces are dropped, also if the subscriber
      raises.
    - Demand: a stream whose piece is waiting is paused by its own valve until the round is over, so
      one piece of each stream is held, plus anything that a source without demand sends anyway.

    Args:
        streams: streams by name.
        weights: weights by the name of a stream, 0 or more; 1 for those that are missing.
        score: the score of a piece, in place of confidence x min(length / 10, 1); higher is better.
        on_choice: called with each `Choice` before its piece is passed on: the stream, its score,
            and the scores of all streams.

    Raises:
        TypeError: something is not a stream or a number, or is not callable.
        ValueError: there is no stream, or a weight is below 0, infinite, or for an unknown stream.

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
        raise TypeError(
            f"best_of takes a mapping of names to streams, got {type(streams).__name__}"
        )
    by_name = named("best_of", streams)
    check_callback("score", score)
    check_callback("on_choice", on_choice)
    factors = dict.fromkeys(by_name, 1.0)
    if not isinstance(weights, Mapping | None):
        raise TypeError(f"weights must be a mapping of names to numbers, got {weights!r}")
    for name, weight in (weights or {}).items():
        if name not in factors:
            raise ValueError(f"there is a weight for {name!r}, but no such stream")
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
