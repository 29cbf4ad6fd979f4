"""Map text, call coroutines that wait or fail, and collect tool calls."""

import asyncio

import rxllm
from rxllm import Token, ToolCall
from rxllm import operators as ops
from rxllm.chunks import Chunk
from rxllm.models.scripted import ScriptedModel


async def mask(chunk: Chunk) -> Chunk:
    """A slow service."""
    await asyncio.sleep(0.01)
    return Token(chunk.text.replace("42", "??")) if isinstance(chunk, Token) else chunk


def save(chunk: Chunk) -> None:
    """A database that is sometimes unreachable."""
    if isinstance(chunk, Token) and "??" in chunk.text:
        raise ConnectionError("no database")


def failed(error: Exception, chunk: Chunk) -> None:
    print(f"   a {type(chunk).__name__} was not saved: {error}")


async def text() -> None:
    model = ScriptedModel("The answer is 42, of course.", by="word", delay=0.01)
    stream = model.stream("What is the answer?").pipe(
        ops.map_text(str.upper),
        ops.map_async(mask, concurrency=4),
        ops.error_boundary(save, failed, on_failure="pass"),
    )
    async for so_far in stream.pipe(ops.accumulate()):
        if isinstance(so_far.chunk, Token):
            print(f"{so_far.length:2} {so_far.text}")


async def calls() -> None:
    """Two interleaved calls; each is emitted once, when it is complete."""
    script = [
        ToolCall("1", "weather", '{"place": '),
        ToolCall("2", "time", '{"at"', index=1),
        ToolCall("1", "weather", '{"place": "Oslo"}'),
        ToolCall("2", "time", '{"at": 9}', index=1),
    ]
    model = ScriptedModel(script, finish_reason="tool_calls")
    async for chunk in model.stream("Go on.").pipe(ops.tool_calls()):
        if isinstance(chunk, ToolCall):
            print(chunk.name, ops.arguments_of(chunk))


async def main() -> None:
    await text()
    await calls()


rxllm.run(main())
