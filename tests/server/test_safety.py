"""Access control: keys, origins, hosts, CORS, and slow or broken requests."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import Any

import pytest

from rxllm.errors import BadRequestError
from rxllm.server import Limits
from rxllm.server.messages import StreamFailed
from rxllm.server.safety import HEADERS
from tests.server.serving import decode, port_of, scripted, serving

PATHS = ["/streams", "/models", "/v1/models", "/stream?prompt=Hi", "/metrics", "/openapi.json"]


def basic(key: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{key}".encode()).decode()


async def status(client: Any, method: str, path: str, **headers: str) -> int:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.request(method, path, headers=names) as response:
        await response.read()
        return int(response.status)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer s3cret"},
        {"Authorization": basic("s3cret")},
        {"X-API-Key": "s3cret"},
    ],
)
async def test_with_the_key_everything_is_accessible(path: str, headers: dict[str, str]) -> None:
    async with serving(scripted(api_key="s3cret")) as client:
        assert await status(client, "GET", path, **headers) == 200


@pytest.mark.parametrize("path", [*PATHS, "/", "/ws", "/nothing"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer s3cre"},
        {"Authorization": "Bearer"},
        {"Authorization": "s3cret"},
        {"Authorization": basic("other")},
        {"Authorization": "Basic !!!"},
        {"X-API-Key": ""},
        {"X-API-Key": "s3cr\u00e9t"},
    ],
)
async def test_without_the_key_everything_is_401(path: str, headers: dict[str, str]) -> None:
    async with (
        serving(scripted(api_key="s3cret")) as client,
        client.get(path, headers=headers) as response,
    ):
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Basic ")
        assert "s3cret" not in await response.text()


async def test_a_key_in_the_url_is_not_accepted_and_health_needs_none() -> None:
    async with serving(scripted(api_key="s3cret")) as client:
        assert await status(client, "GET", "/streams?key=s3cret") == 401
        assert await status(client, "GET", "/healthz") == 200
        assert await status(client, "GET", "/stream/healthz") == 401


@pytest.mark.parametrize("key", ["", "caf\u00e9", "a\nb"])
def test_a_key_that_no_client_could_send_is_refused(key: str) -> None:
    with pytest.raises(BadRequestError):
        scripted(api_key=key)


@pytest.mark.parametrize(
    "origin", ["example.org", "http://[", "https://example.org/", "https://a.b/path"]
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(BadRequestError):
        scripted(cors=[origin])


@pytest.mark.parametrize("option", ["cors", "hosts"])
def test_a_string_instead_of_a_list_is_refused(option: str) -> None:
    """Its characters would be taken as the entries."""
    with pytest.raises(BadRequestError, match="cors and hosts must be lists"):
        scripted(**{option: "*"})


CHANGING = [("POST", "/stream"), ("POST", "/v1/chat/completions"), ("DELETE", "/streams/x")]


@pytest.mark.parametrize(("method", "path"), CHANGING)
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "x:y["])
async def test_other_sites_can_not_change_anything(method: str, path: str, origin: str) -> None:
    async with serving(scripted()) as client:
        assert await status(client, method, path, Origin=origin) == 403


async def test_other_sites_can_not_open_a_websocket_or_start_a_stream() -> None:
    async with serving(scripted()) as client:
        upgrade = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Origin": "https://evil.example",
        }
        assert await status(client, "GET", "/ws", **upgrade) == 403
        assert await status(client, "GET", "/stream?prompt=Hi", Sec_Fetch_Site="cross-site") == 403
        assert await status(client, "GET", "/streams", Sec_Fetch_Site="same-origin") == 200


@pytest.mark.parametrize("path", ["/", "/static/app.js"])
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_other_sites_may_link_to_the_page(path: str, site: str) -> None:
    async with serving(scripted()) as client:
        for method in ("GET", "HEAD"):
            assert await status(client, method, path, Sec_Fetch_Site=site) == 200
        assert await status(client, "POST", path, Sec_Fetch_Site=site) == 403


async def test_the_page_of_the_server_may_generate() -> None:
    async with serving(scripted()) as client:
        own = str(client._base_url).rstrip("/")
        headers = {"Origin": own, "Sec-Fetch-Site": "same-origin"}
        async with client.post("/generate", json={"prompt": "Hi"}, headers=headers) as response:
            assert response.status == 200
            assert "Access-Control-Allow-Origin" not in response.headers


async def test_no_cors_by_default() -> None:
    preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    async with (
        serving(scripted()) as client,
        client.options("/stream", headers=preflight) as response,
    ):
        assert response.status == 403
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_only_listed_sites_may_read_and_change() -> None:
    app = scripted(cors=["https://a.example"], api_key="s3cret")
    asked = "authorization,content-type,x-stainless-lang"  # as OpenAI's SDK asks in a page
    preflight = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": asked,
        "Origin": "https://a.example",
    }
    async with serving(app) as client:
        async with client.options("/stream", headers=preflight) as response:
            assert response.headers["Access-Control-Allow-Headers"] == asked
            assert response.status == 204  # without the key, which browsers don't send here
            assert response.headers["Access-Control-Allow-Origin"] == "https://a.example"
            assert "POST" in response.headers["Access-Control-Allow-Methods"]
        headers = {
            "Origin": "https://a.example",
            "Sec-Fetch-Site": "cross-site",
            "X-API-Key": "s3cret",
        }
        async with client.post("/stream", json={"prompt": "Hi"}, headers=headers) as response:
            assert response.status == 200
            assert response.headers["Access-Control-Allow-Origin"] == "https://a.example"
            assert "X-Stream-Id" in response.headers["Access-Control-Expose-Headers"]
            assert "Origin" in response.headers["Vary"]
            assert "Access-Control-Allow-Credentials" not in response.headers
            await response.read()
        assert await status(client, "POST", "/stream", Origin="https://b.example") == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "", "127.0.0.1.evil.example", "[::1"]
)
async def test_a_server_on_loopback_refuses_other_host_names(host: str) -> None:
    """A site may point its own name here: the browser would treat the server as part of it."""
    async with serving(scripted()) as client:
        assert await status(client, "GET", "/streams", Host=host) == 421


@pytest.mark.parametrize("host", ["localhost:80", "127.0.0.1", "[::1]:8080", "LOCALHOST"])
async def test_loopback_has_several_names(host: str) -> None:
    async with serving(scripted()) as client:
        assert await status(client, "GET", "/streams", Host=host) == 200


async def test_more_host_names_can_be_allowed() -> None:
    async with serving(scripted(hosts=["llm.example"])) as client:
        assert await status(client, "GET", "/streams", Host="llm.example") == 200


@pytest.mark.parametrize("path", ["/stream?prompt=Hi", "/models", "/nothing", "/stream"])
async def test_every_response_has_the_security_headers(path: str) -> None:
    async with (
        serving(scripted()) as client,
        client.get(path) as response,
    ):
        assert HEADERS.items() <= dict(response.headers).items()
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


async def test_a_body_that_is_not_received_in_time_is_408() -> None:
    async def never() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    async with (
        serving(scripted(limits=Limits(body_seconds=0.05))) as client,
        client.post("/stream", data=never()) as response,
    ):
        message = decode(await response.read())
    assert isinstance(message, StreamFailed)
    assert (response.status, message.code) == (408, "request_timeout")


async def test_a_connection_without_a_complete_request_head_is_closed() -> None:
    """A slow client can't hold a connection longer than a silent one."""
    async with serving(scripted(), keepalive_timeout=0.2) as client:
        port = port_of(client)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /streams HTTP/1.1\r\nHost: localhost\r\n")
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_invalid_http_is_400() -> None:
    async with serving(scripted()) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(client))
        writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        async with asyncio.timeout(30):
            assert b" 400 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/"])
async def test_only_the_files_of_the_page_are_served(path: str) -> None:
    from yarl import URL

    async with serving(scripted()) as client:
        url = URL(str(client._base_url).rstrip("/") + path, encoded=True)
        async with client.get(url) as response:
            assert response.status in (403, 404)


@pytest.mark.parametrize("path", ["/stream?prompt=Hi", "/streams", "/v1/models"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
async def test_another_origin_of_the_same_site_is_refused(
    path: str, headers: dict[str, str]
) -> None:
    async with serving(scripted()) as client, client.get(path, headers=headers) as response:
        assert response.status == 403


@pytest.mark.parametrize("host", ["example.org:8080", "https://example.org", "a/b", "", "[::1]"])
def test_a_host_that_can_never_match_is_refused(host: str) -> None:
    with pytest.raises(BadRequestError):
        scripted(hosts=[host])


@pytest.mark.parametrize(
    ("host", "sent"),
    [
        ("Example.org", "example.ORG:8080"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "[2001:db8::1]:8080"),
    ],
)
async def test_a_host_is_a_name_or_an_address(host: str, sent: str) -> None:
    async with serving(scripted(hosts=[host])) as client:
        assert await status(client, "GET", "/streams", Host=sent) == 200
        assert await status(client, "GET", "/streams", Host="evil.example") == 421


async def test_a_file_name_that_is_too_long_is_404() -> None:
    async with serving(scripted()) as client:
        assert await status(client, "GET", "/static/" + "a" * 5000) == 404


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"readers": 0}, "readers must be an integer above 0, got 0"),
        ({"readers": 1.5}, "readers must be an integer above 0, got 1.5"),
        ({"reader_stall": float("inf")}, "reader_stall must be a number above 0, got inf"),
        ({"grace": -1}, "grace must be a number, 0 or more, got -1"),
        ({"ended_streams": True}, "ended_streams must be an integer, 0 or more, got True"),
    ],
)
def test_a_limit_out_of_range_is_refused(limit: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Limits(**limit)


def test_streams_need_not_be_kept_after_their_end() -> None:
    assert Limits(grace=0, ended_streams=0).grace == 0
