"""Deliver streams to clients: wire messages, encoding, writing, and stream stores.

`StreamStore` is the protocol of a store that keeps streams, and `MemoryStreams` implements it. A
stream is sent as `StreamChunk` messages, followed by `Complete` or `StreamFailed`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxllm._lazy_names import lazy_names

if TYPE_CHECKING:
    from rxllm.web.memory_store import MemoryStreams
    from rxllm.web.response_body import Events, events
    from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed, StreamSummary
    from rxllm.web.stream_store import Frame, StreamHandle, StreamStore
    from rxllm.web.wire import WireFormat
    from rxllm.web.wires import wire_format

__all__ = [
    "Complete",
    "Events",
    "Frame",
    "MemoryStreams",
    "StreamChunk",
    "StreamFailed",
    "StreamHandle",
    "StreamStore",
    "StreamSummary",
    "WireFormat",
    "events",
    "wire_format",
]

if not TYPE_CHECKING:
    # The sinks import some of these modules, and shouldn't have to load the store.
    __getattr__ = lazy_names(
        __name__,
        {
            "Complete": "stream_messages",
            "Events": "response_body",
            "Frame": "stream_store",
            "MemoryStreams": "memory_store",
            "StreamChunk": "stream_messages",
            "StreamFailed": "stream_messages",
            "StreamHandle": "stream_store",
            "StreamStore": "stream_store",
            "StreamSummary": "stream_messages",
            "WireFormat": "wire",
            "events": "response_body",
            "wire_format": "wires",
        },
    )


def __dir__() -> list[str]:
    return __all__
