"""What stands in the Redis Stream of a stream: its events, in entries of one flush each.

An entry with the id `<last position>-<events>` has one field, which names its kind and its version:
`d1`, events, or `e1`, the end. The events are MessagePack,
`[time, events, offsets, previous, run]`: the time of the first in Unix seconds; the milliseconds of
each after it; the position before them, or -1 if that is the one before the first; and a number of
the stream, so that those of another one that has got its id aren't taken for its own. An event is
the text of a plain token; or a number and a chunk as JSON; or nil, if it was dropped before it was
written. The number is how many characters of the arguments of a tool call an earlier event has,
which the JSON omits, or -1; or -2 if the chunk is MessagePack, which has infinite numbers, such as
the log probability of a token that is ruled out.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

import msgspec

from rxllm.chunks import Chunk, StateKey, Token, ToolCall, state_key
from rxllm.text.surrogates import without_surrogates
from rxllm.web.call_offsets import CallOffsets
from rxllm.web.encoding import to_json
from rxllm.web.stream_messages import Complete, StreamFailed

__all__ = [
    "END",
    "EPOCH",
    "EVENTS",
    "VERSION",
    "CallReader",
    "Entry",
    "decode_end",
    "decode_events",
    "encode_events",
    "epoch_gap",
    "epoch_of",
    "run_of",
]

VERSION: Final = 1
"""The version of entries and of messages between nodes that this node writes. It reads those of the
version before, too, so that the nodes of a fleet can be replaced one by one."""

EPOCH: Final = 1_000_000
"""The positions of one epoch: those of epoch e begin at (e - 1) * EPOCH + 1, so that a position
names one event of a stream for ever, whichever node has said it. The last one of an epoch is that
of an error that only some readers receive."""

EVENTS: Final = f"d{VERSION}"
END: Final = f"e{VERSION}"

Event: TypeAlias = str | tuple[int, bytes] | None

_WHOLE: Final = -1
_PACKED: Final = -2
_GAPS: Final = 10_000  # positions stay below 2**53 for 900,000 epochs, exact in JavaScript


class Entry(msgspec.Struct, array_like=True):
    """The events of an entry. See the module docstring.

    Args:
        at: when the first one happened, in Unix seconds.
        events: text, or the offset of a tool call and a chunk as JSON; `None` for one that was
            dropped.
        offsets: the milliseconds after that of each.
        previous: the position before the first, if it isn't the one before.
        run: see `run_of`.
    """

    at: float
    events: list[Event]
    offsets: list[int]
    previous: int = -1
    run: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Entry).decode
_decode_chunk: Final = msgspec.json.Decoder(Chunk).decode
_decode_packed: Final = msgspec.msgpack.Decoder(Chunk).decode
_decode_end: Final = msgspec.json.Decoder(Complete | StreamFailed).decode


def epoch_gap() -> int:
    """Return the distance from one epoch to the next: a random one, so that two nodes that take a
    stream over, one of which Redis forgets, don't give the same positions to different events."""
    return secrets.randbelow(_GAPS) + 1


def run_of(born: str) -> int:
    """Return the number in the entries of a stream that was born as this hexadecimal text.

    >>> run_of("c0ffee00c0de")
    12648430
    """
    return int(born[:6] or "0", 16)


def epoch_of(token: str) -> int:
    """Return the epoch of a token.

    >>> epoch_of("2.c0ffee")
    2
    """
    return int(token.partition(".")[0])


def encode_events(
    previous: int,
    positions: Sequence[int],
    times: Sequence[float],
    chunks: Iterable[Chunk | None],
    calls: CallOffsets,
    run: int = 0,
) -> bytes:
    """Return the data of an entry.

    Args:
        previous: the position before the first.
        positions: of the events, each 1 above the one before.
        times, chunks: of the events.
        calls: has been given all earlier events.
        run: of the stream.
    """
    begun = next((at for at in times if at), 0.0)
    entry = Entry(
        begun,
        [_event(chunk, calls) for chunk in chunks],
        [int((at - begun) * 1000) if at else 0 for at in times],
        -1 if previous == positions[0] - 1 else previous,
        run,
    )
    try:
        return _encode(entry)
    except UnicodeEncodeError:  # half a surrogate pair
        entry.events = [
            without_surrogates(each) if isinstance(each, str) else each for each in entry.events
        ]
        return _encode(entry)


def _event(chunk: Chunk | None, calls: CallOffsets) -> Event:
    if type(chunk) is Token:
        return chunk.text if _is_plain(chunk) else _of_token(chunk)
    if chunk is None:
        return None
    offset = calls.next(chunk)
    if offset is None or not isinstance(chunk, ToolCall):
        return _WHOLE, to_json(chunk)
    rest = msgspec.structs.replace(chunk, arguments=chunk.arguments[offset:])
    return offset, to_json(rest)


def _of_token(token: Token) -> Event:
    if token.logprobs is not None and token.state is None:
        with suppress(UnicodeEncodeError):
            return _PACKED, _encode(token)
    return _WHOLE, to_json(token)


def _is_plain(token: Token) -> bool:
    """Return whether there is nothing but text."""
    return (
        token.confidence is None
        and token.source is None
        and token.tokens == 1
        and token.number is None
        and token.logprobs is None
        and token.state is None
        and not token.masked
    )


def decode_events(entry_id: bytes, data: bytes) -> tuple[int, Entry]:
    """Return the position before the first event of an entry, by its id, and the entry.

    Raises:
        msgspec.DecodeError: it isn't one.
    """
    last, _, count = entry_id.partition(b"-")
    return int(last) - int(count), _decode(data)


def decode_end(data: bytes) -> Complete | StreamFailed:
    """Return the last message of a stream.

    Raises:
        msgspec.DecodeError: it isn't one.
    """
    return _decode_end(data)


class CallReader:
    """Puts the arguments of tool calls together again."""

    def __init__(self) -> None:
        self._arguments: dict[StateKey | None, str] = {}

    def read(self, event: tuple[int, bytes]) -> Chunk:
        """Return the chunk of the next event that isn't plain text.

        Raises:
            msgspec.DecodeError: it isn't one.
        """
        offset, data = event
        chunk = _decode_packed(data) if offset == _PACKED else _decode_chunk(data)
        if type(chunk) is not ToolCall:
            return chunk
        key = state_key(chunk)
        if offset != _WHOLE:
            arguments = self._arguments[key][:offset] + chunk.arguments
            chunk = msgspec.structs.replace(chunk, arguments=arguments)
        self._arguments[key] = chunk.arguments
        return chunk
