"""The queues in which streams wait for a slot: one for local models, one for remote ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

from reactivex import Observable

from rxllm import operators as ops
from rxllm.chunks import Chunk
from rxllm.server.client import CLIENT
from rxllm.settings import Settings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["Queues"]

_LEND_AFTER: Final = 1.0  # seconds
_SECONDS: Final = (0.001, 0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)


class Queues:
    """The pools of a server, and their metrics.

    - `rxllm_waiting_streams`: the number of streams that wait now.
    - `rxllm_queue_seconds`: how long streams have waited for their slots.

    The label `pool` is `local` or `remote`.

    Args:
        settings: the sizes of the pools.
        metrics: registry of the metrics, or `None` for no metrics.
    """

    def __init__(self, settings: Settings, metrics: CollectorRegistry | None) -> None:
        self._pools: dict[Literal["local", "remote"], ops.Pool] = {
            "local": ops.Pool(**settings.local_pool, lend_after=_LEND_AFTER),
            "remote": ops.Pool(**settings.remote_pool),
        }
        self._on_admit: dict[str, Callable[[float], object]] = {}
        if metrics is not None:
            self._register(metrics)

    def _register(self, metrics: CollectorRegistry) -> None:
        from prometheus_client import Gauge, Histogram

        waiting = Gauge(
            "rxllm_waiting_streams", "Streams that wait for a slot.", ["pool"], registry=metrics
        )
        seconds = Histogram(
            "rxllm_queue_seconds",
            "Time that streams have waited for their slots, in seconds.",
            ["pool"],
            registry=metrics,
            buckets=_SECONDS,
        )
        for name, pool in self._pools.items():
            waiting.labels(name).set_function(lambda pool=pool: pool.waiting)  # type: ignore[misc]
            self._on_admit[name] = seconds.labels(name).observe

    def operator(
        self,
        name: Literal["local", "remote"],
        *,
        progress: bool,
        on_admit: Callable[[float], object] | None = None,
    ) -> Callable[[Observable[Chunk]], Observable[Chunk]]:
        """Return the operator that runs a stream of the current client in a slot.

        `on_admit` is called with the seconds that it has waited, when it has its slot.
        """
        observers = [each for each in (self._on_admit.get(name), on_admit) if each is not None]

        def admitted(seconds: float) -> None:
            for observe in observers:
                observe(seconds)

        return ops.limit_concurrency(
            self._pools[name],
            client=CLIENT.get().name,
            progress=progress,
            on_admit=admitted,
        )
