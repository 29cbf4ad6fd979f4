"""What a conversation is made of: messages, their parts, and the tools that a model may call."""

from __future__ import annotations

import re
from typing import Any, Final, Literal, TypeAlias

import msgspec

from rxllm.chunks import ToolCall
from rxllm.errors import BadRequestError

__all__ = ["ImagePart", "Message", "Part", "Role", "TextPart", "Tool"]

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]

_BEGINNINGS: Final = {
    rb"\x89PNG": "image/png",
    rb"\xff\xd8\xff": "image/jpeg",
    rb"GIF8": "image/gif",
    rb"RIFF....WEBP": "image/webp",
}


class TextPart(
    msgspec.Struct, frozen=True, tag_field="type", tag="text", forbid_unknown_fields=True
):
    """A text among the parts of a message."""

    text: str


class ImagePart(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="type",
    tag="image",
    forbid_unknown_fields=True,
):
    """An image among the parts of a message: a URL that the provider loads, or bytes.

    `media_type`, for bytes, is told from them if it is None (PNG, JPEG, GIF, WebP).

    Raises:
        BadRequestError: there is no URL and there are no bytes, or both; or the bytes are of
            another kind, and no media type is given.
    """

    url: str | None = None
    data: bytes | None = None
    media_type: str | None = None

    def __post_init__(self) -> None:
        if (self.url is None) == (self.data is None):
            raise BadRequestError("an image is given by its url, or by its data: by one of them")
        if self.data is not None and self.media_type is None:
            msgspec.structs.force_setattr(self, "media_type", _kind_of(self.data))


def _kind_of(data: bytes) -> str:
    for beginning, kind in _BEGINNINGS.items():
        if re.match(beginning, data, re.DOTALL):
            return kind
    raise BadRequestError("the bytes of an image are of no known kind: say media_type")


Part: TypeAlias = TextPart | ImagePart


class Message(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One turn of a conversation.

    `content` is a text, or parts. `name` says who speaks, `tool_call_id` which call a `tool`
    message answers. `tool_calls` are those that an `assistant` message made, as they came.
    """

    role: Role
    content: str | tuple[Part, ...]
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def text(self) -> str:
        """The text of the content, or of those of its parts that are text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The content as parts: one for a text, none for an empty one."""
        if isinstance(self.content, str):
            return (TextPart(self.content),) if self.content else ()
        return self.content

    def followed_by(self, text: str) -> Message:
        """This message, with `text` at its end."""
        if isinstance(self.content, str):
            return msgspec.structs.replace(self, content=self.content + text)
        return msgspec.structs.replace(self, content=(*self.content, TextPart(text)))


class Tool(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Something that the model may ask to be called. `parameters` is a JSON Schema."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
