"""The limits of a server: what one client may ask of it, and how long things are kept."""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["Limits"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a client may ask for. What is above is refused with a clear answer.

    A value, as `rxllm.Settings` is: these are about clients, those about models.

    Args:
        body_bytes: the body of a request, 413 above it.
        body_seconds: how long a client may take to send it, 408 after that.
        prompt_characters: all the text of a request, 413 above it.
        messages: messages in a request, 413 above it.
        max_tokens: what a client may ask for. A request that says nothing gets the model's own.
        stream_seconds: how long a stream may take in all.
        stream_events: events of one stream that the server keeps; a longer stream fails.
        stream_characters: the text of them, without what a newer state has taken the place of; a
            longer stream fails.
        streams: streams that live at once, in all; 429 above it. How many of them run at once is
            said by `Settings.local_streams` and `remote_streams`; the others wait.
        readers: HTTP requests that read a stream at once, in all; 429 above it.
        grace: seconds that a stream lives on after its last reader has left (one second at least),
            and that one which has ended can still be read.
        ended_streams: of those, how many are kept at most.
        reader_lag: events that all readers of a stream may be behind before its model waits.
        reader_stall: seconds that a reader may take nothing, before it is put out.
        message_bytes: one message of a WebSocket.
        messages_per_second: of one WebSocket connection, on average over some seconds.
        streams_per_connection: of one WebSocket connection, at once.
        connections: WebSocket connections at once.
        room_members: people in one room.
        rooms: rooms at once.
        history_exchanges: exchanges of a chat that are kept.
        history_characters: their text, in all.

    Raises:
        ValueError: a number is not above 0 (in decoding: `msgspec.ValidationError`).
    """

    body_bytes: int = 1024 * 1024
    body_seconds: float = 20.0
    prompt_characters: int = 100_000
    messages: int = 500
    max_tokens: int = 8192
    stream_seconds: float = 600.0
    stream_events: int = 100_000
    stream_characters: int = 4_000_000
    streams: int = 1000
    readers: int = 2000
    grace: float = 30.0
    ended_streams: int = 100
    reader_lag: int = 1024
    reader_stall: float = 30.0
    message_bytes: int = 256 * 1024
    messages_per_second: float = 20.0
    streams_per_connection: int = 8
    connections: int = 1000
    room_members: int = 50
    rooms: int = 100
    history_exchanges: int = 20
    history_characters: int = 20_000

    def __post_init__(self) -> None:
        for name, default in zip(self.__struct_fields__, self.__struct_defaults__, strict=True):
            value = getattr(self, name)
            kinds = int if type(default) is int else int | float
            good = isinstance(value, kinds) and not isinstance(value, bool)
            if name in _FROM_ZERO and value == 0 and good:
                continue
            if not good or not 0 < value < float("inf"):
                what = "a whole number" if type(default) is int else "a number"
                raise ValueError(f"{name} is {what} above 0, not {value!r}")


_FROM_ZERO: Final = {"grace", "ended_streams"}
