"""The access log: one line for each stream, readable in a terminal, and JSON for programs."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from typing import Any

import pytest

from rxllm.chunks import Start, Token
from rxllm.errors import OverloadedError
from rxllm.models.scripted import ScriptedModel
from rxllm.server import create_app
from rxllm.server.logs import new_logger
from tests.server.serving import STORY, Stepwise, serving, take, until
from tests.server.websocket_client import talking


class Log:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append({"event": event, "level": "info", **fields})

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append({"event": event, "level": "warning", **fields})


ASKED: list[tuple[str, dict[str, Any]]] = [
    ("/stream", {"prompt": "Hi"}),
    ("/generate", {"prompt": "Hi"}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
    ("/v1/messages", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}),
]


@pytest.mark.parametrize(("path", "body"), ASKED)
async def test_a_stream_that_completes(path: str, body: dict[str, Any]) -> None:
    log = Log()
    app = create_app({"tiny": ScriptedModel(STORY, by="word")}, logger=log)
    async with (
        serving(app) as client,
        client.post(path, json=body, headers={"X-Request-ID": "r1"}) as response,
    ):
        await response.read()
        stream_id = response.headers.get("X-Stream-Id")
    (line,) = log.lines
    assert line["event"] == "stream"
    assert (line["model"], line["status"], line["left"]) == ("tiny", "completed", False)
    assert line["tokens"] == (12 if "messages" not in path else 9)
    assert line["seconds"] >= line["first_token"] >= 0
    assert (line["client"], line["path"], line["request"]) == ("127.0.0.1", path, "r1")
    assert stream_id in (None, line["id"])
    assert "prompt" not in line


async def test_the_prompt_if_asked_for() -> None:
    log = Log()
    app = create_app({"tiny": ScriptedModel(STORY)}, logger=log, log_prompts=True)
    async with (
        serving(app) as client,
        client.post("/generate", json={"prompt": "x" * 2000 + "end"}) as response,
    ):
        await response.read()
    assert log.lines[0]["prompt"] == "x" * 997 + "end"


async def test_a_stream_that_fails_is_a_warning() -> None:
    log, model = Log(), Stepwise(Start("r", "m"), Token("a"), OverloadedError("busy"))
    model.let()
    async with (
        serving(create_app({"tiny": model}, logger=log)) as client,
        client.post("/stream", json={"prompt": "Hi"}) as response,
    ):
        await response.read()
    (line,) = log.lines
    assert (line["level"], line["status"], line["left"]) == ("warning", "failed", False)
    assert line["error"] == "OverloadedError: busy"


@pytest.mark.parametrize("path", ["/generate", "/v1/chat/completions"])
async def test_a_client_that_leaves(path: str) -> None:
    log, model = Log(), Stepwise()
    app = create_app({"tiny": model}, logger=log)
    body = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
    async with serving(app) as client:
        model.let(3)
        if path == "/generate":
            task = asyncio.ensure_future(client.post(path, json={"prompt": "Hi"}))
            await until(lambda: model.said == 3)
            task.cancel()
        else:
            response = await client.post(path, json=body)
            response.close()
        await until(lambda: log.lines)
    (line,) = log.lines
    assert (line["status"], line["left"], line["tokens"]) == ("cancelled", True, 2)


async def test_a_stream_that_was_stopped_on_request() -> None:
    log, model = Log(), Stepwise()
    async with serving(create_app({"tiny": model}, logger=log)) as client:
        model.let(3)
        response = await client.post("/stream", json={"prompt": "Hi", "id": "mine"})
        await take(response, 3)
        async with client.delete("/streams/mine") as stopped:
            assert stopped.status == 200
        await until(lambda: log.lines)
        async with talking(client) as talk:
            await talk.send("start", id="a", prompt="Hi")
            await until(lambda: model.active == 1)
            await talk.send("stop", id="a")
            await talk.until("complete", id="a")
    assert [(line["status"], line["left"]) for line in log.lines] == [("cancelled", False)] * 2
    assert log.lines[0]["id"] == "mine"


@pytest.mark.parametrize(
    ("form", "terminal", "is_json"),
    [("auto", False, True), ("auto", True, False), ("text", False, False), ("json", True, True)],
)
def test_the_form_of_the_log(
    monkeypatch: pytest.MonkeyPatch, form: Any, terminal: bool, is_json: bool
) -> None:
    class Output(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    output = Output()
    monkeypatch.setattr(sys, "stderr", output)
    logger = new_logger("info", form)
    logger.info("stream", id="a\x1b[31m", tokens=3)
    logger.debug("stream", id="b")
    (line,) = output.getvalue().splitlines()
    if is_json:
        assert json.loads(line)["tokens"] == 3
        assert json.loads(line)["level"] == "info"
    else:
        assert "stream" in line
        assert "tokens" in line


def test_the_level_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(sys, "stderr", output)
    logger = new_logger("warning", "json")
    logger.info("stream")
    logger.warning("stream", status="failed")
    assert len(output.getvalue().splitlines()) == 1
