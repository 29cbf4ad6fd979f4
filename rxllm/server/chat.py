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
from rxllm.server.catalogue import Catalogue
from rxllm.server.messages import (
    ChatMessage,
    Complete,
    Options,
    SendChat,
    StreamFailed,
    StreamState,
)
from rxllm.server.websocket.streams import ClientStreams
from rxllm.web.failures import InvalidMessageError, RefusedError, TooLargeError, failure_message
from rxllm.web.start import start_eagerly

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
    """

    def __init__(self, catalogue: Catalogue, streams: ClientStreams) -> None:
        self._catalogue = catalogue
        self._streams = streams
        self._history: deque[_Exchange] = deque(maxlen=catalogue.limits.history_exchanges)
        self._waiting: dict[str, SendChat] = {}
        self._answering = False

    def __contains__(self, stream_id: object) -> bool:
        """Whether a message of this id waits for its turn."""
        return stream_id in self._waiting

    async def say(self, message: SendChat) -> None:
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
            await self._answer(message)
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
        self._streams.outbox.send(StreamState(id=stream_id, status="cancelled"))
        self._streams.outbox.send(
            Complete(id=stream_id, tokens=0, seconds=0.0, finish_reason="cancelled", position=1)
        )
        self._streams.outbox.send(ChatMessage(id=stream_id, text="", history=len(self._history)))

    @property
    def exchanges(self) -> int:
        """How many exchanges are kept."""
        return len(self._history)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said, and nothing waits."""
        return not (self._history or self._waiting or self._answering)

    def answer_waiting(self) -> None:
        """Answer the messages that wait, on a new connection to which the streams are attached."""
        if not self._answering:
            start_eagerly(self._answer_next())

    def close(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        self._history.clear()

    async def _answer(self, message: SendChat) -> None:
        has_ended = False

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

        def ended(final: Complete | StreamFailed) -> None:
            nonlocal has_ended
            is_first, has_ended = not has_ended, True
            if isinstance(final, Complete):
                answer = final.text or ""
                if is_first:
                    self._keep(_Exchange(message.text, answer))
                self._streams.outbox.send(
                    ChatMessage(id=message.id, text=answer, history=len(self._history))
                )
            if is_first:
                self._answering = False
                start_eagerly(self._answer_next())

        self._answering = True
        try:
            model = message.options.model or self._catalogue.default
            await self._streams.begin(message.id, ask, model, ended)
        except BaseException:
            self._answering = False
            raise

    async def _answer_next(self) -> None:
        while self._waiting and not self._answering and self._streams.outbox.is_open:
            message = self._waiting.pop(next(iter(self._waiting)))
            try:
                await self._answer(message)
            except Exception as error:  # nobody else would report it to the client
                self._streams.outbox.send(failure_message(error, message.id))
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
