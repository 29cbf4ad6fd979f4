"""The limits of a server: what a client may request, and how long things are kept."""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["Limits"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits for clients. Requests above a limit are refused with an error.

    Limits are about clients; `rxllm.Settings` are about models.

    Args:
        body_bytes: size of a request body; above it 413.
        body_seconds: time that a client may take to send the body; after it 408.
        prompt_characters: total text of a request; above it 413.
        messages: messages in a request; above it 413.
        max_tokens: maximum `max_tokens` of a request; above it 400. The default is the model's.
        stop_sequences: stop sequences of a request; above it 413, as for the next three.
        stop_characters: total length of the stop sequences.
        schema_bytes: size of the JSON Schema of an answer.
        grammar_bytes: size of the grammar of an answer.
        stream_seconds: total duration of a stream.
        stream_events: events of one stream that the server keeps; a longer stream fails.
        stream_characters: total text of those events, not counting superseded states; a longer
            stream fails.
        streams: live streams; above it 429. `Settings.local_streams` and `remote_streams` limit how
            many of them run at once; the others wait.
        readers: HTTP requests that read a stream at once; above it 429.
        grace: seconds that a stream continues after its last reader has left (at least one), and
            that an ended stream can still be read.
        ended_streams: maximum number of ended streams kept.
        reader_stall: seconds that a reader may stall before it is evicted.
        message_bytes: size of a WebSocket message.
        messages_per_second: messages of a WebSocket connection, averaged over some seconds.
        streams_per_connection: live streams of a WebSocket connection.
        connections: concurrent WebSocket connections.
        http_connections: concurrent connections of `rxllm serve`, of any kind, if the process may
            open as many; further ones get 503 at once.
        room_members: members of one room.
        rooms: concurrent rooms.
        history_exchanges: exchanges kept of a chat.
        history_characters: total text of those exchanges.

    Raises:
        ValueError: a value is not a finite number above 0; `grace` and `ended_streams` may be 0
            (when decoding: `msgspec.ValidationError`).
    """

    body_bytes: int = 1024 * 1024
    body_seconds: float = 20.0
    prompt_characters: int = 100_000
    messages: int = 500
    max_tokens: int = 8192
    stop_sequences: int = 64
    stop_characters: int = 4_000
    schema_bytes: int = 64 * 1024
    grammar_bytes: int = 16 * 1024
    stream_seconds: float = 600.0
    stream_events: int = 100_000
    stream_characters: int = 4_000_000
    streams: int = 1000
    readers: int = 2000
    grace: float = 30.0
    ended_streams: int = 100
    reader_stall: float = 30.0
    message_bytes: int = 256 * 1024
    messages_per_second: float = 20.0
    streams_per_connection: int = 8
    connections: int = 1000
    http_connections: int = 10_000
    room_members: int = 50
    rooms: int = 100
    history_exchanges: int = 20
    history_characters: int = 20_000

    def __post_init__(self) -> None:
        for name, default in zip(self.__struct_fields__, self.__struct_defaults__, strict=True):
            value = getattr(self, name)
            kinds = int if type(default) is int else int | float
            good = isinstance(value, kinds) and not isinstance(value, bool)
            is_allowed = good and 0 <= value < float("inf") and (value or name in _FROM_ZERO)
            if not is_allowed:
                what = "an integer" if type(default) is int else "a number"
                minimum = ", 0 or more" if name in _FROM_ZERO else " above 0"
                raise ValueError(f"{name} must be {what}{minimum}, got {value!r}")


_FROM_ZERO: Final = {"grace", "ended_streams"}
