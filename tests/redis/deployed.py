"""The files of `examples/deploy`, run as they are but for their ports and paths."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import redis
from aiohttp import web

from rxllm.chunks import Notice
from rxllm.testing.provider_streams import openai_event
from tests.redis.server import PROGRAM as REDIS
from tests.redis.server import free_port
from tests.server.nginx import PROGRAM as NGINX
from tests.server.serving import Event, Message, events, said

__all__ = ["FILES", "Deployment", "Program", "Reader", "SlowProvider", "command", "replaced"]

FILES = Path(__file__).parents[2] / "examples" / "deploy"
SECONDS = 30.0
PATIENT = ["--setting", "between_tokens=60"]  # for a machine on which everything is slow
HOST = "llm.example.org"
ENVIRONMENT = {"RXLLM_APP_KEY": "app-key", "RXLLM_OPERATIONS_KEY": "operations-key"}


@asynccontextmanager
async def within_limit(what: str) -> AsyncIterator[None]:
    """Fail clearly if the block takes longer than `SECONDS`."""
    try:
        async with asyncio.timeout(SECONDS):
            yield
    except TimeoutError:
        raise AssertionError(f"{what}: not within {SECONDS:g} s") from None


def replaced(name: str, replacements: dict[str, str]) -> str:
    """Return the text of a file with other ports and paths, each of which it must have."""
    text = (FILES / name).read_text()
    for old, new in replacements.items():
        assert old in text, f"{name} doesn't have {old!r}"
        text = text.replace(old, new)
    return text


def command(name: str) -> list[str]:
    """Return the last `ExecStart` of a unit."""
    text = (FILES / name).read_text().replace("\\\n", "")
    return shlex.split(re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE)[-1])


class Program:
    """A process, whose standard error goes to a file."""

    def __init__(self, name: str, folder: Path, arguments: Sequence[str]) -> None:
        self.name = name
        self.errors = folder / f"{name}.log"
        self._arguments = arguments
        self.process: asyncio.subprocess.Process

    async def start(self, says: str | None = None) -> None:
        """Start it, and return once it says so."""
        with self.errors.open("ab") as errors:
            self.process = await asyncio.create_subprocess_exec(
                *self._arguments,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
            )
        if says is not None:
            await self.wait_for(says)

    async def wait_for(self, says: str) -> None:
        """Return once it has said this."""
        assert self.process.stdout is not None
        async with within_limit(f"{self.name} says {says!r}"):
            heard = ""
            while says not in (line := (await self.process.stdout.readline()).decode()):
                assert line, f"{self.name} has ended: {heard}{self.errors.read_text()[-2000:]}"
                heard += line

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end, and return its exit code."""
        async with within_limit(f"{self.name} ends"):
            return await self.process.wait()

    async def close(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self.process.returncode is None:
            self.send(number)
        async with within_limit(f"{self.name} ends"):
            await self.process.communicate()  # closes the pipe, too


class Reader:
    """Reads the events of a response as they come.

    Attributes:
        events: those that have come.
        is_cut: whether the connection was cut off.
    """

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        assert response.status == 200, response
        self.events: list[Event] = []
        self.is_cut = False
        self._has_come = asyncio.Event()
        self._task = asyncio.create_task(self._read(response))

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        try:
            async for event in events(response):
                self.events.append(event)
                self._has_come.set()
        except aiohttp.ClientPayloadError:
            self.is_cut = True
        finally:
            response.close()

    @property
    def has_restarted(self) -> bool:
        """Whether a restart has taken back what was said before."""
        return any(_is_restart(event) for event in self.events)

    @property
    def text(self) -> str:
        """What was said, without what a restart has taken back."""
        texts = [""]
        for event in self.events:
            if _is_restart(event):
                texts = []
            texts.append(said([event]))
        return "".join(texts)

    async def has(self, words: int) -> None:
        """Return once so many words have come."""
        async with within_limit(f"{words} words; there are {self.text!r}"):
            while len(self.text.split()) < words:
                self._has_come.clear()
                await self._has_come.wait()

    async def end(self) -> Message | None:
        """Wait for the end, and return the last message; `None` if the connection was cut off."""
        async with within_limit(f"the end after {self.text!r}"):
            await self._task
        return None if self.is_cut else self.events[-1].message


def _is_restart(event: Event) -> bool:
    chunk = getattr(event.message, "chunk", None)
    return isinstance(chunk, Notice) and chunk.kind == "restart"


class SlowProvider:
    """A vLLM that says `text` word by word, as far as the test permits, and continues answers.

    Attributes:
        text: the answer to everything.
        begun: the answers that it was asked to continue, `""` for a new one.
    """

    text = " ".join(f"word{number}" for number in range(1, 21))

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.port = 0
        self._permitted: Counter[str] = Counter()
        self._changed = asyncio.Condition()

    async def let(self, prompt: str, count: int = 1000) -> None:
        """Permit so many words of each answer to a prompt."""
        async with self._changed:
            self._permitted[prompt] = count
            self._changed.notify_all()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        messages = (await request.json())["messages"]
        prompt, last = messages[0]["content"], messages[-1]
        begun = last["content"] if last["role"] == "assistant" else ""
        assert self.text.startswith(begun)
        self.begun.append(begun)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        words = re.findall(r"\s*\S+", self.text[len(begun) :])
        for number, word in enumerate(words, len(begun.split())):
            async with self._changed:
                while self._permitted[prompt] <= number:
                    await self._changed.wait()
            await response.write(self._event({"content": word}))
        await response.write(self._event({}, "stop") + b"data: [DONE]\n\n")
        return response

    @staticmethod
    def _event(delta: dict[str, str], reason: str | None = None) -> bytes:
        return openai_event(choices=[{"index": 0, "delta": delta, "finish_reason": reason}])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.port = runner.addresses[0][1]
            yield
        finally:
            await runner.cleanup()


class Deployment:
    """Redis, three servers, and nginx unless the servers share a port.

    Attributes:
        servers: the servers.
        client: a client of the balancer, or of the shared port, with the key of `app`.
        provider: answers for the model `large`.
    """

    def __init__(
        self, folder: Path, *, shares_port: bool = False, changes: dict[str, str] | None = None
    ) -> None:
        for program, name in ((REDIS, "redis-server"), (NGINX, "nginx")):
            if program is None:
                pytest.skip(f"there is no {name}: apt-get install {name}")
        self.folder = folder
        self.provider = SlowProvider()
        self.client: aiohttp.ClientSession
        self.redis: redis.Redis
        self.servers: dict[int, Program] = {}
        self._shares_port = shares_port
        self._changes = changes or {}
        self._redis_port, self.port = free_port(), free_port()
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Deployment:
        async with AsyncExitStack() as exits:
            await exits.enter_async_context(self.provider.running())
            await self._start_redis(exits)
            await self._start_servers(exits)
            if not self._shares_port:
                await self._start_nginx(exits)
            self.client = await exits.enter_async_context(self._new_client(self.port))
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    def direct(self, port: int) -> aiohttp.ClientSession:
        """Return a client of one server."""
        return self._new_client(port)

    def _new_client(self, port: int) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            f"http://127.0.0.1:{port}",
            headers={"Host": HOST, "Authorization": f"Bearer {ENVIRONMENT['RXLLM_APP_KEY']}"},
            connector=aiohttp.TCPConnector(force_close=True),  # as many clients would connect
        )

    async def _start(self, exits: AsyncExitStack, program: Program, says: str | None) -> Program:
        await program.start()
        exits.push_async_callback(program.close)
        if says is not None:
            await program.wait_for(says)
        return program

    def _write(self, name: str, replacements: dict[str, str]) -> str:
        path = self.folder / name
        path.write_text(replaced(name, replacements))
        return str(path)

    async def _start_redis(self, exits: AsyncExitStack) -> None:
        port = f"{self._redis_port}"
        config = self._write("redis.conf", {"6379": port, "/var/lib/redis": str(self.folder)})
        operator = ["--user", "operator", "on", "nopass", "~*", "&*", "+@all"]
        program = Program("redis", self.folder, [REDIS or "", config, *operator])
        await self._start(exits, program, "Ready to accept connections")
        self.redis = redis.Redis(port=self._redis_port, username="operator", password="")
        exits.callback(self.redis.close)

    async def _start_servers(self, exits: AsyncExitStack) -> None:
        """Start them as the unit does."""
        config = self._write(
            "rxllm.toml",
            {
                "127.0.0.1:6379": f"127.0.0.1:{self._redis_port}",
                "127.0.0.1:8000": f"127.0.0.1:{self.provider.port}",
                **self._changes,
            },
        )
        for _ in range(3):
            shared = {"8080": f"{self.port}", "0.0.0.0": "127.0.0.1"}  # noqa: S104
            port = free_port()
            unit = "reuse-port.conf" if self._shares_port else "rxllm@.service"
            words = command(unit)[1:]
            values = {"/etc/rxllm/rxllm.toml": config, **(shared if self._shares_port else {})}
            arguments = [values.get(word, word).replace("%i", f"{port}") for word in words]
            self.servers[port] = Program(
                f"server-{port}", self.folder, [sys.executable, "-m", "rxllm", *arguments, *PATIENT]
            )
        for server in self.servers.values():
            await self._start(exits, server, None)
        for server in self.servers.values():
            await server.wait_for("is serving on")

    def nginx_config(self, ports: Sequence[int]) -> str:
        """Write the configuration, and return its path."""
        temporary = "".join(
            f"{name}_temp_path {self.folder}/{name}; "
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return self._write(
            "nginx.conf",
            {
                **{f"808{n}": f"{port}" for n, port in enumerate(ports, 1)},
                "listen 80": f"listen 127.0.0.1:{self.port}",
                "/run/": f"{self.folder}/",
                "/var/log/nginx/": f"{self.folder}/",
                "http {": f"http {{ {temporary}",
            },
        )

    async def _start_nginx(self, exits: AsyncExitStack) -> None:
        config = self.nginx_config([*self.servers])
        arguments = [NGINX or "", "-c", config, "-g", "daemon off;"]
        nginx = Program("nginx", self.folder, arguments)
        await nginx.start()
        exits.push_async_callback(nginx.close, signal.SIGTERM)  # also ends its workers
        async with within_limit("nginx listens"):
            while not await accepts(self.port):
                assert nginx.process.returncode is None, nginx.errors.read_text()
                await asyncio.sleep(0.02)

    async def streams_of(self, port: int) -> int:
        """Return how many live streams a server runs."""
        async with self.direct(port) as client, client.get("/healthz") as response:
            count: int = (await response.json())["streams"]
            return count

    async def server_of_the_stream(self) -> int:
        """Return the port of the server that runs the only live stream."""
        counts = {port: await self.streams_of(port) for port in self.servers}
        assert sorted(counts.values()) == [0, 0, 1], counts
        return max(counts, key=lambda port: counts[port])

    async def answered_by(self, path: str, count: int) -> list[str]:
        """Return the addresses that have answered so many requests for a path, by nginx's log."""
        log = self.folder / "access.log"
        async with within_limit(f"{count} lines about {path} in {log}"):
            while True:
                lines = [line for line in log.read_text().splitlines() if f" {path} " in line]
                if len(lines) >= count:
                    return [line.rpartition(" by ")[2] for line in lines]
                await asyncio.sleep(0.02)


async def accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
