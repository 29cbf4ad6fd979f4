"""Tools of MCP servers, as tools of an agent. Requires the extra `mcp`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Unpack

import msgspec

from rxllm.agents._mcp_output import output_of
from rxllm.agents.tool import NOT_IN_NAMES, FunctionTool, ToolContext, ToolError, ToolOptions
from rxllm.arguments import check_number
from rxllm.errors import ConnectionFailedError, ConnectTimeoutError

if TYPE_CHECKING:
    from mcp import Client, ClientSession
    from mcp.types import Tool

__all__ = ["mcp_server", "mcp_tools"]

_LONGEST_NAME: Final = 64
_HTTP_SECONDS: Final = 30.0
_SILENCE_SECONDS: Final = 300.0
"""How long a server may send nothing over HTTP during a call."""


async def mcp_tools(
    session: Client | ClientSession, prefix: str = "", **options: Unpack[ToolOptions]
) -> list[FunctionTool]:
    """Return the tools that an MCP server offers now.

    The progress of a call is its interim output. If its task is cancelled, so is the call at the
    server. The output is the structured content or the text; other content is described by JSON
    objects in a list with it, images and audio by their type and their size in bytes.

    Args:
        session: a connected `Client` or `ClientSession` of the package `mcp`.
        prefix: goes before each name, to tell servers apart. Characters that providers refuse in
            a name become `_`.
        options: those of `FunctionTool`, for each of the tools.

    Raises:
        ImportError: `mcp` isn't installed, or is older than version 2.
        ValueError: two names are the same once they are names that providers accept.
    """
    _check_mcp()
    tools: dict[str, FunctionTool] = {}
    for listed in await _list_tools(session):
        made = _tool_of(session, listed, prefix, options)
        if made.name in tools:
            raise ValueError(
                f"two tools of the MCP server would have the name {made.name!r}: providers accept "
                f"letters a to z, digits, _ and -, and {_LONGEST_NAME} of them"
            )
        tools[made.name] = made
    return list(tools.values())


async def _list_tools(session: Client | ClientSession) -> list[Tool]:
    from mcp import Client
    from mcp.types import PaginatedRequestParams

    if isinstance(session, Client):
        session = session.session
    page = await session.list_tools()
    tools = [*page.tools]
    while page.next_cursor is not None:
        page = await session.list_tools(params=PaginatedRequestParams(cursor=page.next_cursor))
        tools += page.tools
    return tools


def _tool_of(
    session: Client | ClientSession, listed: Tool, prefix: str, options: ToolOptions
) -> FunctionTool:
    async def call(arguments: dict[str, Any], context: ToolContext) -> Any:
        async def report(progress: float, total: float | None, message: str | None) -> None:
            known = {"progress": progress, "total": total, "message": message}
            context.report({name: value for name, value in known.items() if value is not None})

        result = await session.call_tool(listed.name, arguments, progress_callback=report)
        output = output_of(result)
        if result.is_error:
            words = output if isinstance(output, str) else msgspec.json.encode(output).decode()
            raise ToolError(words or "the MCP server reported an error without a reason")
        return output

    return FunctionTool(
        call,
        name=NOT_IN_NAMES.sub("_", prefix + listed.name)[:_LONGEST_NAME],
        description=listed.description or listed.title or "",
        # The protocol lets a server leave out `properties`; some providers don't.
        parameters={"properties": {}, **listed.input_schema},
        **options,
    )


def mcp_server(
    server: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    headers: Mapping[str, str] | None = None,
    connect_timeout: float = 30,
    prefix: str = "",
    **options: Unpack[ToolOptions],
) -> AbstractAsyncContextManager[list[FunctionTool]]:
    """Connect to an MCP server, and give its tools; see `mcp_tools`.

    On exit the connection is closed, and a server that was started is stopped, which takes up to 6
    s if it doesn't stop by itself. If the connection breaks, each call fails with that error.

    Args:
        server: the URL of a server (streamable HTTP), or a command that starts one, which speaks
            over its standard input and output.
        arguments: those of the command.
        env: environment variables of the command, besides `PATH`, `HOME` and the like; others
            aren't passed on.
        cwd: the directory of the command.
        headers: sent with each HTTP request, such as `Authorization`.
        connect_timeout: seconds until the tools are there.
        prefix, options: those of `mcp_tools`.

    Raises:
        ImportError: `mcp` isn't installed, or is older than version 2.
        TypeError: an argument for commands is given with a URL, or the reverse.
        ConnectionFailedError: the server can't be started or reached, or doesn't speak MCP.
        ConnectTimeoutError: it took longer than `connect_timeout`.

    ::

        async with rxllm.mcp_server("python", "server.py", approval="ask") as tools:
            agent = rxllm.Agent(model, tools)
    """
    _check_mcp()
    seconds = check_number("connect_timeout", connect_timeout, "seconds to connect", above=0)
    if server.startswith(("http://", "https://")):
        if arguments or env is not None or cwd is not None:
            raise TypeError("arguments, env and cwd are for a command, but server is a URL")
        connection: AbstractAsyncContextManager[Client] = _http(server, headers)
    else:
        if headers is not None:
            raise TypeError(f"headers are for a URL, but server is the command {server!r}")
        connection = _command(server, arguments, env, cwd)
    return _tools_of(connection, server.partition("?")[0], seconds, prefix, options)


def _check_mcp() -> None:
    try:
        from mcp import Client  # noqa: F401
    except ImportError as error:
        raise ImportError("MCP requires mcp 2 or later: pip install 'rxllm[mcp]'") from error


def _command(
    command: str,
    arguments: tuple[str, ...],
    env: Mapping[str, str] | None,
    cwd: str | Path | None,
) -> AbstractAsyncContextManager[Client]:
    from mcp import Client, StdioServerParameters

    variables = None if env is None else dict(env)
    return Client(
        StdioServerParameters(command=command, args=list(arguments), env=variables, cwd=cwd)
    )


@asynccontextmanager
async def _http(url: str, headers: Mapping[str, str] | None) -> AsyncIterator[Client]:
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    async def check(response: httpx2.Response) -> None:
        if response.status_code in (401, 403):  # which `mcp` reports without the status
            raise ConnectionFailedError(f"{response.status_code} {response.reason_phrase}")

    http = httpx2.AsyncClient(
        headers=headers,
        timeout=httpx2.Timeout(_HTTP_SECONDS, read=_SILENCE_SECONDS),
        event_hooks={"response": [check]},
    )
    async with http, Client(streamable_http_client(url, http_client=http)) as client:
        yield client


@asynccontextmanager
async def _tools_of(
    connection: AbstractAsyncContextManager[Client],
    server: str,
    seconds: float,
    prefix: str,
    options: ToolOptions,
) -> AsyncIterator[list[FunctionTool]]:
    connected: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
    leaving = asyncio.Event()
    holder = asyncio.create_task(_hold(connection, server, connected, leaving), name="rxllm mcp")
    is_ready = False
    try:
        try:
            async with asyncio.timeout(seconds):
                tools = await mcp_tools(await connected, prefix, **options)
        except TimeoutError as error:
            raise ConnectTimeoutError(
                f"the MCP server {server} gave no tools within {seconds:g} s"
            ) from error
        is_ready = True
        yield tools
    finally:
        leaving.set()
        if not is_ready:
            holder.cancel()
        await asyncio.wait([holder])


async def _hold(
    connection: AbstractAsyncContextManager[Client],
    server: str,
    connected: asyncio.Future[Client],
    leaving: asyncio.Event,
) -> None:
    """Hold a connection, in the task that `mcp` cancels if the connection breaks.

    Calls in progress fail with that error, and so do later ones.
    """
    try:
        async with connection as client:
            connected.set_result(client)
            await leaving.wait()
    except Exception as error:
        if not connected.done():
            cause = _cause_of(error)
            reason = str(cause).partition("\n")[0]
            failure = ConnectionFailedError(f"can't connect to the MCP server {server}: {reason}")
            failure.__cause__ = cause
            connected.set_exception(failure)


def _cause_of(error: Exception) -> Exception:
    """Return the first of the errors that the task groups of `mcp` have gathered."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
