"""The chat of a WebSocket connection: one conversation whose history the server keeps."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from reactivex import Observable
from reactivex import operators as rxo

from rxllm.agents import Approvals
from rxllm.chunks import Chunk
from rxllm.errors import RxLLMError
from rxllm.history import with_history
from rxllm.messages import Message
from rxllm.server.catalogue import Catalogue
from rxllm.server.messages import (
    ChatMessage,
    Complete,
    Options,
    SendChat,
    StreamFailed,
)
from rxllm.server.persona import Persona
from rxllm.server.websocket.streams import Ask, ClientStreams
from rxllm.transcript import Transcript
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
    approvals: Approvals | None = None,
) -> Observable[Chunk]:
    """Return a stream that answers a conversation, with as much history as the model can take.

    A conversation that exceeds the limits of the server is too long as well (see `with_history`).

    Args:
        catalogue: the models.
        conversation: returns the newest message preceded by the given number of turns.
        length: the maximum number of turns before the newest message.
        options: the model and its options.
        stream_id, approvals: see `Catalogue.ask`.

    Raises:
        RxLLMError: see `Catalogue.ask`.
    """

    def ask(length: int) -> Observable[Chunk]:
        return catalogue.ask(
            conversation(length), options, approvals=approvals, stream_id=stream_id
        )

    return with_history(ask, length, TooLargeError)


class _Exchange(NamedTuple):
    asked: str
    answered: str
    run: tuple[Message, ...] = ()  # all messages of an agent, with its calls and their results

    def turns(self, *, with_tools: bool) -> list[Message]:
        """The messages of both, for a model that runs tools or for another one."""
        if with_tools and self.run:
            return [Message("user", self.asked), *self.run]
        if not self.answered.strip():
            return []
        return [Message("user", self.asked), Message("assistant", self.answered)]

    @property
    def characters(self) -> int:
        said = [part for message in self.run for part in (message.text, *_arguments(message))]
        return len(self.asked) + (sum(map(len, said)) if self.run else len(self.answered))


def _arguments(message: Message) -> list[str]:
    return [call.arguments for call in message.calls]


class Chat:
    """The conversation of one connection, and the queue of its unanswered messages.

    Messages are answered one after the other; a few may wait. An exchange is kept once its answer
    has ended, even if the client stopped it after some text. An exchange whose answer failed or is
    empty is dropped together with its question, so that the model never sees half of one. The last
    `limits.history_exchanges` exchanges are kept, within `limits.history_characters`.

    Of an agent, the calls and their results are kept as well. If calls wait for an approval, the
    next message may decide about them, and continues the answer.

    Args:
        catalogue: the models.
        streams: the streams of the connection, which limit how many are live.
        persona: how the model answers.
    """

    def __init__(self, catalogue: Catalogue, streams: ClientStreams, persona: Persona) -> None:
        self._catalogue = catalogue
        self._persona = persona
        self._streams = streams
        self._history: deque[_Exchange] = deque(maxlen=catalogue.limits.history_exchanges)
        self._waiting: dict[str, SendChat] = {}
        self._answering = False
        self._next: asyncio.Task[None] | None = None  # referenced, so that it isn't collected

    def __contains__(self, stream_id: object) -> bool:
        """Return whether a message with this id is waiting."""
        return stream_id in self._waiting

    async def say(self, message: SendChat) -> None:
        """Answer a message, now or after those before it.

        Raises:
            RxLLMError: it can't be answered: it is blank, its options are invalid, its id is in
                use, or too many messages are waiting.
        """
        if (message.text is None) == (message.approvals is None):
            raise InvalidMessageError("give a `text` or `approvals`", "text")
        if message.text is not None and not message.text.strip():
            raise InvalidMessageError("the message is empty", "text")
        if message.id in self._waiting:
            raise InvalidMessageError(
                f"the id {message.id!r} is in use by a waiting chat message", "id"
            )
        if not self._answering:
            try:
                await self._answer(message)
            except BaseException:
                self.answer_waiting()
                raise
            return
        self._streams.check(message.id)
        options = self._persona.options(message.options)
        self._catalogue.find(options.model)
        if message.text is not None:
            question = [*self._persona.beginning(message.system), Message("user", message.text)]
            self._catalogue.request(question, options)
        if len(self._waiting) >= _MOST_WAITING:
            raise RefusedError(
                "chat_busy", f"{_MOST_WAITING} messages are already waiting for an answer", 429
            )
        self._waiting[message.id] = message

    def withdraw(self, stream_id: str) -> None:
        """Remove a waiting message, which is then not answered."""
        del self._waiting[stream_id]
        self._streams.cancel_waiting(stream_id)
        self._streams.outbox.send(ChatMessage(id=stream_id, text="", history=len(self._history)))

    @property
    def exchanges(self) -> int:
        """The number of exchanges kept."""
        return len(self._history)

    @property
    def is_empty(self) -> bool:
        """Whether there is no history and no unanswered message."""
        return not (self._history or self._waiting or self._answering)

    def answer_waiting(self) -> None:
        """Answer the waiting messages, once the streams are attached to a new connection."""
        if self._waiting and not self._answering:
            self._next = start_eagerly(self._answer_next())

    async def _answer(self, message: SendChat) -> None:
        options = self._persona.options(message.options)
        continued = self._continued(message)
        ask, transcript = self._asking(message, options, continued)
        is_open = True

        def ended(final: Complete | StreamFailed) -> None:
            nonlocal is_open
            is_first, is_open = is_open, False
            if is_first:
                self._record(message, final, transcript, continued)
            if isinstance(final, Complete):
                text = final.text or ""
                self._streams.outbox.send(
                    ChatMessage(id=message.id, text=text, history=len(self._history))
                )
            if is_first:
                self._answering = False
                self.answer_waiting()

        self._answering = True
        try:
            model = options.model or self._catalogue.default
            await self._streams.begin(message.id, ask, model, ended)
        except BaseException:
            self._answering = False
            raise

    def _continued(self, message: SendChat) -> _Exchange | None:
        """Return the exchange whose calls the message decides about."""
        if message.approvals is None:
            return None
        if not self._history:
            raise InvalidMessageError("no call of this chat waits for an approval", "approvals")
        return self._history[-1]

    def _asking(
        self, message: SendChat, options: Options, continued: _Exchange | None
    ) -> tuple[Ask, Transcript]:
        """Return what asks for the answer, and what it writes down."""
        with_tools = self._catalogue.is_agent(options.model)
        beginning = self._persona.beginning(message.system)
        newest = [] if message.text is None else [Message("user", message.text)]
        fixed = 0 if continued is None else 1  # it is the end of the conversation

        def conversation(length: int) -> list[Message]:
            exchanges = list(self._history)[len(self._history) - length - fixed :]
            turns = [turn for each in exchanges for turn in each.turns(with_tools=with_tools)]
            return [*beginning, *turns, *newest]

        calling = [] if continued is None else [each for each in continued.run if each.calls]
        transcript = Transcript(calling[-1] if calling else None)

        def ask(listed: str) -> Observable[Chunk]:
            length = len(self._history) - fixed
            stream = ask_with_history(
                self._catalogue, conversation, length, options, listed, message.approvals
            )
            return stream.pipe(rxo.do_action(transcript.add)) if with_tools else stream

        return ask, transcript

    def _record(
        self,
        message: SendChat,
        final: Complete | StreamFailed,
        transcript: Transcript,
        continued: _Exchange | None,
    ) -> None:
        """Keep an exchange, or what continues the last one. Tools that have run stay in it."""
        has_failed = isinstance(final, StreamFailed)
        answered = "" if isinstance(final, StreamFailed) else final.text or ""
        run = transcript.closed if has_failed else transcript.messages
        if continued is not None:
            self._history.pop()
            self._keep(_Exchange(continued.asked, answered, (*continued.run, *run)))
        elif not has_failed:
            self._keep(_Exchange(message.text or "", answered, run))

    async def _answer_next(self) -> None:
        while self._waiting and not self._answering and self._streams.outbox.is_open:
            message = self._waiting.pop(next(iter(self._waiting)))
            try:
                await self._answer(message)
            except Exception as error:  # nothing else would report it to the client
                self._streams.outbox.send(failure_message(error, message.id))
                if not isinstance(error, RxLLMError):
                    asyncio.get_running_loop().call_exception_handler(
                        {"message": "a chat answer failed to start", "exception": error}
                    )

    def _keep(self, exchange: _Exchange) -> None:
        if not (exchange.answered.strip() or exchange.run):
            return
        self._history.append(exchange)
        characters = sum(each.characters for each in self._history)
        least = bool(exchange.run)  # whose calls may wait
        while characters > self._catalogue.limits.history_characters and len(self._history) > least:
            characters -= self._history.popleft().characters
