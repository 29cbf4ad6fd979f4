"""`text`: only the text, as strings."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc

from rxllm.answer_counts import NestedSources
from rxllm.chunks import Batch, Chunk, End, Token, ToolCall, ToolResult, is_restart
from rxllm.errors import RestartedStreamError
from rxllm.stream import Stream

__all__ = ["text"]


def text() -> Callable[[Observable[Chunk]], Stream[str]]:
    """Pass on the text of the answer as plain strings.

    ::

        S-a-b-E|
        [ text() ]
        --"a"-"b"-|

    `Token` and `Batch` become their text, in the same pieces; empty text and all other chunks are
    dropped. After a merge the texts of all sources are interleaved.

    - Completion, error: passed on.
    - Restart: a string can't invalidate earlier text. Once text of that stream has been passed on,
      a restart becomes a `RestartedStreamError`, and upstream is disposed; before that, it is
      dropped.
    - Disposal: upstream is disposed; nothing is held.
    - Demand: passes through.

    Raises:
        RestartedStreamError: into `on_error`, if a stream restarts after some of its text.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> marbles.run(marbles.cold("S-Hi-there-E|").pipe(text()))
    [(2.0, 'Hi'), (5.0, 'there'), (12.0, |)]
    """

    def operator(source: Observable[Chunk]) -> Stream[str]:
        def subscribe(
            observer: abc.ObserverBase[str], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            heard: set[str | None] = set()
            nested = NestedSources()

            def on_next(chunk: Chunk) -> None:
                if type(chunk) is Token or type(chunk) is Batch:
                    if chunk.text and chunk.source not in nested:
                        heard.add(chunk.source)
                        observer.on_next(chunk.text)
                elif type(chunk) is ToolCall or type(chunk) is ToolResult:
                    nested.note(chunk)
                elif type(chunk) is End and chunk.more:
                    heard.discard(chunk.source)  # the next answer may restart
                elif is_restart(chunk) and (
                    heard if chunk.source is None else chunk.source in heard
                ):
                    observer.on_error(
                        RestartedStreamError(
                            "the answer restarted after some of its text had been passed on, which "
                            "plain strings can't express: subscribe to the chunks, or don't restart"
                        )
                    )

            return source.subscribe(
                on_next, observer.on_error, observer.on_completed, scheduler=scheduler
            )

        return Stream(subscribe, "text", of_chunks=False)

    return operator
