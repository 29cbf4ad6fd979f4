"""An MCP server for the tests: over standard input and output or, with `http`, over HTTP.

Over HTTP it prints its port.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import uvicorn
from mcp.server.mcpserver import Audio, Context, Image, MCPServer
from mcp.types import CallToolResult, EmbeddedResource, TextContent, TextResourceContents

server = MCPServer("tests", log_level="CRITICAL")
cancelled = asyncio.Event()


@server.tool()
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@server.tool(structured_output=False)
def shout(text: str) -> list[str]:
    return [text.upper(), "!"]


@server.tool()
def fail() -> str:
    raise LookupError("not for strangers")


@server.tool()
def refuse(code: int) -> CallToolResult:
    structured = {"code": code} if code else None
    return CallToolResult(content=[], structured_content=structured, is_error=True)


@server.tool()
async def work(ctx: Context) -> str:
    """Report progress, and work until it is cancelled."""
    try:
        await ctx.report_progress(1, 3, "begun")
        await ctx.report_progress(2)
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        cancelled.set()
        raise
    return "done"


@server.tool()
async def wait_for_cancellation() -> str:
    await cancelled.wait()
    return "cancelled"


@server.tool(name="files/read.all", description="Read files.")
def read(path: str) -> str:
    return path


@server.tool(structured_output=False)
def show() -> list[Image | Audio | str]:
    return [
        "a picture and a sound",
        Image(data=b"\x89PNG-", format="png"),
        Audio(data=b"RIFF", format="wav"),
    ]


@server.tool()
def attach() -> CallToolResult:
    """Return structured content, its text, and a resource."""
    resource = TextResourceContents(uri="memo://1", text="a memo")
    return CallToolResult(
        content=[TextContent(text='{"size": 1}'), EmbeddedResource(resource=resource)],
        structured_content={"size": 1},
    )


@server.tool()
def surroundings(ctx: Context) -> dict[str, str | int | None]:
    """Where this runs, and who asks."""
    return {
        "process": os.getpid(),
        "folder": str(Path.cwd()),
        "variable": os.environ.get("FOR_TESTS"),
        "secret": os.environ.get("NOT_FOR_SERVERS"),
        "user": (ctx.headers or {}).get("x-user"),
    }


@server.tool()
def crash() -> str:
    os._exit(3)


def main() -> None:
    if sys.argv[1:] != ["http"]:
        server.run()
        return
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(server.streamable_http_app(), log_level="critical")
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
