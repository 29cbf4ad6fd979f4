"""An aiohttp server of streams, and its page: `rxllm serve`, or `create_app(...)` in your own.

>>> from rxllm.server import create_app
>>> app = create_app()  # then aiohttp.web.run_app(app), or other.add_subapp("/llm/", app)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rxllm.server.limits import Limits

if TYPE_CHECKING:
    from rxllm.server.app import create_app, drain

__all__ = ["Limits", "create_app", "drain"]


def __getattr__(name: str) -> Any:
    # They import aiohttp, which those who only want the messages need not.
    if name in ("create_app", "drain"):
        from rxllm.server import app

        return getattr(app, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
