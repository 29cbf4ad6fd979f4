"""A remote model: its key, address and connections, cancellation and demand."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import socket
import ssl
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import rxllm
from rxllm import StreamScheduler, Valve
from rxllm.chunks import Chunk, End, Token
from rxllm.errors import (
    AuthenticationError,
    BadRequestError,
    CertificateError,
    ConnectionFailedError,
    ConnectTimeoutError,
    MalformedStreamError,
    ProviderError,
)
from rxllm.models.remote import connection
from rxllm.testing import no_leaks
from rxllm.testing.fault_server import CUT, FOREVER, RESET, FaultServer, Reply, Step
from rxllm.testing.provider_streams import openai_event, openai_events

Listen = Callable[..., Awaitable[Any]]
ModelOn = Callable[..., rxllm.Model]
SECRET = "sk-very-secret-key"


def delta(text: str) -> bytes:
    return openai_event(choices=[{"index": 0, "delta": {"content": text}}])


def acquired() -> int:
    """Return the number of connections in use in this event loop."""
    sessions = connection._pools[asyncio.get_running_loop()].sessions
    connectors: list[Any] = [session.connector for session in sessions.values()]
    return sum(len(connector._acquired) for connector in connectors)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class TestKeysAndAddresses:
    @pytest.mark.parametrize(
        ("name", "variable"),
        [
            ("openai/gpt", "OPENAI_API_KEY"),
            ("anthropic/claude", "ANTHROPIC_API_KEY"),
            ("openrouter/vendor/gpt", "OPENROUTER_API_KEY"),
            ("groq/llama", "GROQ_API_KEY"),
        ],
    )
    async def test_a_missing_key_is_reported_before_any_connection(
        self, listen: Listen, name: str, variable: str
    ) -> None:
        async with FaultServer(Reply()) as server:
            heard = await listen(rxllm.model(name, base_url=server.url))
            assert isinstance(heard.error, AuthenticationError)
            assert variable in str(heard.error)
            assert not server.requests

    @pytest.mark.parametrize("provider", ["openai", "groq", "openai_compatible"])
    async def test_key_and_address_come_from_the_environment(
        self, listen: Listen, monkeypatch: pytest.MonkeyPatch, provider: str
    ) -> None:
        async with FaultServer(Reply(openai_events("a"))) as server:
            monkeypatch.setenv(f"{provider.upper()}_BASE_URL", f"{server.url}/v1/")
            model = rxllm.model(f"{provider}/any")
            monkeypatch.setenv(f"{provider.upper()}_API_KEY", " k1\n")
            assert (await listen(model)).text == "a"
            (request,) = server.requests
        assert request.path == "/v1/chat/completions"
        assert request.headers["authorization"] == "Bearer k1"

    async def test_a_compatible_server_needs_no_key(self, listen: Listen) -> None:
        async with FaultServer(Reply(openai_events("a"))) as server:
            model = rxllm.model("openai_compatible/any", base_url=server.url)
            assert (await listen(model)).text == "a"
        assert "authorization" not in server.requests[0].headers

    async def test_headers_are_added(self, listen: Listen, model_on: ModelOn) -> None:
        async with FaultServer(Reply(openai_events("a"))) as server:
            await listen(model_on(server, headers={"X-Title": "rxllm"}))
        assert server.requests[0].headers["x-title"] == "rxllm"

    @pytest.mark.parametrize(
        ("name", "options", "reason"),
        [
            ("openai", {}, "name is missing"),
            ("openai/", {}, "name is missing"),
            ("openai/gpt", {"colour": "red"}, "colour"),
            ("openai/gpt", {"api_key": 3}, "api_key"),
            ("openai/gpt", {"connect_timeout": 0}, "connect_timeout must be above 0"),
            ("openai/gpt", {"base_url": "ftp://host"}, "base_url must be like"),
            ("openai/gpt", {"base_url": "host"}, "base_url must be like"),
            ("openai/gpt", {"base_url": "http://[::1/v1"}, "base_url must be like"),
            ("openai/gpt", {"base_url": "http://host:99999/v1"}, "base_url must be like"),
            ("openai/gpt", {"base_url": "http://u:p@host/v1"}, "base_url must be like"),
            ("openai/gpt", {"base_url": "http://host/v1?version=1"}, "base_url must be like"),
            ("openai_compatible/any", {}, "OPENAI_COMPATIBLE_BASE_URL"),
        ],
    )
    def test_invalid_arguments_are_rejected_at_the_call(
        self, name: str, options: dict[str, Any], reason: str
    ) -> None:
        with pytest.raises(BadRequestError, match=reason):
            rxllm.model(name, **options)

    async def test_unsupported_options_are_an_error_of_the_stream(
        self, listen: Listen, model_on: ModelOn
    ) -> None:
        async with FaultServer(Reply()) as server:
            heard = await listen(model_on(server), top_k=3)
        assert isinstance(heard.error, BadRequestError)
        assert not server.requests

    async def test_so_are_options_that_can_not_be_encoded_as_json(
        self, listen: Listen, model_on: ModelOn
    ) -> None:
        async with FaultServer(Reply()) as server:
            for extra in ({"x": object()}, {"x": "\ud83e"}):
                heard = await listen(model_on(server), extra=extra)
                assert isinstance(heard.error, BadRequestError)
                assert heard.error.__cause__ is not None

    async def test_the_key_never_appears_in_errors_reprs_or_logs(
        self, listen: Listen, model_on: ModelOn, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        echo = b'{"error": {"message": "the key ' + SECRET.encode() + b' is wrong"}}'
        in_stream = b'data: {"error": "the key ' + SECRET.encode() + b' is wrong"}\n\n'
        replies = [
            Reply([echo], status=401),
            Reply([in_stream]),
            Reply(before=[RESET]),
            Reply([b"data: x"]).cut(3),
        ]
        async with FaultServer(*replies) as server:
            model = model_on(server)
            shown = [repr(model), repr(vars(model)), str(model.info)]
            for _ in replies:
                error = (await listen(model)).error
                shown += [*traceback.format_exception(error), repr(error), repr(vars(error))]
                shown += [repr(error.__cause__), repr(error.__context__)]
        assert SECRET not in "".join(shown) + caplog.text
        assert "the key [key] is wrong" in "".join(shown)

    async def test_nor_do_the_users_own_headers(self, listen: Listen, model_on: ModelOn) -> None:
        echo = b'{"error": {"message": "x-token: ' + SECRET.encode() + b'"}}'
        async with FaultServer(Reply([echo], status=401)) as server:
            error = (await listen(model_on(server, headers={"X-Token": SECRET}))).error
        assert SECRET not in str(error) + repr(vars(error))

    @pytest.mark.parametrize("options", [{"api_key": "two\nlines"}, {"headers": {"a b": "c"}}])
    async def test_an_invalid_header_value_is_a_bad_request(
        self, options: dict[str, Any], listen: Listen, model_on: ModelOn
    ) -> None:
        async with FaultServer(Reply()) as server:
            error = (await listen(model_on(server, **options))).error
        assert isinstance(error, BadRequestError)
        assert "two" not in str(error)

    async def test_a_proxy_that_can_not_be_reached_is_an_error_without_its_password(
        self, listen: Listen, model_on: ModelOn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", f"u:{SECRET}@127.0.0.1:1")
        monkeypatch.setenv("no_proxy", "")
        async with FaultServer(Reply()) as server:
            error = (await listen(model_on(server))).error
        assert isinstance(error, ConnectionFailedError)
        assert SECRET not in "".join(traceback.format_exception(error))

    async def test_an_invalid_http_response_is_an_error_without_the_key(
        self, listen: Listen, model_on: ModelOn
    ) -> None:
        async def answer_as_ssh(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer_as_ssh, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            model = rxllm.model("openai/gpt", api_key=SECRET, base_url=f"http://127.0.0.1:{port}")
            error = (await listen(model)).error
        assert isinstance(error, MalformedStreamError)
        assert SECRET not in repr(error.__cause__) + repr(error.__context__)


class TestConnecting:
    async def test_nothing_is_sent_before_the_subscription(self, model_on: ModelOn) -> None:
        async with FaultServer(Reply()) as server:
            model_on(server).stream("Hi")
            await turns(10)
            assert not server.requests

    async def test_a_refused_connection(self, listen: Listen) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound but not listening
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            heard = await listen(rxllm.model("openai/gpt", api_key="k", base_url=url))
        assert isinstance(heard.error, ConnectionFailedError)
        assert heard.error.retryable
        assert isinstance(heard.error.__cause__, OSError)

    async def test_a_host_without_an_address(
        self, listen: Listen, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def unknown(*_: Any, **__: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
        model = rxllm.model("openai/gpt", api_key="k", base_url="http://nowhere.invalid/v1")
        error = (await listen(model)).error
        assert isinstance(error, ConnectionFailedError)
        assert "nowhere.invalid" in str(error)
        assert isinstance(error.__cause__, aiohttp.ClientConnectorDNSError)

    async def test_a_connection_that_takes_too_long(
        self, listen: Listen, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def silent(*_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", silent)
        options: dict[str, Any] = {"api_key": "k", "base_url": "http://host.invalid"}
        error = (await listen(rxllm.model("openai/gpt", connect_timeout=0.01, **options))).error
        assert isinstance(error, ConnectTimeoutError)
        assert not error.retryable
        assert rxllm.classify_error(error) == "fallback"

    async def test_a_server_without_tls(self, listen: Listen) -> None:
        async with FaultServer(Reply()) as server:
            url = server.url.replace("http", "https")
            heard = await listen(rxllm.model("openai/gpt", api_key="k", base_url=url))
        assert isinstance(heard.error, ConnectionFailedError)
        assert isinstance(heard.error.__cause__, aiohttp.ClientSSLError)

    async def test_an_untrusted_certificate(self, listen: Listen) -> None:
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own.load_cert_chain(Path(__file__).with_name("untrusted.pem"))
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)  # the server's side of the refusal
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=own) as server:
            url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            error = (await listen(rxllm.model("openai/gpt", api_key="k", base_url=url))).error
        assert isinstance(error, CertificateError)
        assert isinstance(error.__cause__, aiohttp.ClientConnectorCertificateError)
        assert not error.retryable
        assert url.removeprefix("https://") in str(error)

    async def test_redirects_are_not_followed(self, listen: Listen, model_on: ModelOn) -> None:
        async with FaultServer(Reply(status=302, headers={"Location": "http://other"})) as server:
            heard = await listen(model_on(server))
        assert isinstance(heard.error, ProviderError)
        assert heard.error.status == 302

    async def test_the_proxy_of_the_environment_is_used(
        self, listen: Listen, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("NO_PROXY")
        async with FaultServer(Reply(openai_events("a"))) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            model = rxllm.model("openai/gpt", api_key="k", base_url="http://host.invalid/v1")
            assert (await listen(model)).text == "a"
            assert proxy.requests[0].headers["host"] == "host.invalid"
            monkeypatch.setenv("NO_PROXY", "host.invalid")
            assert isinstance((await listen(model)).error, ConnectionFailedError)

    async def test_the_environment_is_read_once_per_loop(
        self, listen: Listen, model_on: ModelOn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with FaultServer(Reply(openai_events("a"))) as server:
            await listen(model_on(server))
            monkeypatch.setattr(connection, "getproxies", pytest.fail)
            assert (await listen(model_on(server, "groq"))).text == "a"

    async def test_consecutive_streams_share_a_connection(
        self, listen: Listen, model_on: ModelOn
    ) -> None:
        async with FaultServer(Reply(openai_events("a"))) as server:
            for _ in range(5):
                await listen(model_on(server))
        assert len({request.connection for request in server.requests}) == 1

    async def test_a_connection_whose_body_does_not_end_is_closed(
        self, listen: Listen, model_on: ModelOn
    ) -> None:
        gate = asyncio.Event()
        async with FaultServer(Reply([*openai_events("a"), gate])) as server:
            heard = await listen(model_on(server))
            assert heard.chunks[-1] == End("stop")
            await server.until(lambda server: server.abandoned == 1)

    async def test_connections_can_be_closed_before_the_loop_without_leaks(
        self, listen: Listen, model_on: ModelOn
    ) -> None:
        async with no_leaks(), FaultServer(Reply(openai_events("a"))) as server:
            await connection.close_connections()
            for _ in range(2):
                assert (await listen(model_on(server))).text == "a"
                await connection.close_connections()
            assert len({request.connection for request in server.requests}) == 2

    def test_sessions_are_closed_with_the_loop(self, listen: Listen, model_on: ModelOn) -> None:
        async def main() -> list[aiohttp.ClientSession]:
            async with FaultServer(Reply(openai_events("a"))) as server:
                await listen(model_on(server))
                await listen(model_on(server, "groq"))
            sessions = connection._pools[asyncio.get_running_loop()].sessions
            return list(sessions.values())

        with asyncio.Runner() as runner:
            sessions = runner.run(main())
            assert len(sessions) == 2
            assert not any(session.closed for session in sessions)
            loop = runner.get_loop()
        assert all(session.closed for session in sessions)
        assert loop not in connection._pools


class Subscriber:
    """Subscribes with a valve and records the stream."""

    def __init__(self, model: rxllm.Model, on_chunk: Callable[[Chunk], object] | None = None):
        self.valve = Valve()
        self.scheduler = StreamScheduler(asyncio.get_running_loop(), self.valve)
        self.chunks: list[Chunk] = []
        self.errors: list[Exception] = []
        self.changed = asyncio.Event()
        self.on_chunk = on_chunk
        self.subscription = model.stream("Hi").subscribe(
            self.on_next, self.errors.append, self.changed.set, scheduler=self.scheduler
        )

    def on_next(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self.changed.set()
        if self.on_chunk is not None:
            self.on_chunk(chunk)

    async def wait_for_change(self) -> None:
        """Wait for the next chunk or the end."""
        self.changed.clear()
        await self.changed.wait()


class TestCancellation:
    async def test_disposal_before_the_response_closes_the_connection_at_once(
        self, listen: Listen, model_on: ModelOn
    ) -> None:
        gate = asyncio.Event()
        async with FaultServer(Reply(openai_events("a"), before=[gate])) as server:
            subscriber = Subscriber(model_on(server))
            await server.until(lambda server: len(server.requests) == 1)
            assert acquired() == 1
            subscriber.subscription.dispose()
            await turns(1)
            assert acquired() == 0
            await server.until(lambda server: server.abandoned == 1)
            await subscriber.scheduler.settle()
        assert (subscriber.chunks, subscriber.errors) == ([], [])

    async def test_disposal_between_two_tokens_does_too(self, model_on: ModelOn) -> None:
        gate = asyncio.Event()
        async with FaultServer(Reply([delta("a"), gate])) as server:
            subscriber = Subscriber(model_on(server))
            while Token("a") not in subscriber.chunks:
                await subscriber.wait_for_change()
            subscriber.subscription.dispose()
            await turns(1)
            assert acquired() == 0
            await server.until(lambda server: server.abandoned == 1)
        assert subscriber.errors == []

    async def test_so_does_disposal_in_on_next(self, model_on: ModelOn) -> None:
        def leave(chunk: Chunk) -> None:
            if chunk == Token("a"):
                subscriber.subscription.dispose()

        gate = asyncio.Event()
        async with FaultServer(Reply([delta("a") + delta("b"), gate])) as server:
            subscriber = Subscriber(model_on(server), leave)
            await server.until(lambda server: server.abandoned == 1)
            await subscriber.scheduler.settle()
            assert acquired() == 0
        assert [each for each in subscriber.chunks if isinstance(each, Token)] == [Token("a")]


class TestDemand:
    async def test_a_closed_valve_stops_the_server(self, model_on: ModelOn) -> None:
        async with FaultServer(Reply([delta("a" * 1000), FOREVER])) as server:
            subscriber = Subscriber(model_on(server), lambda _: subscriber.valve.close())
            await self.stopped(server)
            assert len(subscriber.chunks) == 1
            sent = server.sent
            subscriber.on_chunk = None
            subscriber.valve.open()
            await server.until(lambda server: server.sent > sent)
            subscriber.subscription.dispose()
            await subscriber.scheduler.settle()

    async def test_a_closed_valve_stops_reading_comments_too(self, model_on: ModelOn) -> None:
        async with FaultServer(Reply([b": still here\n\n" * 1000, FOREVER])) as server:
            subscriber = Subscriber(model_on(server))
            await server.until(lambda server: server.sent > 1_000_000)
            subscriber.valve.close()
            await self.stopped(server)
            assert subscriber.chunks == []
            subscriber.subscription.dispose()
            await subscriber.scheduler.settle()

    async def stopped(self, server: FaultServer) -> None:
        """Wait until the server can't send any more."""
        sent, still = server.sent, 0
        while still < 200:
            await asyncio.sleep(0)
            sent, still = (sent, still + 1) if server.sent == sent > 0 else (server.sent, 0)
        assert sent < 64_000_000

    async def test_a_paused_reader_gets_everything_sent_before_a_lost_connection(
        self, model_on: ModelOn
    ) -> None:
        gate = asyncio.Event()
        body: list[Step] = [delta("a"), gate, *openai_events("b", "c")]
        async with FaultServer(Reply(body).cut(10_000, CUT)) as server:
            subscriber = Subscriber(model_on(server))
            while Token("a") not in subscriber.chunks:
                await subscriber.wait_for_change()
            subscriber.valve.close()
            gate.set()
            await server.until(lambda server: server.active == 0)
            await turns(20)
            assert Token("b") not in subscriber.chunks
            subscriber.valve.open()
            while subscriber.chunks[-1] != End("stop"):
                await subscriber.wait_for_change()
            await subscriber.scheduler.settle()
        assert subscriber.errors == []


async def test_a_request_is_part_of_the_running_trace(listen: Listen, model_on: ModelOn) -> None:
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider().get_tracer("test")
    async with FaultServer(Reply(openai_events("a"))) as server:
        with tracer.start_as_current_span("request") as span:
            await listen(model_on(server))
        await listen(model_on(server))
        await listen(model_on(server, headers={"traceparent": "mine"}))
    sent = [request.headers.get("traceparent", "") for request in server.requests]
    trace_id = f"{span.get_span_context().trace_id:032x}"
    assert sent[0].startswith(f"00-{trace_id}-")
    assert sent[1:] == ["", "mine"]


async def test_headers_may_be_longer_than_8_kib(listen: Listen, model_on: ModelOn) -> None:
    headers = {"x-policy": "a" * 20_000}
    async with FaultServer(Reply(openai_events("a"), headers=headers)) as server:
        assert (await listen(model_on(server))).text == "a"


async def test_context_variables_reach_the_callbacks_of_a_stream(model_on: ModelOn) -> None:
    request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id")
    seen: list[str] = []

    async def ask(server: FaultServer, number: str) -> None:
        request_id.set(number)
        await rxllm.sinks.callbacks(
            model_on(server).stream("Hi"), on_token=lambda _: seen.append(request_id.get())
        )

    async with FaultServer(Reply(openai_events("a"))) as server:
        await asyncio.gather(ask(server, "1"), ask(server, "2"))
        tiny: Any = rxllm.model("tiny")
        request_id.set("3")
        await rxllm.sinks.callbacks(
            tiny.stream("Hi", max_tokens=2), on_token=lambda _: seen.append(request_id.get())
        )
    assert sorted(seen) == ["1", "2", "3", "3"]
