"""Share one stream with many readers, including late and slow ones.

Streams are kept by id, so anyone who knows an id can read along.
"""

import asyncio

import rxllm
from rxllm import operators as ops
from rxllm.sinks import collect

rooms: dict[str, ops.Multiplexed] = {}


def open_room(stream_id: str, prompt: str) -> None:
    stream = rxllm.model("tiny").stream(prompt, max_tokens=60, seed=1)
    rooms[stream_id] = stream.pipe(ops.multiplex())


async def slow_reader(stream_id: str) -> list[int]:
    """Take 50 ms for each chunk; chunks that arrive in the meantime are merged."""
    view = rooms[stream_id].with_policy("coalesce")
    lags = []
    async for _ in rxllm.to_async(view, capacity=1):
        await asyncio.sleep(0.05)
        lags.append(view.lag)
    return lags


async def main() -> None:
    open_room("story", "Tell me a story about a lighthouse")
    first = asyncio.create_task(collect(rooms["story"]))
    slow = asyncio.create_task(slow_reader("story"))
    await asyncio.sleep(0.03)
    late = await collect(rooms["story"])
    print("the late one has it all:", late.text == (await first).text)
    lags = await slow
    print(f"the slow one got {len(lags)} chunks, and was up to {max(lags)} behind")


rxllm.run(main())
