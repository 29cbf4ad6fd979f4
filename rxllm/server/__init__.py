"""An aiohttp server for streams, with a web page: `rxllm serve`, or `create_app(...)` in your own.

>>> from rxllm.server import create_app
>>> app = create_app()  # then aiohttp.web.run_app(app), or other.add_subapp("/llm/", app)

`serve` runs an application until a signal, `drain` lets its streams finish. The streams are kept in
a `StreamStore`, such as `MemoryStreams`, which returns `StreamHandle`s and their events as
`Frame`s. The messages are in `rxllm.server.messages`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxllm._lazy_names import lazy_names
from rxllm.server.limits import Limits

if TYPE_CHECKING:
    from rxllm.server.app import create_app, drain
    from rxllm.server.persona import Persona, RoomSettings
    from rxllm.server.runner import serve
    from rxllm.web.memory_store import MemoryStreams
    from rxllm.web.stream_store import Frame, StreamHandle, StreamStore

__all__ = [
    "Frame",
    "Limits",
    "MemoryStreams",
    "Persona",
    "RoomSettings",
    "StreamHandle",
    "StreamStore",
    "create_app",
    "drain",
    "serve",
]

if not TYPE_CHECKING:
    # These import aiohttp, which isn't needed for the messages alone.
    __getattr__ = lazy_names(
        __name__,
        {
            "StreamHandle": "rxllm.web.stream_store",
            "Frame": "rxllm.web.stream_store",
            "MemoryStreams": "rxllm.web.memory_store",
            "StreamStore": "rxllm.web.stream_store",
            "Persona": "persona",
            "RoomSettings": "persona",
            "create_app": "app",
            "drain": "app",
            "serve": "runner",
        },
    )


def __dir__() -> list[str]:
    return __all__
