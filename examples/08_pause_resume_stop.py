"""Pause, resume and stop a stream, and read its status."""

import asyncio

import rxllm
from rxllm import operators as ops
from rxllm.models.scripted import ScriptedModel

model = ScriptedModel(
    "one two three four five six seven eight nine ten " * 20, by="word", delay=0.02
)
control = ops.Control()


async def press_buttons() -> None:
    """A user who presses buttons."""
    await asyncio.sleep(0.2)
    control.pause()
    print(control.status)
    await asyncio.sleep(0.2)
    control.resume()
    print(control.status)
    await asyncio.sleep(0.2)
    control.stop()


async def main() -> None:
    stream = model.stream("Count").pipe(ops.pausable(control))
    result, _ = await asyncio.gather(rxllm.sinks.collect(stream), press_buttons())
    print(f"{control.status}: {result.finish_reason} after {result.timings.tokens} words")
    print(f"streams still playing: {model.active}")


rxllm.run(main())
