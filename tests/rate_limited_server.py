"""A provider of chat completions with a rate limit, which its headers report."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType
from typing import Self

from aiohttp import web

from rxllm.testing.provider_streams import openai_events


class RateLimitedServer:
    """Answers `requests` requests "Hi" in each window of time, and any further one with a 429.

    Attributes:
        url: its base URL.
        refused: how many requests were answered with a 429.
    """

    def __init__(self, requests: int, window: float) -> None:
        self.url = ""
        self.refused = 0
        self._requests = requests
        self._window = window
        self._counts: Counter[int] = Counter()
        self._begun = time.monotonic()
        app = web.Application()
        app.router.add_post("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0)

    async def _answer(self, _: web.Request) -> web.Response:
        now = time.monotonic() - self._begun
        window = int(now / self._window)
        self._counts[window] += 1
        headers = {
            "connection": "close",
            "x-ratelimit-limit-requests": str(self._requests),
            "x-ratelimit-remaining-requests": str(max(0, self._requests - self._counts[window])),
            "x-ratelimit-reset-requests": f"{(window + 1) * self._window - now:.3f}s",
        }
        if self._counts[window] > self._requests:
            self.refused += 1
            return web.Response(status=429, headers=headers)
        body = b"".join(openai_events("Hi"))
        return web.Response(body=body, headers=headers, content_type="text/event-stream")

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()
