"""Proxies: which one a request takes, and what one that can't be used looks like."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import rxllm
from rxllm.errors import ConnectionFailedError
from rxllm.models.remote.connection import close_connections
from rxllm.models.remote.proxies import proxy_for
from rxllm.testing.fault_server import FaultServer, Reply

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


async def test_a_proxy_that_refuses_to_connect_is_a_failed_connection(
    listen: Callable[..., Awaitable[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FaultServer(Reply(status=403)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        heard = await listen(rxllm.model("openai/gpt", api_key="k", base_url="https://a.example"))
    assert isinstance(heard.error, ConnectionFailedError)
    assert "the proxy refused to connect to a.example: status 404" in str(heard.error)
    assert heard.error.retryable
