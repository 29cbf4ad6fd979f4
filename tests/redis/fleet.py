"""Several nodes in one process, streams that say what a test lets them say, and their readers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

import reactivex
from reactivex import Observable, Subject

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, Notice, Start, Token
from rxllm.redis import RedisStreams
from rxllm.server.limits import Limits
from rxllm.valve import StreamScheduler, Valve
from rxllm.web.memory_store import MemoryStreams
from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed
from rxllm.web.stream_store import Frame, Resume, StreamHandle, StreamStore

__all__ = ["Fleet", "MemoryNode", "Node", "Reader", "Source"]

LEASE = 0.6
PATIENCE = 20.0


class Source:
    """A stream whose chunks a test sends.

    Attributes:
        subscribed: how many subscriptions there are.
        begun: how many there have been.
    """

    def __init__(self, registry: ops.StreamRegistry, stream_id: str = "s") -> None:
        self.stream_id = stream_id
        self.subscribed = 0
        self.begun = 0
        self.valve: Valve | None = None
        self._registry = registry
        self._chunks = Subject[Chunk]()

    def ask(self) -> Observable[Chunk]:
        """Return the stream, for `begin`."""

        def subscribe(observer: Any, scheduler: Any = None) -> Any:
            self.subscribed += 1
            self.begun += 1
            self.valve = scheduler.valve
            subscription = self._chunks.subscribe(observer, scheduler=scheduler)

            def dispose() -> None:
                self.subscribed -= 1
                subscription.dispose()

            return dispose

        return reactivex.create(subscribe).pipe(ops.track(self._registry, self.stream_id))

    def say(self, *said: str | Chunk) -> None:
        """Send tokens, or other chunks."""
        for each in said:
            self._chunks.on_next(Token(each) if isinstance(each, str) else each)

    def begin(self) -> None:
        self.say(Start("r", "m"))

    def end(self) -> None:
        self.say(End("stop"))
        self._chunks.on_completed()

    def fail(self, error: Exception) -> None:
        self._chunks.on_error(error)


class Reader:
    """What one reader of a stream has received.

    Attributes:
        frames: all of them.
        restarts: how often it was told to start over.
        error: with which the reading failed.
    """

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.restarts = 0
        self.error: Exception | None = None
        self.valve = Valve()
        self._texts: list[str] = []
        self._changed = asyncio.Event()
        self._is_done = False
        self._subscription: Any = None

    def subscribe(self, frames: Observable[Frame]) -> Reader:
        loop = asyncio.get_running_loop()
        self._subscription = frames.subscribe(
            self._on_next,
            self._on_error,
            self._on_completed,
            scheduler=StreamScheduler(loop, self.valve),
        )
        return self

    def leave(self) -> None:
        self._subscription.dispose()

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def position(self) -> int:
        return self.frames[-1].position if self.frames else 0

    @property
    def chunks(self) -> list[Chunk]:
        return [each.message.chunk for each in self.frames if isinstance(each.message, StreamChunk)]

    @property
    def last(self) -> Complete | StreamFailed | None:
        message = self.frames[-1].message if self.frames else None
        return message if isinstance(message, Complete | StreamFailed) else None

    async def until(self, is_so: Callable[[], object], seconds: float = PATIENCE) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not is_so():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(
                f"it has received {self.text!r} to {self.position}, {self.last}, {self.error}"
            ) from None

    async def until_said(self, text: str) -> None:
        await self.until(lambda: self.text == text)

    async def until_done(self) -> Complete | StreamFailed | None:
        await self.until(lambda: self._is_done)
        return self.last

    def _on_next(self, frame: Frame) -> None:
        self.frames.append(frame)
        message = frame.message
        if isinstance(message, StreamChunk):
            chunk = message.chunk
            if isinstance(chunk, Notice) and chunk.kind == "restart":
                self.restarts += 1
                self._texts.clear()
            elif isinstance(chunk, Token | Batch):
                self._texts.append(chunk.text)
        self._changed.set()

    def _on_error(self, error: Exception) -> None:
        self.error = error
        self._on_completed()

    def _on_completed(self) -> None:
        self._is_done = True
        self._changed.set()


class MemoryNode:
    """A store, and what a test needs of it."""

    def __init__(self, **limits: Any) -> None:
        self.registry = ops.StreamRegistry(max_idle=None)
        self.limits = Limits(**{"grace": 5.0, **limits})
        self.store: StreamStore = self._new_store()

    def _new_store(self) -> StreamStore:
        return MemoryStreams(self.registry, self.limits)

    def source(self, stream_id: str = "s") -> Source:
        return Source(self.registry, stream_id)

    async def begin(self, stream_id: str = "s", **options: Any) -> Source:
        """Begin a stream, and return its source."""
        source = self.source(stream_id)
        await self.store.begin(source.ask, stream_id, **options)
        source.begin()
        return source

    async def read(self, stream_id: str = "s", after: int = 0, **options: Any) -> Reader:
        return Reader().subscribe(await self.store.read(stream_id, after, **options))

    async def read_handle(self, handle: StreamHandle) -> Reader:
        return Reader().subscribe(await handle.read())


class Node(MemoryNode):
    """A store on Redis."""

    def __init__(self, url: str, lease: float, flush: float = 0.005, **limits: Any) -> None:
        self._url = url
        self._lease = lease
        self._flush = flush
        super().__init__(**limits)
        self.redis: RedisStreams

    def _new_store(self) -> StreamStore:
        self.redis = RedisStreams(
            self._url, self.registry, self.limits, 64, lease=self._lease, flush=self._flush
        )
        return self.redis

    @property
    def name(self) -> str:
        return self.redis._node.name

    async def kill(self) -> None:
        """End as a process that is killed does: nothing is said any more, or written."""
        store = self.redis
        store._tail._task.cancel()  # type: ignore[union-attr]
        store._node._renewing.cancel()  # type: ignore[union-attr]
        await store._owned.close()
        for kept in list(store._memory.running.values()):
            store._memory.detach(kept)
        store._followed.close()
        await store._connections.close()


class Fleet:
    """Several nodes on one Redis; those that aren't killed are closed at the end.

    Args:
        url: of the Redis.
        resume: continues the streams of dead nodes.
        lease: seconds.

    Attributes:
        open: the nodes that run.
    """

    def __init__(self, url: str, resume: Resume | None = None, lease: float = LEASE) -> None:
        self.url = url
        self.resume = resume
        self.lease = lease
        self._stack = AsyncExitStack()
        self.open: list[Node] = []

    async def __aenter__(self) -> Fleet:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for node in self.open:
            await node.store.close()

    async def node(self, resume: Resume | None = None, **limits: Any) -> Node:
        """Start a node."""
        node = Node(self.url, self.lease, **limits)
        await node.store.start(resume or self.resume)
        self.open.append(node)
        return node

    async def nodes(self, count: int, **limits: Any) -> list[Node]:
        return [await self.node(**limits) for _ in range(count)]

    async def kill(self, node: Node) -> None:
        self.open.remove(node)
        await node.kill()


def texts(chunks: Sequence[Chunk]) -> str:
    return "".join([each.text for each in chunks if isinstance(each, Token | Batch)])
