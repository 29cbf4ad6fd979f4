"""A model that counts, and goes on from where a partial answer ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from rxllm import from_async
from rxllm.chunks import Chunk, End, Start, Token
from rxllm.requests import ModelInfo, Request, as_request
from rxllm.stream import Stream

__all__ = ["CountingModel", "counted"]


def counted(numbers: int) -> str:
    """Return the answer to `"<numbers> <seconds>"`."""
    return "".join([f"{number} " for number in range(numbers)])


class CountingModel:
    """Asked `"100 0.02"`, it counts from 0 to 99, a number each 0.02 s."""

    info = ModelInfo("counting", "test", capabilities=("prefill",))

    def stream(self, prompt: Any, **options: Any) -> Stream[Chunk]:
        request = as_request(prompt, **options)
        return from_async(lambda: self._count(request))

    async def _count(self, request: Request) -> AsyncIterator[Chunk]:
        asked, *said = [each.text for each in request.messages]
        numbers, seconds = asked.split()
        yield Start("r", "counting")
        for number in range(len("".join(said).split()), int(numbers)):
            await asyncio.sleep(float(seconds))
            yield Token(f"{number} ")
        yield End("stop")
