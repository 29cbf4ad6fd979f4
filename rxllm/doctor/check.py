"""Asks a server for a few short streams, and judges what comes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import msgspec

from rxllm.doctor.dialects import DIALECTS, Ask, Dialect
from rxllm.doctor.findings import Finding, Sheet
from rxllm.doctor.reading import Reading, read
from rxllm.doctor.streams import judge_delivery, judge_error, judge_response, judge_stream
from rxllm.errors import BadRequestError, ConnectionFailedError

__all__ = ["Checkup", "check_server"]

_SHORT: Final = "Count from 1 to 20, separated by commas."
_WITH_TOOL: Final = "What time is it in Paris? Use the tool."
_LONG: Final = "Tell me a long story about a robot who learns to paint."
_SHORT_TOKENS: Final = 256  # room for what a model thinks before
_LONG_TOKENS: Final = 400  # fits small contexts
_NO_CHAT: Final = re.compile(r"embed|whisper|tts|rerank|moderation|dall-e|image", re.IGNORECASE)
_LEAVERS: Final = 3
_PATIENCE: Final = 2.0  # seconds
_PATIENCE_FOR_LISTS: Final = 10.0  # seconds, for models and metrics
_RUNNING: Final = (
    "rxllm_active_streams",
    "vllm:num_requests_running",
    "llamacpp:requests_processing",
)


class Checkup(msgspec.Struct, frozen=True):
    """What a check has found.

    Args:
        url: the server.
        model: the model that was asked, or `None` for the server's own.
        findings: the verdicts, by wire and aspect.
        not_served: the wires that the server doesn't have.
    """

    url: str
    model: str | None
    findings: tuple[Finding, ...]
    not_served: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong; what is odd or unknown doesn't count."""
        return all(finding.verdict != "wrong" for finding in self.findings)


async def check_server(
    url: str,
    *,
    wire: str | None = None,
    model: str | None = None,
    api_key: str | None = None,
    timeout: float = 60.0,  # noqa: ASYNC109 - of each answer, for the server
) -> Checkup:
    """Ask a server for a few short streams, and judge what comes by the rules of the clients.

    For each wire it asks for a text, for the call of a tool, with a body that isn't JSON, and for
    three long texts whose connections it closes early.

    Args:
        url: the server, with or without `/v1`, or the endpoint of `wire`.
        wire: a name in `rxllm.doctor.DIALECTS`, or `None` to check all that the server has.
        model: the model to ask, or `None` for the first that the server lists.
        api_key: the key, or `None` to send none.
        timeout: seconds for each answer.

    Returns:
        The verdicts. Failures of the server are among them, not raised. When a stream is wrong, the
        rest isn't asked for.

    Raises:
        BadRequestError: the URL or the wire is invalid, no model is known, or the server serves
            none of the wires.
        ConnectionFailedError: nothing answers there.
    """
    _check_url(url)
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise BadRequestError("the key must be printable ASCII characters")
    if wire is not None and wire not in DIALECTS:
        raise BadRequestError(f"wire must be one of {', '.join(DIALECTS)}, got {wire!r}")
    async with aiohttp.ClientSession() as session:
        headers = _headers(api_key)
        name = model or await _first_model(session, url, headers)
        sheets: list[Sheet] = []
        not_served: list[str] = []
        statuses: list[str] = []
        for each in DIALECTS if wire is None else [wire]:
            dialect = DIALECTS[each]
            if name is None and dialect.needs_model:
                if wire is not None:
                    raise BadRequestError(f"{url} lists no models: name one with --model")
                not_served.append(each)
                continue
            examination = _Examination(session, url, each, name, headers, timeout)
            status = await examination.begin()
            if wire is not None or examination.is_served:
                await examination.run()
                sheets.append(examination.sheet)
            else:
                not_served.append(each)
                statuses.append(f"{each} {status}")
    if not sheets:
        raise BadRequestError(
            f"{url} serves no stream ({', '.join(statuses)}): name the wire to check with --wire"
        )
    found = [finding for sheet in sheets for finding in sheet.findings()]
    return Checkup(url, name, tuple(found), tuple(not_served))


class _Examination:
    """The requests about one wire."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        wire: str,
        model: str | None,
        headers: dict[str, str],
        timeout: float,
    ) -> None:
        self._session = session
        self._dialect: Dialect = DIALECTS[wire]
        self._server = _server(url)
        self._url = _endpoint(url, self._dialect.path)
        self._shown = url
        self._model = model
        self._headers = headers
        self._timeout = timeout
        self._first = Reading()
        self._renamed: dict[str, str] = {}
        self.sheet = Sheet(wire)

    async def begin(self) -> int:
        """Ask for a text, and return the status.

        Raises:
            ConnectionFailedError: nothing answers there.
        """
        self._first = await self._ask(_SHORT, _SHORT_TOKENS)
        if self._first.is_refused:
            raise ConnectionFailedError(f"nothing answers at {self._shown}: {self._first.failure}")
        if self._first.status == 400 and b"max_completion_tokens" in self._first.body:
            self._renamed = {"max_tokens": "max_completion_tokens"}
            self._first = await self._ask(_SHORT, _SHORT_TOKENS)
        return self._first.status

    @property
    def is_served(self) -> bool:
        """Whether the server answers in this wire format."""
        first = self._first
        return first.status == 200 and first.media_type in self._dialect.media_types

    async def run(self) -> None:
        """Judge the text, and go on if it is a stream."""
        if not judge_response(self._first, self._dialect, self.sheet):
            return
        judge = judge_stream(self._first, self._dialect, self.sheet)
        if not self.sheet.is_wrong and not judge.texts:
            self.sheet.unknown("order", "no text has come")
        judge_delivery(self._first, judge, self.sheet)
        if self.sheet.is_wrong:
            return
        if self._dialect.tools:
            await self._check_tools()
        broken = await read(self._session, self._url, b"{", self._headers, timeout=self._timeout)
        judge_error(broken, self._dialect, self.sheet)
        await self._check_cancellation()

    async def _ask(
        self,
        prompt: str,
        max_tokens: int,
        *,
        with_tool: bool = False,
        leave_after: int | None = None,
    ) -> Reading:
        ask = Ask(self._model, prompt, max_tokens, with_tool)
        fields = self._dialect.body(ask).items()
        body = msgspec.json.encode({self._renamed.get(name, name): each for name, each in fields})
        return await read(
            *(self._session, self._url, body, self._headers),
            timeout=self._timeout,
            leave_after=leave_after,
        )

    async def _check_tools(self) -> None:
        sheet = self.sheet
        reading = await self._ask(_WITH_TOOL, 256, with_tool=True)
        if reading.status in (400, 422):
            beginning = reading.body[:120].decode(errors="replace")
            sheet.unknown("tools", f"the model takes no tools: {beginning}")
        elif judge_response(reading, self._dialect, sheet):
            judge = judge_stream(reading, self._dialect, sheet)
            if not judge.calls:
                sheet.unknown("tools", "the model has called no tool")

    async def _check_cancellation(self) -> None:
        """Judge whether streams stop when their clients leave: others begin as early as before."""
        sheet = self.sheet
        if self._dialect.resumes:
            sheet.unknown("cancellation", "a stream may go on for a while, to be resumed")
            return
        before = await self._running()
        left = [await self._ask(_LONG, _LONG_TOKENS, leave_after=2) for _ in range(_LEAVERS)]
        after = await self._ask(_SHORT, _SHORT_TOKENS)
        if any(each.status != 200 or not each.pieces for each in [*left, after]):
            statuses = sorted({each.status for each in [*left, after]})
            sheet.unknown("cancellation", f"not all streams have begun: status {statuses}")
            return
        sheet.ok("cancellation")
        most = 3 * (self._first.first or 0.0) + _PATIENCE
        if (after.first or 0.0) > most:
            again = await self._ask(_SHORT, _SHORT_TOKENS)  # others may have been served before
            if again.first is None or again.first > most:
                text = f"the next answer began after {after.first:.1f} s"
                sheet.wrong("cancellation", f"after {_LEAVERS} clients had left, {text}")
        running = await self._running()
        if before is not None and running is not None and running >= before + _LEAVERS:
            text = f"{running - before:g} streams still run, says /metrics"
            sheet.wrong("cancellation", f"after {_LEAVERS} clients had left, {text}")

    async def _running(self) -> float | None:
        """Return how many requests the server says are running, or `None` if it doesn't."""
        url = f"{self._server}/metrics"
        got = await read(self._session, url, None, self._headers, timeout=_PATIENCE_FOR_LISTS)
        if got.status != 200 or got.failure is not None:
            return None
        lines = got.body.decode(errors="replace").splitlines()
        try:
            found = [float(each.rpartition(" ")[2]) for each in lines if each.startswith(_RUNNING)]
        except ValueError:
            return None
        return sum(found) if found else None


def _headers(api_key: str | None) -> dict[str, str]:
    version = {"anthropic-version": "2023-06-01"}
    if api_key is None:
        return version
    return {**version, "Authorization": f"Bearer {api_key}", "X-API-Key": api_key}


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname)
        parts.port  # noqa: B018 - raises for an invalid one
    except ValueError:
        is_valid = False
    if not is_valid:
        raise BadRequestError(f"the URL must begin with http:// or https://, got {url!r}")


def _server(url: str) -> str:
    """Return the URL without a query, and without the path of an endpoint, or `/v1`."""
    bare = urlunsplit(urlsplit(url)._replace(query="", fragment="")).rstrip("/")
    for path in sorted((d.path for d in DIALECTS.values()), key=len, reverse=True):
        bare = bare.removesuffix(path)
    return bare.removesuffix("/v1")


def _endpoint(url: str, path: str) -> str:
    """Return the URL of an endpoint; one that ends like it is taken as it is."""
    parts = urlsplit(url)
    if parts.path.endswith(path.removeprefix("/v1")):
        return url
    query = f"?{parts.query}" if parts.query else ""
    return f"{_server(url)}{path}{query}"


async def _first_model(
    session: aiohttp.ClientSession, url: str, headers: dict[str, str]
) -> str | None:
    for path, names in (("/v1/models", ("data", "id")), ("/api/tags", ("models", "name"))):
        got = await read(session, _endpoint(url, path), None, headers, timeout=_PATIENCE_FOR_LISTS)
        if got.is_refused:
            raise ConnectionFailedError(f"nothing answers at {url}: {got.failure}")
        try:
            value = msgspec.json.decode(got.body)
        except (msgspec.DecodeError, RecursionError):
            continue
        found = [name for name in _names(value, *names) if name and not _NO_CHAT.search(name)]
        if found:
            return found[0]
    return None


def _names(value: Any, field: str, name: str) -> Sequence[str]:
    rows = value.get(field) if isinstance(value, dict) else None
    rows = rows if isinstance(rows, list) else []
    return [row[name] for row in rows if isinstance(row, dict) and isinstance(row.get(name), str)]
