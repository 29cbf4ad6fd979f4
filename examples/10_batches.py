"""C1: tokens in batches, by count or by time, the last one included."""

import rxllm
from rxllm import Batch, to_async
from rxllm import operators as ops


async def main() -> None:
    stream = rxllm.model("tiny").stream("What is a token?", temperature=0)
    async for chunk in to_async(stream.pipe(ops.batch(size=5, seconds=0.05))):
        if isinstance(chunk, Batch):
            print(f"{len(chunk.chunks)} tokens: {chunk.text!r}")


rxllm.run(main())
