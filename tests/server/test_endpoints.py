"""The stream endpoints, with the messages of `rxllm.server.messages`."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest
import reactivex as rx
from aiohttp import web

from rxllm.chunks import End, Notice, Progress, Start, Token
from rxllm.errors import (
    AuthenticationError,
    ConnectionFailedError,
    ContextLengthError,
    FirstTokenTimeoutError,
    ModelLoadError,
    OverloadedError,
    RateLimitError,
    TruncatedStreamError,
)
from rxllm.models.scripted import ScriptedModel
from rxllm.server import Limits, create_app
from rxllm.server.app_keys import MODELS, READERS
from rxllm.server.messages import Complete, Generated, StreamChunk, StreamFailed
from rxllm.settings import Settings
from tests.server.serving import (
    STORY,
    Stepwise,
    all_events,
    decode,
    port_of,
    reports,
    said,
    scripted,
    serving,
    take,
    until,
)

OPENAI = b'{"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}'
STREAMING = [("GET", "/stream"), ("POST", "/stream"), ("POST", "/api/stream")]
ASKING = [*STREAMING, ("POST", "/generate")]


def asked(method: str, **fields: Any) -> dict[str, Any]:
    """Return the arguments of a request."""
    return {"params": fields} if method == "GET" else {"json": fields}


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_get_and_post_stream_send_start_tokens_progress_and_complete(method: str) -> None:
    async with (
        serving(scripted()) as client,
        client.request(method, "/stream", **asked(method, prompt="Hi")) as response,
    ):
        got = await all_events(response)
    assert response.status == 200
    assert response.content_type == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-store, no-transform"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert {event.message.id for event in got} == {response.headers["X-Stream-Id"]}
    assert [event.position for event in got] == list(range(1, len(got) + 1))
    assert [event.message.position for event in got] == [event.position for event in got]
    chunks = [each.message.chunk for each in got if isinstance(each.message, StreamChunk)]
    assert isinstance(chunks[0], Start)
    assert said(got) == STORY
    assert [each.tokens for each in chunks if isinstance(each, Progress)] == [10, 12]
    last = got[-1]
    assert last.kind == "complete"
    assert isinstance(last.message, Complete)
    assert (last.message.tokens, last.message.finish_reason) == (12, "stop")
    assert last.message.seconds >= 0
    assert last.message.text is None


async def test_each_event_has_its_position_and_timestamp() -> None:
    before = time.time()
    async with serving(scripted()) as client, client.get("/stream?prompt=Hi") as response:
        got = [each.message for each in await all_events(response)]
    sent = [each for each in got if isinstance(each, StreamChunk)]
    assert [each.position for each in sent] == list(range(1, len(sent) + 1))
    times = [each.timestamp for each in sent]
    assert times == sorted(times)
    assert before - 1 <= times[0] <= times[-1] <= time.time() + 1


async def test_the_options_reach_the_model() -> None:
    model = ScriptedModel(STORY, by="word")
    async with serving(create_app({"tiny": model})) as client:
        query = {"prompt": "Hi", "maxTokens": "2", "temperature": "0", "stop": "x", "seed": "7"}
        await (await client.get("/stream", params=query)).read()
        body = {"messages": [{"role": "user", "content": "Hi"}], "maxTokens": 3, "topP": 0.5}
        await (await client.post("/stream", json=body)).read()
    first, second = model.requests
    assert (first.max_tokens, first.temperature, first.stop, first.seed) == (2, 0.0, ("x",), 7)
    assert (second.max_tokens, second.top_p, second.messages[0].content) == (3, 0.5, "Hi")


async def test_ndjson_has_the_full_text_only_at_its_end() -> None:
    """Repeating the full text with each token would take quadratic space."""
    async with (
        serving(scripted()) as client,
        client.post("/api/stream", json={"prompt": "Hi"}) as response,
    ):
        body = await response.text()
    lines = [decode(line) for line in body.splitlines()]
    assert response.content_type == "application/x-ndjson"
    assert body.endswith("\n")
    assert all(isinstance(line, StreamChunk) for line in lines[:-1])
    last = lines[-1]
    assert isinstance(last, Complete)
    assert (last.text, last.tokens) == (STORY, 12)
    assert body.count(STORY) == 1


async def test_generate_returns_the_whole_answer() -> None:
    async with (
        serving(scripted()) as client,
        client.post("/generate", json={"prompt": "Hi", "maxTokens": 4}) as response,
    ):
        answer = msgspec.json.decode(await response.read(), type=Generated)
    assert (answer.text, answer.tokens, answer.finish_reason) == ("Once upon a time", 4, "length")


@pytest.mark.parametrize(("method", "path"), ASKING)
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "prompt"),
        ({"prompt": " "}, "prompt"),
        ({"prompt": "Hi", "temperature": "9"}, "temperature"),
        ({"prompt": "Hi", "maxTokens": "many"}, "maxTokens"),
        ({"prompt": "Hi", "maxTokens": "0"}, "maxTokens"),
        ({"prompt": "Hi", "colour": "red"}, "colour"),
    ],
)
async def test_a_request_without_a_prompt_or_with_an_invalid_field_is_400(
    method: str, path: str, fields: dict[str, str], field: str
) -> None:
    numbers = {"9": 9, "0": 0}
    if method == "POST":
        fields = {name: numbers.get(value, value) for name, value in fields.items()}  # type: ignore[misc]
    async with (
        serving(scripted()) as client,
        client.request(method, path, **asked(method, **fields)) as response,
    ):
        message = decode(await response.read())
    assert response.status == 400
    assert isinstance(message, StreamFailed)
    assert (message.code, message.field) == ("invalid_message", field)
    assert message.message


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"prompt": 1}', b'{"prompt":"a","messages":[]}', b"[" * 9999],
)
@pytest.mark.parametrize("path", ["/stream", "/api/stream", "/generate"])
async def test_an_invalid_body_is_400(path: str, body: bytes) -> None:
    async with serving(scripted()) as client:
        async with client.post(path, data=body) as response:
            assert response.status == 400
            assert isinstance(decode(await response.read()), StreamFailed)
        assert (await client.post(path, json={"prompt": "Hi"})).status == 200


@pytest.mark.parametrize(("method", "path"), ASKING)
async def test_a_model_that_is_not_listed_is_404(method: str, path: str) -> None:
    """Clients can't use every name that `rxllm.model` accepts, which may be any file."""
    async with serving(scripted()) as client:
        for name in ("llama//etc/passwd", "openai/gpt-4o", ""):
            options = asked(method, prompt="Hi", model=name)
            async with client.request(method, path, **options) as response:
                message = decode(await response.read())
            assert response.status == 404
            assert isinstance(message, StreamFailed)
            assert message.code == "model_not_found"


FAILURES = [
    (RateLimitError("slow down", retry_after=7.2), 429, "rate_limit", "8"),
    (OverloadedError("busy"), 503, "overloaded", "5"),
    (AuthenticationError("the key of the server"), 502, "authentication", None),
    (ConnectionFailedError("refused"), 502, "connection_failed", None),
    (FirstTokenTimeoutError("silent"), 504, "first_token_timeout", None),
    (ContextLengthError("too long"), 400, "context_length", None),
    (ModelLoadError("no such file"), 503, "model_load", "5"),
    (ValueError("secret"), 500, "internal", None),
]


@pytest.mark.parametrize(("method", "path"), ASKING)
@pytest.mark.parametrize(("error", "status", "code", "wait"), FAILURES)
async def test_a_failure_before_the_first_byte_is_a_status(
    method: str, path: str, error: Exception, status: int, code: str, wait: str | None
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    app = create_app({"tiny": Stepwise(error)})
    app[MODELS].find("tiny").let()  # type: ignore[attr-defined]
    async with (
        serving(app) as client,
        client.request(method, path, **asked(method, prompt="Hi")) as response,
    ):
        message = decode(await response.read())
    assert response.status == status
    assert isinstance(message, StreamFailed)
    assert message.code == code
    assert response.headers.get("Retry-After") == wait
    assert "secret" not in message.message


@pytest.mark.parametrize(("method", "path"), STREAMING)
async def test_notices_of_retries_are_not_the_first_byte(method: str, path: str) -> None:
    model = Stepwise(Notice("retry", attempt=2), RateLimitError("slow down"))
    model.let()
    async with (
        serving(create_app({"tiny": model})) as client,
        client.request(method, path, **asked(method, prompt="Hi")) as response,
    ):
        assert response.status == 429


@pytest.mark.parametrize("path", ["/generate", "/v1/chat/completions"])
async def test_a_client_that_stalls_on_its_whole_answer_is_disconnected(path: str) -> None:
    app = scripted([Token("x" * 20_000_000)], limits=Limits(reader_stall=0.1))
    body = b'{"prompt": "Hi"}' if path == "/generate" else OPENAI
    async with serving(app) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(client), limit=1024)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        assert b"Content-Length: 2000" in await reader.readuntil(b"\r\n\r\n")
        await until(lambda: app[READERS].count == 0)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(20_000_000)
        writer.close()


@pytest.mark.parametrize(("method", "path"), STREAMING)
async def test_a_failure_after_the_first_byte_is_the_last_event_and_never_a_clean_end(
    method: str, path: str
) -> None:
    model = Stepwise(Start("r", "m"), Token("Half"), RateLimitError("slow down"))
    model.let()
    async with (
        serving(create_app({"tiny": model})) as client,
        client.request(method, path, **asked(method, prompt="Hi")) as response,
    ):
        body = await response.text()
    last = [line for line in body.splitlines() if line][-1].removeprefix("data: ")
    message = decode(last)
    assert response.status == 200
    assert isinstance(message, StreamFailed)
    assert (message.code, message.partial, message.retryable) == ("rate_limit", "Half", True)
    assert "complete" not in body


async def test_a_stream_without_output_yet_gets_its_headers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rxllm.server.endpoints.first_frame.__defaults__", (0.01,))
    model = Stepwise()
    async with serving(create_app({"tiny": model})) as client:
        response = await client.get("/stream", params={"prompt": "Hi"})
        assert response.status == 200
        assert response.headers["X-Stream-Id"]
        model.let()
        assert said(await all_events(response)) == "abcdef"


@pytest.mark.parametrize("path", ["/stream", "/api/stream", "/generate", "/v1/chat/completions"])
async def test_a_client_that_leaves_before_the_first_token_stops_the_model(path: str) -> None:
    model = Stepwise()
    messages = [{"role": "user", "content": "Hi"}]
    async with serving(create_app({"tiny": model})) as client:
        asking = asyncio.ensure_future(client.post(path, json={"messages": messages}))
        await until(lambda: model.active == 1)
        asking.cancel()
        await asyncio.wait([asking])
        await until(lambda: model.active == 0)


async def test_a_client_of_ndjson_that_leaves_stops_the_model() -> None:
    """NDJSON can't be resumed, so the stream only waits a moment for another reader."""
    model = Stepwise()
    async with serving(create_app({"tiny": model})) as client:
        model.let(2)
        response = await client.post("/api/stream", json={"prompt": "Hi"})
        assert await response.content.readline()
        response.close()
        await until(lambda: model.active == 0)


async def test_too_many_streams_are_429_with_retry_after() -> None:
    model = Stepwise()
    settings = Settings(remote_streams=1, queue=0)
    async with serving(create_app({"tiny": model}, settings=settings)) as client:
        model.let(1)
        first = await client.get("/stream", params={"prompt": "Hi"})
        second = await client.get("/stream", params={"prompt": "Hi"})
        message = decode(await second.read())
        assert isinstance(message, StreamFailed)
        assert (second.status, message.code, message.retryable) == (429, "pool_full", True)
        assert second.headers["Retry-After"]
        model.let()
        assert said(await all_events(first)) == "abcdef"


@pytest.mark.parametrize(
    ("limits", "fields", "field"),
    [
        (Limits(prompt_characters=5), {"prompt": "Hello!"}, "prompt"),
        (Limits(body_bytes=1000), {"prompt": "x" * 2000}, "body"),
        (Limits(messages=1), {"messages": [{"role": "user", "content": "x"}] * 2}, "messages"),
        (Limits(), {"prompt": "Hi", "stop": ["a"] * 65}, "stop"),
        (Limits(), {"prompt": "Hi", "stop": ["a", "b" * 4000]}, "stop"),
        (
            Limits(),
            {"prompt": "Hi", "responseFormat": {"const": "x" * 65_536}},
            "responseFormat",
        ),
    ],
)
async def test_a_request_above_a_limit_is_413(
    limits: Limits, fields: dict[str, Any], field: str
) -> None:
    async with (
        serving(scripted(limits=limits)) as client,
        client.post("/stream", json=fields) as response,
    ):
        message = decode(await response.read())
    assert isinstance(message, StreamFailed)
    assert (response.status, message.code, message.field) == (413, "too_large", field)


async def test_max_tokens_above_the_limit_are_400() -> None:
    async with (
        serving(scripted(limits=Limits(max_tokens=5))) as client,
        client.post("/stream", json={"prompt": "Hi", "maxTokens": 6}) as response,
    ):
        message = decode(await response.read())
    assert isinstance(message, StreamFailed)
    assert (response.status, message.code, message.field) == (400, "invalid_message", "maxTokens")


async def test_a_stream_longer_than_the_log_of_the_server_fails() -> None:
    async with serving(scripted(limits=Limits(stream_events=5))) as client:
        got = await all_events(await client.get("/stream", params={"prompt": "Hi"}))
    assert isinstance(got[-1].message, StreamFailed)
    assert got[-1].message.code == "stream"
    assert len(got) == 6


async def test_unknown_paths_and_methods_are_error_messages() -> None:
    async with serving(scripted()) as client:
        for method, path, status in (("GET", "/nothing", 404), ("PUT", "/stream", 405)):
            async with client.request(method, path) as response:
                assert response.status == status
                assert isinstance(decode(await response.read()), StreamFailed)
        assert "POST" in response.headers["Allow"]


async def test_an_app_can_be_part_of_another() -> None:
    outer = web.Application()
    outer.add_subapp("/llm/", scripted())
    async with serving(outer) as client:
        got = await take(await client.get("/llm/stream", params={"prompt": "Hi"}), 2)
        assert got[0].kind == "chunk"


EVERY = [*ASKING, ("POST", "/v1/chat/completions")]
POSTED = [path for method, path in EVERY if method == "POST"]
CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize("fields", [{"stream": True}, {"stream": False}, {}])
@pytest.mark.parametrize("path", POSTED)
async def test_a_lone_surrogate_does_not_break_an_answer(path: str, fields: dict[str, Any]) -> None:
    model = ScriptedModel([Start("r", "m"), Token("ok "), Token("\ud83d"), End("stop")])
    body = {**CHAT, **fields} if path.startswith("/v1") else {"prompt": "Hi"}
    async with (
        serving(create_app({"tiny": model})) as client,
        client.post(path, json=body) as response,
    ):
        text = await response.text()
    assert response.status == 200
    assert "?" in text
    assert "error" not in text


async def test_the_body_limit_applies_within_another_application() -> None:
    outer = web.Application(client_max_size=1 << 26)
    outer.add_subapp("/llm/", scripted(limits=Limits(body_bytes=1000)))
    async with serving(outer) as client:
        for path in ("/llm/generate", "/llm/v1/chat/completions"):
            async with client.post(path, json={"prompt": "x" * 20_000}) as response:
                assert response.status == 413


BROKEN = [
    b'{"prompt":"x","metadata":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    b'{"prompt":"x","responseFormat":{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}}",
    b'{"prompt":"\xff\xfe"}',
    b'{"messages":[{"role":"user","content":"\xff"}]}',
]


@pytest.mark.parametrize("body", BROKEN)
@pytest.mark.parametrize("path", POSTED)
async def test_a_broken_body_is_400_and_not_reported(
    path: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    reported = reports()
    async with (
        serving(scripted()) as client,
        client.post(path, data=body) as response,
    ):
        assert response.status == 400
    assert not reported
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_not_reported() -> None:
    reported = reports()
    async with serving(scripted()) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(client))
        writer.write(b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{")
        await writer.drain()
        writer.write_eof()
        assert b" 500 " not in await reader.read()
        writer.close()
    assert not reported


async def test_a_body_that_a_middleware_has_read_is_still_available() -> None:
    @web.middleware
    async def read(request: web.Request, handler: Any) -> web.StreamResponse:
        await request.read()
        answer: web.StreamResponse = await handler(request)
        return answer

    outer = web.Application(middlewares=[read])
    outer.add_subapp("/llm/", scripted())
    async with serving(outer) as client:
        assert (await client.post("/llm/generate", json={"prompt": "Hi"})).status == 200


async def test_the_format_of_an_error_does_not_depend_on_the_prefix_of_the_application() -> None:
    outer = web.Application()
    outer.add_subapp("/api/v1/", scripted())
    async with serving(outer) as client:
        for path in ("/api/v1/stream", "/api/v1/nothing"):
            async with client.get(path) as response:
                assert isinstance(decode(await response.read()), StreamFailed)
        for path in ("/api/v1/v1/nothing", "/api/v1/v1/models/none"):
            async with client.get(path) as response:
                assert set(await response.json()) == {"error"}


@pytest.mark.parametrize("failure", [None, RateLimitError("slow down")])
@pytest.mark.parametrize("path", ["/stream", "/api/stream"])
async def test_a_stream_that_ends_at_once_is_sent_even_if_no_ended_streams_are_kept(
    path: str, failure: Exception | None
) -> None:
    class AtOnce(Stepwise):
        def stream(self, prompt: Any, **options: Any) -> Any:
            said = (Start("r", "m"), Token("a"), End("stop"))
            return rx.of(*said) if failure is None else rx.throw(failure)

    app = create_app({"tiny": AtOnce()}, limits=Limits(ended_streams=0))
    async with (
        serving(app) as client,
        client.post(path, json={"prompt": "Hi"}) as response,
    ):
        text = await response.text()
    assert response.status == (200 if failure is None else 429)
    assert ("complete" if failure is None else "rate_limit") in text


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("path", POSTED)
async def test_an_answer_that_completes_without_an_end_is_complete(
    path: str, streamed: bool
) -> None:
    """As with RxPY's `take` and `first`; OpenAI's format requires a reason, which is "stop"."""
    model = Stepwise(Start("r", "m"), Token("Half"))
    model.let()
    body = {**CHAT, "stream": streamed} if path.startswith("/v1") else {"prompt": "Hi"}
    async with (
        serving(create_app({"tiny": model})) as client,
        client.post(path, json=body) as response,
    ):
        text = await response.text()
    assert response.status == 200
    assert "event: error" not in text
    assert '"type":"error"' not in text
    assert ('"finish_reason":"stop"' in text) == path.startswith("/v1")


@pytest.mark.parametrize("path", POSTED)
async def test_a_truncated_answer_is_an_error(path: str) -> None:
    model = Stepwise(Start("r", "m"), Token("Half"), TruncatedStreamError("cut off"))
    model.let()
    body = {**CHAT, "stream": True} if path.startswith("/v1") else {"prompt": "Hi"}
    async with (
        serving(create_app({"tiny": model})) as client,
        client.post(path, json=body) as response,
    ):
        text = await response.text()
    assert "truncated_stream" in text
    assert "[DONE]" not in text
    assert '"complete"' not in text


async def test_too_many_readers_are_429() -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model}, limits=Limits(readers=2))) as client:
        model.let(1)
        query = {"prompt": "Hi", "id": "mine"}
        first = await client.get("/stream", params=query)
        second = await client.get("/stream/mine")
        for method, path in (*STREAMING, ("GET", "/stream/mine")):
            fields = {} if path == "/stream/mine" else asked(method, prompt="Hi")
            async with client.request(method, path, **fields) as third:
                assert third.status == 429
        model.let()
        assert said(await all_events(first)) == said(await all_events(second)) == "abcdef"
        assert (await client.get("/stream/mine")).status == 200


async def test_only_stop_may_be_repeated_in_a_query() -> None:
    async with serving(scripted("a b c d e f")) as client:
        query = [("prompt", "Hi"), ("stop", "x"), ("stop", "c")]
        assert said(await all_events(await client.get("/stream", params=query))) == "a b "
        async with client.get("/stream", params=[*query, ("seed", "1"), ("seed", "2")]) as response:
            message = decode(await response.read())
    assert isinstance(message, StreamFailed)
    assert (response.status, message.field) == (400, "seed")


@pytest.mark.parametrize("wait", [float("inf"), float("nan"), -1.0])
async def test_an_invalid_retry_after_is_not_sent(wait: float) -> None:
    async with (
        serving(scripted([RateLimitError("slow down", retry_after=wait)])) as client,
        client.post("/generate", json={"prompt": "Hi"}) as response,
    ):
        assert response.status == 429
        assert response.headers.get("Retry-After") in (None, "0")
