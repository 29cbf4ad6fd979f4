"""The parts of a conversation: messages, their content, and the tools that a model may call."""

from __future__ import annotations

import re
from typing import Any, Final, Literal, TypeAlias

import msgspec

from rxllm.chunks import ProviderState, ToolCall
from rxllm.errors import BadRequestError

__all__ = ["FilePart", "ImagePart", "Message", "Part", "ReasoningPart", "Role", "TextPart", "Tool"]

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]

_FILES: Final = {
    rb"%PDF": "application/pdf",
    rb"RIFF....WAVE": "audio/wav",
    rb"ID3|\xff[\xe2-\xff]": "audio/mpeg",
    rb"OggS": "audio/ogg",
    rb"fLaC": "audio/flac",
}
_IMAGES: Final = {
    rb"\x89PNG": "image/png",
    rb"\xff\xd8\xff": "image/jpeg",
    rb"GIF8": "image/gif",
    rb"RIFF....WEBP": "image/webp",
}


class TextPart(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    tag_field="type",
    tag="text",
    forbid_unknown_fields=True,
):
    """A text part of a message, with the `state` that its model wants back, if any."""

    text: str
    state: ProviderState | None = None


class ReasoningPart(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    tag_field="type",
    tag="reasoning",
    forbid_unknown_fields=True,
):
    """A thinking block in an assistant message; sent only to the model that its `state` names."""

    text: str
    state: ProviderState | None = None


class ImagePart(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="type",
    tag="image",
    forbid_unknown_fields=True,
):
    """An image part of a message: a URL that the provider loads, or bytes.

    If `media_type` is `None`, that of the bytes is detected (PNG, JPEG, GIF, WebP).

    Raises:
        BadRequestError: neither or both of `url` and `data` are given, or the bytes have another
            format and no `media_type` is given.
    """

    url: str | None = None
    data: bytes | None = None
    media_type: str | None = None

    def __post_init__(self) -> None:
        _check_source("an image", self.url, self.data)
        if self.data is not None and self.media_type is None:
            kind = _kind_of(self.data, _IMAGES, "image")
            msgspec.structs.force_setattr(self, "media_type", kind)


def _check_source(what: str, url: str | None, data: bytes | None) -> None:
    if (url is None) == (data is None):
        raise BadRequestError(f"{what} needs exactly one of url and data")


def _kind_of(data: bytes, kinds: dict[bytes, str], what: str) -> str:
    for beginning, kind in kinds.items():
        if re.match(beginning, data, re.DOTALL):
            return kind
    raise BadRequestError(f"unknown {what} format: pass media_type")


class FilePart(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="type",
    tag="file",
    forbid_unknown_fields=True,
):
    """A file in a message, such as a PDF or a recording: a URL that the provider loads, or bytes.

    If `media_type` is `None`, that of the bytes is detected (PDF, WAV, MP3, Ogg, FLAC). Images are
    an `ImagePart`.

    Raises:
        BadRequestError: neither or both of `url` and `data` are given, or the bytes have another
            format and no `media_type` is given.
    """

    url: str | None = None
    data: bytes | None = None
    media_type: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        _check_source("a file", self.url, self.data)
        if self.data is not None and self.media_type is None:
            msgspec.structs.force_setattr(self, "media_type", _kind_of(self.data, _FILES, "file"))


Part: TypeAlias = TextPart | ImagePart | FilePart | ReasoningPart | ToolCall


class Message(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One turn of a conversation.

    Args:
        role: whose turn it is.
        content: a string, or parts in order.
        name: the name of the participant.
        tool_call_id: the call that a `tool` message answers.
        tool_calls: the calls made in an `assistant` message, after its content. Calls that text
            or reasoning follows are parts of the content; `calls` has them all.
        is_error: a `tool` message reports that the call has failed.
    """

    role: Role
    content: str | tuple[Part, ...]
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    is_error: bool = False

    @property
    def text(self) -> str:
        """The text of the content, or of its text parts."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The content and the calls, in order; no part for an empty string."""
        if isinstance(self.content, str):
            return (*((TextPart(self.content),) if self.content else ()), *self.tool_calls)
        return (*self.content, *self.tool_calls)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """All tool calls of the message, in order."""
        return tuple([part for part in self.parts if isinstance(part, ToolCall)])

    def followed_by(self, text: str) -> Message:
        """Return this message with `text` appended."""
        if isinstance(self.content, str):
            return msgspec.structs.replace(self, content=self.content + text)
        return msgspec.structs.replace(self, content=(*self.content, TextPart(text)))


class Tool(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A function that the model may ask to be called. `parameters` is a JSON Schema."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
