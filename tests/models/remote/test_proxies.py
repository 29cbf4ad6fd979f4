"""Proxies: which one a request takes, and what one that can't be used looks like."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import rxllm
from rxllm.errors import ConnectionFailedError, ProviderError
from rxllm.models.remote.connection import close_connections
from rxllm.models.remote.proxies import proxy_for
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.provider_streams import openai_events

PROXY = "http://proxy:3128"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("url", "proxies", "proxy"),
    [
        ("https://a.example/v1", {}, None),
        ("https://a.example/v1", {"https": PROXY}, PROXY),
        ("https://a.example/v1", {"http": PROXY}, None),
        ("https://a.example/v1", {"all": PROXY}, PROXY),
        ("https://a.example/v1", {"all": "http://other", "https": PROXY}, PROXY),
        ("https://a.example/v1", {"https": "127.0.0.1:9"}, "http://127.0.0.1:9"),
        ("https://a.example/v1", {"https": "me:pw@localhost:9"}, "http://me:pw@localhost:9"),
        ("https://a.example/v1", {"all": "proxy"}, "http://proxy"),
        ("http://[::1]:8000/v1", {"http": PROXY, "no": "::1"}, None),
        ("http://[::1]:8000/v1", {"http": PROXY, "no": "localhost, [::1]"}, None),
        ("http://[fd00::7]/v1", {"http": PROXY, "no": "fd00::/8"}, None),
        ("http://[fe80::7]/v1", {"http": PROXY, "no": "fd00::/8"}, PROXY),
        ("http://10.1.2.3/v1", {"http": PROXY, "no": "10.0.0.0/8"}, None),
        ("http://11.1.2.3/v1", {"http": PROXY, "no": "10.0.0.0/8,nonsense/x"}, PROXY),
    ],
)
def test_which_proxy_a_request_takes(url: str, proxies: dict[str, str], proxy: str | None) -> None:
    assert proxy_for(url, proxies) == proxy


@pytest.mark.parametrize("no_proxy", ["a.example", ".example", "*", "b.example, a.example:443"])
def test_names_in_no_proxy(monkeypatch: pytest.MonkeyPatch, no_proxy: str) -> None:
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_for("https://a.example:443/v1", {"https": PROXY}) is None


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4"])
async def test_a_socks_proxy_is_a_clear_error(
    listen: Callable[..., Awaitable[Any]], monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    await close_connections()
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:9")
    heard = await listen(rxllm.model("openai/gpt", api_key="k", base_url="https://a.example"))
    assert isinstance(heard.error, ConnectionFailedError)
    assert "a SOCKS proxy" in str(heard.error)
    assert "HTTPS_PROXY" in str(heard.error)


@pytest.mark.parametrize(
    "proxy",
    ["http://", "http://{}h:99999", "http://{}h:0", "ftp://{}h", "http://{}[::1", "http://{}a b",
     "{}", "://{}h", "{}h:x"],
)  # fmt: skip
async def test_an_invalid_proxy_is_a_failed_connection(
    listen: Callable[..., Awaitable[Any]], monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy.format("me:secret@"))
    heard = await listen(rxllm.model("openai/gpt", api_key="k", base_url="https://a.example"))
    assert isinstance(heard.error, ConnectionFailedError)
    assert "the proxy for a.example has an invalid URL: set HTTPS_PROXY" in str(heard.error)
    assert "secret" not in shown(heard.error)


async def test_a_proxy_needs_no_scheme(
    listen: Callable[..., Awaitable[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FaultServer(Reply(openai_events("Hi"))) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removeprefix("http://"))
        heard = await listen(rxllm.model("openai/gpt", api_key="k", base_url="http://a.example"))
    assert (heard.text, heard.error) == ("Hi", None)
    assert proxy.requests[0].headers["host"] == "a.example"


def shown(error: BaseException) -> str:
    """Everything that a log may show of an error."""
    causes = [repr(error.__cause__), repr(error.__context__)]
    return "".join([*traceback.format_exception(error), *causes])


class Proxy:
    """Sends the same bytes to every client, and closes the connection."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._answer)
        await writer.drain()
        writer.close()


LOGIN = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("scheme", "answer", "words"),
    [
        ("https", b"SSH-2.0-x\r\n\r\n", "the proxy {} sent an invalid HTTP response: Bad status"),
        ("https", LOGIN, "the proxy {} for a.example requires a login"),
        ("http", LOGIN, "the proxy {} for a.example requires a login"),
        ("https", b"HTTP/1.1 200 OK\r\n\r\n",
         "a.example can't be reached through the proxy {}: the connection was closed"),
        ("https", b"", "the connection to a.example through the proxy {} was lost"),
    ],
)  # fmt: skip
async def test_a_proxy_that_fails_is_named(
    listen: Callable[..., Awaitable[Any]],
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    answer: bytes,
    words: str,
) -> None:
    async with Proxy(answer) as address:
        monkeypatch.setenv("ALL_PROXY", f"http://me:secret@{address}")
        url = f"{scheme}://a.example"
        heard = await listen(rxllm.model("openai/gpt", api_key="k", base_url=url))
    assert isinstance(heard.error, ConnectionFailedError)
    assert str(heard.error).startswith(words.format(address))
    assert "secret" not in shown(heard.error)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("localhost:9", "the proxy localhost:9 can't be reached: "),
        ("[::1]:9", "the proxy [::1]:9 can't be reached: "),
        ("nowhere.invalid:9", "no address found for the proxy nowhere.invalid:9"),
    ],
)
async def test_a_proxy_that_can_not_be_reached_is_named(
    listen: Callable[..., Awaitable[Any]],
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    proxy: str,
    words: str,
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"me:secret@{proxy}")
    heard = await listen(rxllm.model("openai/gpt", api_key="k", base_url=f"{scheme}://a.example"))
    assert isinstance(heard.error, ConnectionFailedError)
    assert str(heard.error).startswith(words)
    assert "secret" not in shown(heard.error)


async def test_a_407_of_the_provider_itself_stays_its_error(
    listen: Callable[..., Awaitable[Any]],
) -> None:
    async with FaultServer(Reply(status=407)) as server:
        heard = await listen(rxllm.model("openai/gpt", api_key="k", base_url=server.url))
    assert type(heard.error) is ProviderError


async def test_a_proxy_that_refuses_to_connect_is_a_failed_connection(
    listen: Callable[..., Awaitable[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FaultServer(Reply(status=403)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        heard = await listen(rxllm.model("openai/gpt", api_key="k", base_url="https://a.example"))
    assert isinstance(heard.error, ConnectionFailedError)
    words = "refused to connect to a.example: status 404"
    assert str(heard.error) == f"the proxy {proxy.url.removeprefix('http://')} {words}"
    assert heard.error.retryable
