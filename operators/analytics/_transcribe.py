"""`transcribe`: the conversation as it is here, whatever operators make of it later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reactivex import Observable

from rxllm.arguments import check_callable
from rxllm.chunks import Batch, Chunk, Reasoning, Token, is_lasting
from rxllm.messages import Message
from rxllm.operators.analytics._watcher import Watcher, watch
from rxllm.stream import Stream
from rxllm.transcript import Transcript

__all__ = ["transcribe"]

_INSTEAD: Final = "start a task from a plain function"


def transcribe(
    on_messages: Callable[[tuple[Message, ...]], object],
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Report the messages that the stream adds to the conversation.

    ::

        S-a-(c,E+)--r---S-b-(E,|)
        [ transcribe(on_messages) ]
        S-a-(c,E+)--r---S-b-(E,|)
            (1)     (2)     (3)      the answer with its call; and the result; and the answer

        c: ToolCall, E+: End("tool_calls", more=True), r: ToolResult

    All chunks pass through unchanged. `Result.messages` are made of what arrives at the end of the
    pipe; behind operators that change text (`redact`, `markdown_to_html`), they are changed too,
    and a provider may refuse them. Take the history right behind the model or agent:
    `agent.stream(prompt).pipe(ops.transcribe(store), ops.redact(...))`.

    Each report has all messages of the stream so far, with the states that a provider wants back.
    There is one whenever something is added that no restart takes back (an answer that a run
    continues after, the result of a tool, a message of the user), before it is passed on; and one
    at the end. Only the stream itself is part of it, not what has a `source`: streams of a merge,
    and runs inside tools.

    - Completion: the last report comes first.
    - Error: the same. An answer that was cut off is the last message, without its calls.
    - Restart: the answer under way begins again; those before it stay.
    - Disposal: upstream is disposed, then the last report is made, as on an error; the same if the
      subscriber raises at a chunk.
    - Demand: passes through; nothing is held.

    If `on_messages` raises, the stream fails with that exception; at an error it becomes a note on
    it, and on disposal the exception reaches the caller of `dispose`.

    Args:
        on_messages: called with the messages.

    Raises:
        TypeError: `on_messages` can't be called, or is asynchronous.

    >>> from rxllm.testing import Marbles
    >>> marbles, stored = Marbles(), {}
    >>> operator = transcribe(lambda messages: stored.update(new=messages))
    >>> _ = marbles.run(marbles.cold("S-a-b-R-c-E|").pipe(operator))
    >>> stored["new"]
    (Message(role='assistant', content='c', ...),)
    """
    what = "a function of the messages"
    check_callable("on_messages", on_messages, what, instead=_INSTEAD)
    return watch("transcribe", lambda _: _TranscribeWatcher(on_messages))


class _TranscribeWatcher(Watcher):
    def __init__(self, on_messages: Callable[[tuple[Message, ...]], object]) -> None:
        self._on_messages = on_messages
        self._transcript = Transcript()

    def watch(self) -> Callable[[Chunk], None]:
        """Return `chunk` as a closure: most chunks are only recorded."""
        add, report = self._transcript.add, self._report

        def chunk(chunk: Chunk) -> None:
            add(chunk)
            if type(chunk) not in _PIECES and is_lasting(chunk) and chunk.source is None:
                report()

        return chunk

    def completed(self) -> None:
        self._report()

    def failed(self, error: Exception) -> None:
        self._report()

    def cancelled(self) -> None:
        self._report()

    def _report(self) -> None:
        self._on_messages(self._transcript.messages)


_PIECES: Final = {Token, Reasoning, Batch}
