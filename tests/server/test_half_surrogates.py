"""Half surrogates, which some models and clients send, in every string of a stream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rxllm.chunks import (
    Citation,
    End,
    FileOutput,
    Notice,
    ProviderState,
    Reasoning,
    Start,
    Token,
    ToolCall,
    Usage,
)
from rxllm.errors import ServerError
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import ModelInfo
from rxllm.server import create_app
from tests.server.serving import reports, serving
from tests.server.websocket_client import talking

HALF = "a\ud83d"
STATE = ProviderState(HALF, HALF, {HALF: HALF})
SCRIPT: list[Any] = [
    Start(HALF, HALF, HALF),
    Reasoning(HALF),
    Reasoning("", STATE),
    Token(HALF),
    Token("", state=STATE),
    ToolCall(HALF, HALF, HALF, 0),
    ToolCall(HALF, HALF, HALF + "b", 0, complete=True, state=STATE),
    Citation(HALF, HALF, HALF),
    FileOutput(HALF, HALF, HALF),
    Notice("degraded"),
    Usage(1, 1),
    End("stop", HALF, HALF),
]


class Named(ScriptedModel):
    @property
    def info(self) -> ModelInfo:
        return ModelInfo(HALF, HALF, description=HALF)


ENDS = {"end": SCRIPT, "error": [*SCRIPT[:6], ServerError(HALF)], "early": [ServerError(HALF)]}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/stream", {"prompt": "Hi"}),
        ("/api/stream", {"prompt": "Hi"}),
        ("/generate", {"prompt": "Hi"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "stream": True}),
    ],
)
async def test_every_response_is_valid_utf_8(path: str, body: dict[str, Any], end: str) -> None:
    model = Named(ENDS[end])
    async with serving(create_app({HALF: model})) as client:
        found = reports()
        async with client.post(path, json=body) as response:
            text = (await response.read()).decode()
        for listing in ("/models", "/v1/models", "/streams", "/metrics"):
            async with client.get(listing) as listed:
                assert listed.status == 200
                (await listed.read()).decode()
    assert response.status in (200, 502)
    for line in text.splitlines():
        line = line.removeprefix("data: ")
        if line.startswith("{"):
            json.loads(line)
    assert found == []


async def test_over_a_websocket() -> None:
    async with serving(create_app({HALF: Named(SCRIPT)})) as client, talking(client) as talk:
        await talk.send("start", id="a", prompt="Hi")
        await talk.until("complete", id="a")
        await talk.socket.send_str('{"type":"start","id":"\\ud83d","prompt":"x"}')
        assert (await talk.receive())["code"] == "invalid_message"
