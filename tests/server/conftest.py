"""`--store redis`: the tests of the server once more, with the streams of each app in Redis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from rxllm import operators as ops
from rxllm.server import app, limits
from tests.redis.server import RedisServer


@pytest.fixture(autouse=True, scope="session")
def _store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    if request.config.getoption("--store") != "redis":
        yield
        return
    from rxllm.redis import RedisStreams

    folder = tmp_path_factory.mktemp("redis")
    with RedisServer(folder) as server, pytest.MonkeyPatch.context() as patch:

        def new_store(registry: ops.StreamRegistry, limits: limits.Limits, buffer_size: int) -> Any:
            return RedisStreams(
                server.url, registry, limits, buffer_size, name=uuid4().hex, flush=0.005
            )

        patch.setattr(app, "MemoryStreams", new_store)
        yield
