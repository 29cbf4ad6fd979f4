"""`Inbox`: messages of the user for a run that is under way."""

from __future__ import annotations

from collections import deque

__all__ = ["Inbox"]


class Inbox:
    """Messages of the user for a run that is under way.

    They join the run between two answers: after the tools that are running, or after the answer
    that would have been the last. Those that came too late stay in `waiting`, as do those that a
    failed run hadn't reached.

    >>> inbox = Inbox()
    >>> inbox.steer("In Texas, I mean.")
    >>> inbox.waiting
    ('In Texas, I mean.',)
    """

    def __init__(self) -> None:
        self._texts: deque[str] = deque()

    def __repr__(self) -> str:
        return f"<Inbox: {len(self._texts)} waiting>"

    def steer(self, text: str) -> None:
        """Add a message. May be called from any thread.

        Raises:
            TypeError: `text` is not a string.
            ValueError: it is empty, or can't be encoded.
        """
        if not isinstance(text, str):
            raise TypeError(f"steer takes a string, got {type(text).__name__}")
        if not text.strip():
            raise ValueError("the message is empty")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("the message has a lone surrogate, which UTF-8 can't encode") from None
        self._texts.append(text)

    @property
    def waiting(self) -> tuple[str, ...]:
        """The messages that no run has taken yet."""
        return tuple(self._texts)

    def take(self) -> list[str]:
        """Remove and return the waiting messages; called by the run."""
        taken = []
        while self._texts:
            taken.append(self._texts.popleft())
        return taken
