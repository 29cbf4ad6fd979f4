"""Sinks consume streams. A sink subscribes when it is awaited.

Each is imported on first access.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxllm._lazy_names import lazy_names
from rxllm.chunks import Status
from rxllm.result import Result, Timings

if TYPE_CHECKING:
    from rxllm.sinks._ag_ui import ag_ui
    from rxllm.sinks._anthropic import anthropic
    from rxllm.sinks._asgi import asgi
    from rxllm.sinks._callback_stream import CallbackStream
    from rxllm.sinks._callbacks import callbacks
    from rxllm.sinks._collect import collect
    from rxllm.sinks._console import console
    from rxllm.sinks._dispatch import dispatch
    from rxllm.sinks._file import file
    from rxllm.sinks._ndjson import ndjson
    from rxllm.sinks._openai_chat import openai_chat
    from rxllm.sinks._openai_responses import openai_responses
    from rxllm.sinks._sse import sse
    from rxllm.sinks._streams import Streams
    from rxllm.sinks._token_event import TokenEvent
    from rxllm.sinks._ui_messages import ui_messages
    from rxllm.sinks._websocket import websocket
    from rxllm.web.delivery import DeliveryReport

__all__ = [
    "CallbackStream",
    "DeliveryReport",
    "Result",
    "Status",
    "Streams",
    "Timings",
    "TokenEvent",
    "ag_ui",
    "anthropic",
    "asgi",
    "callbacks",
    "collect",
    "console",
    "dispatch",
    "file",
    "ndjson",
    "openai_chat",
    "openai_responses",
    "sse",
    "ui_messages",
    "websocket",
]


if not TYPE_CHECKING:
    __getattr__ = lazy_names(
        __name__,
        {
            "CallbackStream": "_callback_stream",
            "DeliveryReport": "rxllm.web.delivery",
            "Streams": "_streams",
            "TokenEvent": "_token_event",
            "openai_chat": "_openai_chat",
            "openai_responses": "_openai_responses",
            "anthropic": "_anthropic",
            "ui_messages": "_ui_messages",
            "ag_ui": "_ag_ui",
            "asgi": "_asgi",
            "callbacks": "_callbacks",
            "collect": "_collect",
            "console": "_console",
            "dispatch": "_dispatch",
            "file": "_file",
            "ndjson": "_ndjson",
            "sse": "_sse",
            "websocket": "_websocket",
        },
    )


def __dir__() -> list[str]:
    return __all__
