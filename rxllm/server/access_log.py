"""The access log: one line for each stream, when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from reactivex import Observable

from rxllm import operators as ops
from rxllm.chunks import Chunk
from rxllm.operators import Measurement
from rxllm.requests import Request
from rxllm.server.client import CLIENT

__all__ = ["AccessLog"]

_LONGEST_PROMPT: Final = 1000  # characters


class AccessLog:
    """Writes a line for each stream: how it ended, and what it took.

    The fields of `stream` are `id`, `model`, `status` (completed, failed, cancelled), `tokens`,
    `first_token` and `seconds`, `queue` (the seconds that it waited for a slot), `left` (whether
    the client has left before its end), `client` (the address), `path`, `request` and `key` (the
    name of the API key). A failed one has its `error`, and is a warning.

    Args:
        logger: a structlog logger, or an object with its methods.
        registry: knows whether a stream was stopped on request.
        prompts: whether the end of the prompt is logged.
    """

    def __init__(self, logger: Any, registry: ops.StreamRegistry, *, prompts: bool) -> None:
        self._logger = logger
        self._registry = registry
        self._prompts = prompts

    def line(self, stream_id: str, model: str, request: Request) -> Line:
        """Return the line for a stream of the current client, still to be written."""
        client = CLIENT.get()
        prompt = {"prompt": request.messages[-1].text[-_LONGEST_PROMPT:]} if self._prompts else {}
        named = {"id": stream_id, "model": model}
        asked = {"client": client.address, "path": client.path, "request": client.request_id}
        key = {} if client.owner is None else {"key": client.owner}
        return Line(self._logger, self._registry, named, {**asked, **key, **prompt})


class Line:
    """The line for one stream."""

    def __init__(
        self,
        logger: Any,
        registry: ops.StreamRegistry,
        named: dict[str, str],
        asked: dict[str, str],
    ) -> None:
        self._logger = logger
        self._registry = registry
        self._named = named
        self._asked = asked
        self._queue = 0.0

    def on_admit(self, seconds: float) -> None:
        """The stream has its slot, after so many seconds."""
        self._queue = seconds

    def operator(self) -> Callable[[Observable[Chunk]], Observable[Chunk]]:
        """Return the operator that writes the line."""
        return ops.measure(self._write)

    def _write(self, measured: Measurement) -> None:
        first = measured.time_to_first_token
        fields: dict[str, Any] = {
            "status": measured.outcome,
            "tokens": measured.tokens,
            "first_token": None if first is None else round(first, 3),
            "seconds": round(measured.elapsed, 3),
            "queue": round(self._queue, 3),
            "left": measured.outcome == "cancelled" and not self._was_stopped(),
        }
        write = self._logger.info
        if measured.error is not None:
            fields["error"] = f"{measured.error.type}: {measured.error.message}"
            write = self._logger.warning
        write("stream", **self._named, **fields, **self._asked)

    def _was_stopped(self) -> bool:
        stream_id = self._named["id"]
        return stream_id in self._registry and self._registry[stream_id].was_stopped
