"""How the model answers in the chat and in the rooms of a server."""

from __future__ import annotations

from typing import Any

import msgspec

from rxllm.errors import BadRequestError
from rxllm.messages import Message
from rxllm.requests import as_request
from rxllm.server.http_messages import Options

__all__ = ["Persona", "RoomSettings"]


class Persona(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A system prompt and the options of the answers. What a client asks for comes first.

    Args:
        system: the system prompt.
        model: the public name of the model, or `None` for the server's default.
        max_tokens, temperature, top_p, stop: see `rxllm.Request`; by default those of the model.

    Raises:
        ValueError: an option is invalid (when decoding: `msgspec.ValidationError`).
    """

    system: str | None = None
    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("system", "model"):
            if not isinstance(getattr(self, name), str | None):
                raise ValueError(f"{name} must be text, got {getattr(self, name)!r}")
        try:
            as_request("?", **self._own())
        except BadRequestError as error:
            raise ValueError(str(error)) from None

    def options(self, asked: Options) -> Options:
        """Return the options that a client asks for, with those of the persona for the others."""
        own = {name: value for name, value in self._own().items() if not _is_given(asked, name)}
        model = asked.model if asked.model is not None else self.model
        return msgspec.structs.replace(asked, **own, model=model)

    def beginning(self, asked: str | None) -> list[Message]:
        """Return the messages before a conversation; an empty system prompt stands for none."""
        system = self.system if asked is None else asked
        return [Message("system", system)] if system else []

    def _own(self) -> dict[str, Any]:
        names = ("max_tokens", "temperature", "top_p", "stop")
        return {name: getattr(self, name) for name in names if _is_given(self, name)}


def _is_given(options: Options | Persona, name: str) -> bool:
    return getattr(options, name) not in (None, ())


class RoomSettings(Persona, frozen=True, kw_only=True):
    """The persona of the model in rooms. It has no default options, which not every model takes.

    Args:
        messages: earlier messages of the room that the model gets with a question, 0 or more.
    """

    system: str | None = (
        "You are a helpful and friendly assistant in a chat room. Keep your answers short."
    )
    messages: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.messages, bool) or not isinstance(self.messages, int):
            raise ValueError(f"messages must be an integer, got {self.messages!r}")
        if self.messages < 0:
            raise ValueError(f"messages must be 0 or more, got {self.messages}")
