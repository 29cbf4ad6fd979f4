"""The data in the URLs of images and files that clients send."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple
from urllib.parse import unquote, unquote_to_bytes

from rxllm.messages import FilePart, ImagePart
from rxllm.web.failures import InvalidMessageError

__all__ = ["Source", "decoded_base64", "file_part", "source_of"]


class Source(NamedTuple):
    """Where an image or a file is: a URL, or the data with its media type."""

    url: str | None
    data: bytes | None
    media_type: str | None


def decoded_base64(data: str, field: str) -> bytes:
    """Decode base64.

    Raises:
        InvalidMessageError: it is invalid.
    """
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidMessageError("the data is not valid base64", field) from None


def source_of(url: str, field: str) -> Source:
    """Return the source that a URL is, or has in it (RFC 2397).

    Raises:
        InvalidMessageError: its data is invalid.
    """
    if url[:5].lower() != "data:":
        return Source(url, None, None)
    head, comma, text = url[5:].partition(",")
    if not comma:
        raise InvalidMessageError("a data URL must have a comma", field)
    media_type = head.partition(";")[0] or None
    if head.lower().endswith(";base64"):
        return Source(None, decoded_base64(unquote(text), field), media_type)
    return Source(None, unquote_to_bytes(text), media_type)


def file_part(
    url: str, field: str, media_type: str | None = None, name: str | None = None
) -> ImagePart | FilePart:
    """Return the part for a URL. Without a type, it is an image.

    Raises:
        InvalidMessageError: its data is invalid.
    """
    source = source_of(url, field)
    media_type = media_type or source.media_type
    if media_type is None or media_type.startswith("image/"):
        return ImagePart(url=source.url, data=source.data, media_type=media_type)
    return FilePart(url=source.url, data=source.data, media_type=media_type, name=name)
