"""Clients that cut lines where Python does, speak HTTP/1.0, or end an event at any comment."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxllm.chunks import End, Start, Token
from rxllm.models.scripted import ScriptedModel
from rxllm.server import create_app
from rxllm.web.encoding import to_json
from tests.server.serving import Stepwise, port_of, scripted, serving

BREAKS = "a\x0bb\x0cc\x1cd\x1ee\x85f\u2028g\u2029h"


@given(st.text())
def test_json_is_one_line_for_every_client(text: str) -> None:
    data = to_json({"text": text})
    assert len(data.decode().splitlines()) == 1
    assert json.loads(data) == {"text": text}


def test_a_lone_surrogate_is_one_line_too() -> None:
    assert to_json(["\ud800\u2028"]) == b'["?\\u2028"]'


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/stream?prompt=Hi"), ("POST", "/api/stream"), ("POST", "/v1/chat/completions")],
)
async def test_no_wire_has_line_breaks_inside_of_its_lines(method: str, path: str) -> None:
    script: list[Any] = [Start("r", BREAKS), Token(BREAKS), End("stop", native_reason=BREAKS)]
    body: Any = {"prompt": "Hi"} if path == "/api/stream" else None
    if path.startswith("/v1"):
        body = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
    async with (
        serving(create_app({"tiny": ScriptedModel(script)})) as client,
        client.request(method, path, json=body) as response,
    ):
        text = await response.text()
    assert text.splitlines() == text.removesuffix("\n").split("\n")
    assert "f\\u2028g\\u2029h" in text


@pytest.mark.parametrize("path", ["/stream?prompt=Hi", "/missing", "/healthz", "/"])
@pytest.mark.parametrize("keep_alive", [False, True])
async def test_a_client_of_http_1_0_sees_the_end_at_once(path: str, keep_alive: bool) -> None:
    model = Stepwise()
    model.let()
    async with serving(create_app({"tiny": model}), keepalive_timeout=1000) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(client))
        header = "Connection: keep-alive\r\n" if keep_alive else ""
        writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n{header}\r\n".encode())
        async with asyncio.timeout(20):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            if "content-length" not in head:
                assert "transfer-encoding" not in head
                assert "connection: keep-alive" not in head
                body = await reader.read()
                assert body.endswith(b"\n\n")
        writer.close()
        await writer.wait_closed()


async def test_compression_by_a_proxy_may_not_hold_events_back() -> None:
    async with serving(scripted()) as client, client.get("/stream?prompt=Hi") as response:
        assert response.headers["Cache-Control"] == "no-store, no-transform"


async def test_a_half_surrogate_in_a_path_or_a_query_is_an_ordinary_error() -> None:
    async with serving(scripted()) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(client))
        half = "%ED%A0%80"
        for path in (f"/stream/{half}", f"/stream?prompt=Hi&model={half}", f"/v1/models/{half}"):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            assert head.split()[1] in ("400", "404")
            length = int(head.lower().partition("content-length: ")[2].split()[0])
            json.loads(await reader.readexactly(length))
        writer.close()
        await writer.wait_closed()
