"""Requests of a check, and what came back, with times."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final

import aiohttp
import msgspec

__all__ = ["LARGEST_BODY", "Reading", "read"]

LARGEST_BODY: Final = 8 * 1024 * 1024  # bytes; an answer to a short question has far fewer


class Reading(msgspec.Struct):
    """What a server has sent to one request.

    Args:
        seconds: from the request to the end.
        status: the HTTP status, or 0 if no response came.
        headers: of the response, in lower case.
        body: as far as it came.
        pieces: for each piece of the body, the seconds since the request, and its size in bytes.
        failure: why the response is incomplete, or `None` if it isn't.
        is_refused: whether nothing has accepted the connection.
    """

    seconds: float = 0.0
    status: int = 0
    headers: dict[str, str] = {}
    body: bytes = b""
    pieces: list[tuple[float, int]] = []
    failure: str | None = None
    is_refused: bool = False

    @property
    def media_type(self) -> str:
        """The media type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def first(self) -> float | None:
        """Seconds to the first byte of the body, if there was one."""
        return self.pieces[0][0] if self.pieces else None


async def read(
    session: aiohttp.ClientSession,
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    *,
    timeout: float,  # noqa: ASYNC109 - a failure of the server, not of the caller
    leave_after: int | None = None,
) -> Reading:
    """Send a request, and read its response; failures of the connection are part of it.

    Redirects aren't followed: they could take the key elsewhere.

    Args:
        session: the client.
        url: where to.
        body: the body to post, in JSON, or `None` to get what is there.
        headers: of the request.
        timeout: seconds for all of it.
        leave_after: close the connection after this many pieces of the body, or `None` to read all.
    """
    got = Reading()
    begun = perf_counter()
    limits = aiohttp.ClientTimeout(total=timeout, sock_connect=10.0)
    method, media = ("GET", {}) if body is None else ("POST", {"Content-Type": "application/json"})
    sent = {**media, **headers}
    try:
        async with session.request(
            method, url, data=body, headers=sent, timeout=limits, allow_redirects=False
        ) as response:
            got.status = response.status
            got.headers = {name.lower(): value for name, value in response.headers.items()}
            await _read_body(response, got, begun, leave_after)
    except TimeoutError:
        got.failure = f"no end after {timeout:g} s"
    except (aiohttp.ClientError, OSError) as error:
        got.failure = _in_words(error)
        got.is_refused = isinstance(error, aiohttp.ClientConnectorError)
    got.seconds = perf_counter() - begun
    return got


async def _read_body(
    response: aiohttp.ClientResponse, got: Reading, begun: float, leave_after: int | None
) -> None:
    parts: list[bytes] = []
    size = 0
    try:
        async for piece in response.content.iter_any():
            got.pieces.append((perf_counter() - begun, len(piece)))
            parts.append(piece)
            size += len(piece)
            if size > LARGEST_BODY:
                got.failure = f"the answer to a short question has over {LARGEST_BODY} bytes"
            if size > LARGEST_BODY or len(parts) == leave_after:
                response.close()
                return
    finally:
        got.body = b"".join(parts)


def _in_words(error: Any) -> str:
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection was closed in the middle of the body"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed before the headers"
    return str(error) or type(error).__name__
