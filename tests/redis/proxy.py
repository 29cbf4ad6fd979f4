"""A TCP proxy in front of a Redis, which a test can cut."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType

__all__ = ["Proxy"]


class Proxy:
    """Forwards connections, unless it is cut: then they hang, or are refused.

    Args:
        port: of the server behind it.
    """

    def __init__(self, port: int) -> None:
        self._behind = port
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Forward nothing, as a network does that drops packets."""
        self._is_open.clear()

    def mend(self) -> None:
        """Forward again, on new connections: what was on its way is lost."""
        for writer in tuple(self._writers):
            writer.transport.abort()
        self._is_open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        behind = None
        try:
            await self._is_open.wait()
            from_server, behind = await asyncio.open_connection("127.0.0.1", self._behind)
            self._writers.add(behind)
            await asyncio.gather(self._copy(reader, behind), self._copy(from_server, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for each in (writer, behind):
                if each is not None:
                    self._writers.discard(each)
                    each.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                await self._is_open.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
