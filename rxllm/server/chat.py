"""A chat: one conversation of a WebSocket connection, whose history the server keeps."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import reactivex as rx
from reactivex import Observable
from reactivex import operators as rxo

from rxllm.chunks import Chunk, ErrorInfo, Notice, has_output
from rxllm.errors import ContextLengthError, RxLLMError
from rxllm.messages import Message
from rxllm.result import Result
from rxllm.server.catalogue import Catalogue
from rxllm.server.messages import ChatMessage, Complete, Options, SendChat, StreamState
from rxllm.server.websocket.outbox import Outbox
from rxllm.server.websocket.streams import ClientStreams
from rxllm.web.failures import InvalidMessageError, RefusedError, TooLargeError, failure_message

__all__ = ["Chat", "ask_with_history"]

_MOST_WAITING: Final = 4


def ask_with_history(
    catalogue: Catalogue,
    conversation: Callable[[int], Sequence[Message]],
    length: int,
    options: Options,
    stream_id: str,
) -> Observable[Chunk]:
    """A stream that answers a conversation, of which as much is sent as the model can take.

    As long as it is too long for the limits of the server, or for the context of the model before
    anything was said, half of its history is left out, and it is asked again.

    Args:
        catalogue: whose models are asked.
        conversation: the messages, with so many of the last turns before the newest.
        length: how many turns there are at most.
        options: which model, and how it is asked.
        stream_id: as for `Catalogue.ask`.

    Raises:
        RxLLMError: as `Catalogue.ask`.
    """
    try:
        stream = catalogue.ask(conversation(length), options, stream_id=stream_id)
    except TooLargeError:
        if not length:
            raise
        return ask_with_history(catalogue, conversation, length // 2, options, stream_id)
    return (
        stream
        if not length
        else _with_less_if_too_long(
            stream,
            lambda: ask_with_history(catalogue, conversation, length // 2, options, stream_id),
        )
    )


def _with_less_if_too_long(
    stream: Observable[Chunk], with_less: Callable[[], Observable[Chunk]]
) -> Observable[Chunk]:
    begun = said = False

    def note(chunk: Chunk) -> None:
        nonlocal begun, said
        begun = True
        said = said or has_output(chunk)

    def again(error: Exception, _: Observable[Chunk]) -> Observable[Chunk]:
        if said or not isinstance(error, ContextLengthError):
            return rx.throw(error)
        # A second `Start` never comes without a `Notice` before it.
        notices = [Notice("retry", error=ErrorInfo.of(error))] if begun else []
        return with_less().pipe(rxo.start_with(*notices))

    return stream.pipe(rxo.do_action(note), rxo.catch(again))


class _Exchange(NamedTuple):
    asked: str
    answered: str


class Chat:
    """What was said on one connection, and what is being answered.

    Answers come one after the other; a few messages may wait for theirs. An exchange is kept once
    its answer has ended, also if the client has stopped it after some text; one whose answer failed
    or is empty is forgotten, question and all, so that a model is never shown half of one. The last
    `limits.history_exchanges` are kept, as far as `limits.history_characters` hold them.

    Args:
        catalogue: whose models are asked.
        streams: those of the connection, which bound how many live.
        outbox: where the messages of the connection go.
    """

    def __init__(self, catalogue: Catalogue, streams: ClientStreams, outbox: Outbox) -> None:
        self._catalogue = catalogue
        self._streams = streams
        self._outbox = outbox
        self._history: deque[_Exchange] = deque(maxlen=catalogue.limits.history_exchanges)
        self._waiting: dict[str, SendChat] = {}
        self._answering = False

    def __contains__(self, stream_id: object) -> bool:
        """Whether a message of this id waits for its turn."""
        return stream_id in self._waiting

    def say(self, message: SendChat) -> None:
        """Answer a message, now or when those before it are answered.

        Raises:
            RxLLMError: it can't be answered: it is blank, its options are wrong, its id is taken,
                too many wait.
        """
        if not message.text.strip():
            raise InvalidMessageError("there is nothing in this message", "text")
        if message.id in self._waiting:
            raise InvalidMessageError(f"a message {message.id!r} waits already", "id")
        if not self._answering:
            self._answer(message)
            return
        self._streams.check(message.id)
        self._catalogue.find(message.options.model)
        self._catalogue.request(message.text, message.options)
        if len(self._waiting) >= _MOST_WAITING:
            raise RefusedError(
                "chat_busy", f"{_MOST_WAITING} messages wait for their answers already", 429
            )
        self._waiting[message.id] = message

    def withdraw(self, stream_id: str) -> None:
        """A message that waits shall not be answered."""
        del self._waiting[stream_id]
        self._streams.remember(stream_id, "cancelled")
        self._outbox.send(StreamState(id=stream_id, status="cancelled"))
        self._outbox.send(
            Complete(id=stream_id, tokens=0, seconds=0.0, finish_reason="cancelled", position=1)
        )
        self._outbox.send(ChatMessage(id=stream_id, text="", history=len(self._history)))

    def close(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        self._history.clear()

    def _answer(self, message: SendChat) -> None:
        def conversation(length: int) -> list[Message]:
            exchanges = list(self._history)[len(self._history) - length :]
            turns = [
                turn
                for asked, answered in exchanges
                for turn in (Message("user", asked), Message("assistant", answered))
            ]
            return [*turns, Message("user", message.text)]

        def ask(listed: str) -> Observable[Chunk]:
            return ask_with_history(
                self._catalogue, conversation, len(self._history), message.options, listed
            )

        def ended(result: Result, error: Exception | None) -> None:
            self._answering = False
            if error is None:
                self._keep(_Exchange(message.text, result.text))
                self._outbox.send(
                    ChatMessage(id=message.id, text=result.text, history=len(self._history))
                )
            self._next()

        self._answering = True
        try:
            self._streams.begin(message.id, ask, ended)
        except BaseException:
            self._answering = False
            raise

    def _next(self) -> None:
        while self._waiting and not self._answering and self._outbox.is_open:
            message = self._waiting.pop(next(iter(self._waiting)))
            try:
                self._answer(message)
            except Exception as error:  # nobody else would tell the client
                self._outbox.send(failure_message(error, message.id))
                if not isinstance(error, RxLLMError):
                    asyncio.get_running_loop().call_exception_handler(
                        {"message": "an answer in a chat could not begin", "exception": error}
                    )

    def _keep(self, exchange: _Exchange) -> None:
        if not exchange.answered.strip():
            return
        self._history.append(exchange)
        characters = sum(len(asked) + len(answered) for asked, answered in self._history)
        while characters > self._catalogue.limits.history_characters:
            asked, answered = self._history.popleft()
            characters -= len(asked) + len(answered)
