"""Tools of MCP servers: real ones, over standard input and output and over HTTP."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

import rxllm
from rxllm import FunctionTool, ToolCall, ToolContext, ToolError
from rxllm.errors import ConnectionFailedError, ConnectTimeoutError
from rxllm.testing import no_leaks

if TYPE_CHECKING:
    from mcp.server import Server

pytest.importorskip("mcp", reason="mcp is not installed (extra mcp)")

COMMAND = (sys.executable, str(Path(__file__).with_name("mcp_server_program.py")))
SILENT = (sys.executable, "-c", "import sys; sys.stdin.read()")

Connect = Callable[..., AbstractAsyncContextManager[list[FunctionTool]]]


def over_stdio(**options: Any) -> AbstractAsyncContextManager[list[FunctionTool]]:
    return rxllm.mcp_server(*COMMAND, **options)


@asynccontextmanager
async def over_http(**options: Any) -> AsyncIterator[list[FunctionTool]]:
    process = await asyncio.create_subprocess_exec(*COMMAND, "http", stdout=PIPE)
    try:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(await process.stdout.readline())}/mcp"
        async with rxllm.mcp_server(url, **options) as tools:
            yield tools
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


each_transport = pytest.mark.parametrize("connect", [over_stdio, over_http])


def ignore(report: Any) -> None: ...


async def call(
    tools: list[FunctionTool], name: str, report: Callable[[Any], None] = ignore, **arguments: Any
) -> Any:
    """Call a tool as an agent does."""
    (tool,) = [each for each in tools if each.name == name]
    return await tool.call(arguments, ToolContext(ToolCall("1", name), (), report=report))


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


class TestCalls:
    @each_transport
    async def test_the_output_is_the_structured_content_or_the_text(self, connect: Connect) -> None:
        async with no_leaks(), connect() as tools:
            adding = tools[0].tool
            assert (adding.name, adding.description) == ("add", "Add two numbers.")
            assert adding.parameters["required"] == ["a"]
            assert await call(tools, "add", a=2) == {"result": 3}
            assert await call(tools, "shout", text="hi") == "HI\n!"

    @each_transport
    async def test_progress_is_an_interim_output(self, connect: Connect) -> None:
        async with no_leaks(), connect() as tools:
            reports: asyncio.Queue[Any] = asyncio.Queue()
            running = asyncio.create_task(call(tools, "work", reports.put_nowait))
            assert await reports.get() == {"progress": 1, "total": 3, "message": "begun"}
            assert await reports.get() == {"progress": 2}
            running.cancel()

    @each_transport
    async def test_a_cancelled_call_is_cancelled_at_the_server(self, connect: Connect) -> None:
        async with no_leaks(), connect() as tools:
            reports: asyncio.Queue[Any] = asyncio.Queue()
            running = asyncio.create_task(call(tools, "work", reports.put_nowait))
            await reports.get()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert await call(tools, "wait_for_cancellation") == {"result": "cancelled"}

    @each_transport
    async def test_an_error_has_the_words_of_the_server(self, connect: Connect) -> None:
        async with no_leaks(), connect() as tools:
            with pytest.raises(ToolError, match=r"^Error executing tool fail$"):
                await call(tools, "fail")
            with pytest.raises(ToolError, match="should be a valid integer"):
                await call(tools, "add", a="two")
            with pytest.raises(ToolError, match=r'^{"code":3}$'):
                await call(tools, "refuse", code=3)
            with pytest.raises(ToolError, match="an error without a reason"):
                await call(tools, "refuse", code=0)

    async def test_content_that_is_no_text_is_described(self) -> None:
        async with over_stdio() as tools:
            assert await call(tools, "show") == [
                "a picture and a sound",
                {"type": "image", "mimeType": "image/png", "bytes": 5},
                {"type": "audio", "mimeType": "audio/wav", "bytes": 4},
            ]
            assert await call(tools, "attach") == [
                {"size": 1},
                {"type": "resource", "resource": {"uri": "memo://1", "text": "a memo"}},
            ]


class TestNames:
    async def test_what_providers_refuse_is_replaced(self) -> None:
        async with over_stdio(prefix="my files.", approval="ask", timeout=5) as tools:
            (reading,) = [each for each in tools if "read" in each.name]
            assert (reading.name, reading.tool.description) == (
                "my_files_files_read_all",
                "Read files.",
            )
            assert (reading.approval, reading.timeout) == ("ask", 5)
            assert await call(tools, reading.name, path="x") == {"result": "x"}

    async def test_two_tools_with_the_same_name_are_an_error(self) -> None:
        from mcp import Client

        async with Client(paged_server("a.b", "a/b")) as client:
            with pytest.raises(ValueError, match=r"two tools .* the name 'a_b'"):
                await rxllm.mcp_tools(client)

    async def test_a_long_name_is_cut(self) -> None:
        from mcp import Client

        async with Client(paged_server("b" * 64)) as client:
            (tool,) = await rxllm.mcp_tools(client, "a_")
            assert tool.name == "a_" + "b" * 62


class TestSessions:
    async def test_every_page_of_the_list_is_read(self) -> None:
        from mcp import Client

        async with Client(paged_server("one", "two", "three")) as client:
            for session in (client, client.session):
                tools = await rxllm.mcp_tools(session)
                assert [each.name for each in tools] == ["one", "two", "three"]
                assert tools[0].tool.parameters == {"type": "object", "properties": {}}
                assert await call(tools, "two") == "two"

    async def test_an_old_version_of_the_package_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import mcp

        monkeypatch.delattr(mcp, "Client")
        with pytest.raises(ImportError, match=r"requires mcp 2 or later: pip install 'rxllm\[mcp"):
            rxllm.mcp_server("server")
        with pytest.raises(ImportError, match="requires mcp 2"):
            await rxllm.mcp_tools(object())  # type: ignore[arg-type]


def paged_server(*names: str) -> Server[Any]:
    """A server in this process whose list of tools has one on each page."""
    from mcp import types
    from mcp.server import Server

    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        page = int(params.cursor or 0) if params is not None else 0
        after = page + 1
        return types.ListToolsResult(
            tools=[types.Tool(name=names[page], input_schema={"type": "object"})],
            next_cursor=str(after) if after < len(names) else None,
        )

    async def call_tool(context: Any, params: Any) -> types.CallToolResult:
        return types.CallToolResult(content=[types.TextContent(text=params.name)])

    return Server("pages", on_list_tools=list_tools, on_call_tool=call_tool)


class TestConnection:
    async def test_a_command_has_a_folder_and_chosen_variables(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NOT_FOR_SERVERS", "secret")
        async with over_stdio(cwd=tmp_path, env={"FOR_TESTS": "yes"}) as tools:
            there = await call(tools, "surroundings")
        assert (there["folder"], there["variable"], there["secret"]) == (str(tmp_path), "yes", None)
        assert not is_running(there["process"])

    async def test_headers_are_sent_over_http(self) -> None:
        async with over_http(headers={"X-User": "Ada"}) as tools:
            assert (await call(tools, "surroundings"))["user"] == "Ada"

    @each_transport
    async def test_an_exception_of_the_body_is_raised_as_it_is(self, connect: Connect) -> None:
        async with no_leaks():
            with pytest.raises(KeyError, match="of the body"):
                async with connect() as tools:
                    process = (await call(tools, "surroundings"))["process"]
                    raise KeyError("of the body")
        assert not is_running(process)

    async def test_a_cancelled_body_stops_the_server(self) -> None:
        processes: asyncio.Queue[int] = asyncio.Queue()

        async def body() -> None:
            async with over_stdio() as tools:
                processes.put_nowait((await call(tools, "surroundings"))["process"])
                await asyncio.Event().wait()

        async with no_leaks():
            running = asyncio.create_task(body())
            process = await processes.get()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        assert not is_running(process)

    @each_transport
    async def test_a_broken_connection_fails_the_calls_and_not_the_body(
        self, connect: Connect
    ) -> None:
        async with no_leaks(), connect() as tools:
            reports: asyncio.Queue[Any] = asyncio.Queue()
            other = asyncio.create_task(call(tools, "work", reports.put_nowait))
            await reports.get()
            for running in (call(tools, "crash"), other, call(tools, "add", a=1)):
                with pytest.raises(Exception, match="Connection closed"):
                    await running

    @each_transport
    async def test_leaving_it_fails_the_calls_in_progress(self, connect: Connect) -> None:
        async with no_leaks():
            async with connect() as tools:
                reports: asyncio.Queue[Any] = asyncio.Queue()
                running = asyncio.create_task(call(tools, "work", reports.put_nowait))
                await reports.get()
            with pytest.raises(Exception, match="Connection closed"):
                await running

    @pytest.mark.parametrize(
        ("server", "message"),
        [
            (("/no/such/program",), "No such file or directory"),
            ((sys.executable, "-c", "pass"), "Connection closed"),
            (("http://127.0.0.1:9/mcp?key=secret",), "All connection attempts failed"),
        ],
    )
    async def test_a_server_that_is_not_there_is_an_error(
        self, server: tuple[str, ...], message: str
    ) -> None:
        async with no_leaks():
            with pytest.raises(ConnectionFailedError, match=message) as caught:
                async with rxllm.mcp_server(*server):
                    raise AssertionError
        assert server[0].partition("?")[0] in str(caught.value)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("status", "message"),
        [(401, "401 Unauthorized"), (404, "Not Found"), (200, "Unexpected content type")],
    )
    async def test_a_refusal_over_http_is_an_error(self, status: int, message: str) -> None:
        async with no_leaks(), answering(web.Response(status=status, text="<html>")) as url:
            with pytest.raises(ConnectionFailedError, match=message):
                async with rxllm.mcp_server(url):
                    raise AssertionError

    async def test_a_silent_server_is_a_timeout(self) -> None:
        async with no_leaks():
            with pytest.raises(ConnectTimeoutError, match=r"gave no tools within 0.2 s"):
                async with rxllm.mcp_server(*SILENT, connect_timeout=0.2):
                    raise AssertionError

    async def test_arguments_of_the_other_kind_are_refused_at_the_call(self) -> None:
        with pytest.raises(TypeError, match="are for a command, but server is a URL"):
            rxllm.mcp_server("http://localhost/mcp", "--flag")
        with pytest.raises(TypeError, match="headers are for a URL, but server is the command 'x'"):
            rxllm.mcp_server("x", headers={})
        with pytest.raises(ValueError, match="connect_timeout must be a finite number above 0"):
            rxllm.mcp_server("x", connect_timeout=0)


@asynccontextmanager
async def answering(response: web.Response) -> AsyncIterator[str]:
    """Serve one response, whatever is asked."""

    async def handle(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(status=response.status, body=response.body)

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
    finally:
        await runner.cleanup()
