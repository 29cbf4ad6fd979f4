"""The request of a stream, as other servers need it to read or to continue the stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from rxllm.errors import StoreUnavailableError
from rxllm.requests import Request

__all__ = ["AskedStream"]

_VERSION: Final = 1
"""What is written here is read by this version of the server, and by the one after it."""


class AskedStream(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream was asked for, kept with it in the store.

    Args:
        request: the request, if another server may continue the stream.
        model: the public name of the model; the default one if `None`.
        progress: whether the stream has `Progress`.
        client: the name of the API key that began it.
        message_id, call_ids: of a UI message stream, the message that it answers with, and the
            calls that this message has.
        echoed: of a response of the Responses API, the fields that it repeats.
        client_id: the id that the client of a WebSocket has given to the stream.
        version: of this record.
    """

    request: Request | None = None
    model: str | None = None
    progress: bool = False
    client: str | None = None
    message_id: str | None = None
    call_ids: Sequence[str] = ()
    echoed: dict[str, Any] | None = None
    client_id: str | None = None
    version: int = _VERSION

    def encode(self) -> bytes | None:
        """Return the record, or `None` if there is nothing in it."""
        given = self.request, self.message_id, self.echoed, self.client_id
        if all(each is None for each in given):
            return None
        try:
            return msgspec.json.encode(self)
        except (TypeError, UnicodeEncodeError):  # an option of a model, or half a surrogate pair
            return msgspec.structs.replace(self, request=None).encode() if self.request else None

    @classmethod
    def decode(cls, data: bytes | None) -> AskedStream:
        """Return what `encode` has made; an empty record for `None`.

        Raises:
            StoreUnavailableError: a server of another version has written it.
        """
        if data is None:
            return cls()
        try:
            asked = _decode(data)
        except msgspec.DecodeError as error:
            raise StoreUnavailableError(
                f"the request of the stream can't be read: {error}"
            ) from None
        if asked.version not in (_VERSION - 1, _VERSION):
            raise StoreUnavailableError(
                f"a server of another version began the stream (record {asked.version})"
            )
        return asked


_decode: Final = msgspec.json.Decoder(AskedStream).decode
