"""Batch tokens by count or time."""

import rxllm
from rxllm import Batch
from rxllm import operators as ops


async def main() -> None:
    stream = rxllm.model("tiny").stream("What is a token?", temperature=0)
    async for chunk in stream.pipe(ops.batch(size=5, seconds=0.05)):
        if isinstance(chunk, Batch):
            print(f"{len(chunk.chunks)} tokens: {chunk.text!r}")


rxllm.run(main())
