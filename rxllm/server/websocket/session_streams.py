"""The streams of a session in a store that several servers share."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Container

from rxllm.server.asked import AskedStream
from rxllm.server.client import CLIENT
from rxllm.web.failures import StreamNotFoundError
from rxllm.web.stream_messages import StreamSummary
from rxllm.web.stream_store import StreamStore

__all__ = ["find_streams", "prefix_of"]


def prefix_of(secret: str) -> str:
    """Return how the ids of a session's streams begin, from which the secret can't be learned.

    >>> prefix_of("a secret")
    'ws-984ca5162200734c592148f1-'
    """
    return f"ws-{hashlib.sha256(secret.encode()).hexdigest()[:24]}-"


async def find_streams(
    store: StreamStore, prefix: str, known: Container[str | None]
) -> list[tuple[str, StreamSummary]]:
    """Return the streams of a session that the client may see, by the ids that it has given them,
    in the order in which they began; not those whose ids in the store are `known`.

    Raises:
        StoreUnavailableError: the other servers can't be reached.
    """
    client = CLIENT.get()
    listed = await store.list(prefix)
    found = [each for each in listed if each.id not in known and client.may_see(each.owner)]
    ids = await asyncio.gather(*[_client_id(store, each.id) for each in found])
    return [(name, each) for name, each in zip(ids, found, strict=True) if name is not None]


async def _client_id(store: StreamStore, listed: str) -> str | None:
    try:
        return AskedStream.decode(await store.asked(listed)).client_id
    except StreamNotFoundError:  # it has expired meanwhile
        return None
