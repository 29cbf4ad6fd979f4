"""The members of a room, and the model's replies to them."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Callable
from functools import partial
from typing import Final

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable

from rxllm.server.messages import RoomMessage
from rxllm.server.websocket.outbox import Outbox
from rxllm.web.encoding import to_json
from rxllm.web.failures import InvalidMessageError, failure_message
from rxllm.web.stream_store import Frame

__all__ = ["BOT", "Member", "Reply", "check_name", "is_addressed", "name_key"]

BOT: Final = "assistant"
_RESERVED: Final = {BOT, "bot", "ai"}
_URL: Final = re.compile(r"(?:\b\w+://|\bwww\.|(?<![\w.-])[\w.-]+\.\w{2,}/)[^\s()<>\[\]\"]*")
_CALLS: Final = re.compile(  # not within a file name, an address, or an elision ("j'ai")
    r"(?<!\w)(?<!\w['\u2019])(?<![\w\s]\.)(?:bot|ai|assistant|help|explain)(?!\w|[.@]\w)",
    re.IGNORECASE,
)
_QUESTION: Final = re.compile(r"[\uff1f\u061f]|\?(?!\w)|(?<=\w)\?")
_UNSEEN: Final = re.compile(  # invisible, although of printable categories
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)


def is_addressed(text: str) -> bool:
    """Return whether the model should answer: it is addressed, or a question is asked.

    >>> is_addressed("AI, say something"), is_addressed("What now?"), is_addressed("He said so")
    (True, True, False)
    """
    text = _URL.sub(" ", text)
    return _CALLS.search(text) is not None or _QUESTION.search(text) is not None


def name_key(name: str) -> str:
    """Return a key that is equal for names that look the same.

    >>> name_key("Ann") == name_key("ann")
    True
    """
    return unicodedata.normalize("NFKC", name).casefold()


def check_name(name: str, field: str) -> None:
    """Raise if a name could be mistaken for another.

    Raises:
        InvalidMessageError: it begins or ends with a space, contains invisible characters, or is
            reserved for the model.
    """
    if not name.isprintable() or name.strip() != name or _UNSEEN.search(name):
        raise InvalidMessageError(
            f"a name must be visible characters without spaces around them, got {name!a}", field
        )
    if field == "name" and name_key(name) in _RESERVED:
        raise InvalidMessageError(f"{name!r} is reserved for the model: choose another name", field)


class Member:
    """A member of a room: a name, and the outbox of a connection.

    Attributes:
        typing: the timer after which the member no longer counts as typing, or `None` if the
            member isn't typing.
    """

    def __init__(self, name: str, outbox: Outbox) -> None:
        self.name = name
        self.outbox = outbox
        self.typing: asyncio.TimerHandle | None = None
        self._reading: set[abc.DisposableBase] = set()
        self._has_left = False

    def read(
        self,
        frames: Observable[Frame],
        on_frame: Callable[[Frame], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Subscribe to `frames` with the demand of this client, until it leaves."""
        if self._has_left:
            return  # evicted during an earlier message
        subscription = SingleAssignmentDisposable()
        self._reading.add(subscription)
        ended = partial(self._reading.discard, subscription)

        def failed(error: Exception) -> None:
            ended()
            on_error(error)

        subscription.disposable = frames.subscribe(
            on_frame, failed, ended, scheduler=self.outbox.scheduler
        )

    def leave(self) -> None:
        """Dispose all subscriptions, and stop the typing timer."""
        self._has_left = True
        if self.typing is not None:
            self.typing.cancel()
            self.typing = None
        reading, self._reading = self._reading, set()
        for each in reading:
            each.dispose()


class Reply:
    """An answer of the model to the members of a room, each of whom reads at its own pace.

    A member that lags behind or joins late receives the missed text joined. After the last event,
    each member receives the whole answer as a message.

    Args:
        room: the room's name.
        reply_id: the id of the stream and of the message.
        frames: the stream; each reader subscribes to it.

    Attributes:
        message: the whole answer, set before any member reads its last event, or `None` if there
            is none.
    """

    def __init__(self, room: str, reply_id: str, frames: Observable[Frame]) -> None:
        self.message: RoomMessage | None = None
        self._room = room
        self._id = reply_id
        self._frames = frames
        self._last: tuple[Frame, bytes] | None = None

    def attach(self, member: Member) -> None:
        """Send the answer to `member`, from the beginning."""
        member.read(
            self._frames, partial(self._send, member.outbox), partial(self._fail, member.outbox)
        )

    def _send(self, outbox: Outbox, frame: Frame) -> None:
        outbox.write(self._encoded(frame))
        if frame.outcome is not None and self.message is not None:
            outbox.send(self.message)

    def _fail(self, outbox: Outbox, error: Exception) -> None:
        message = failure_message(error, self._id)
        message.room = self._room
        outbox.send(message)

    def _encoded(self, frame: Frame) -> bytes:
        """Encode a frame with the room's name, once for all members that read it live."""
        if self._last is None or self._last[0] is not frame:
            self._last = frame, to_json(frame.wire_message(room=self._room))
        return self._last[1]
