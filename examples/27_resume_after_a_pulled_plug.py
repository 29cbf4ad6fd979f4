"""Continue an answer after its connection is lost, without repeating text."""

from typing import Any

import rxllm
from rxllm import operators as ops
from rxllm.models.scripted import ScriptedModel
from rxllm.testing.fault_server import CUT, FaultServer, Reply
from rxllm.testing.provider_streams import openai_events

PROMPT = "Count to five"


async def resumed() -> None:
    """The connection is lost twice, at different places; the server continues the partial text."""
    answers = [
        Reply([*openai_events("one", ", two", done=False, finish_reason=None), CUT]),
        Reply([*openai_events(", three", done=False, finish_reason=None), CUT]),
        Reply(openai_events(", four", ", five")),
    ]
    async with FaultServer(*answers) as server:
        model = rxllm.model("openai_compatible/any", base_url=server.url)
        stream = model.stream(PROMPT).pipe(ops.resume(model, PROMPT, initial=0.01))
        result = await stream
        print("resumed:", result.text, [notice.kind for notice in result.notices])
        print("asked to continue:", server.requests[2].json()["messages"][-1]["content"])


async def repeated() -> None:
    """A model that can't continue repeats its answer; text already received is dropped."""
    choices: list[Any] = ["replay", "restart"]
    for after_output in choices:
        model = ScriptedModel(["one, two", ConnectionResetError()], "one, two, three", by="word")
        again = ops.retry_with_backoff(initial=0.01, after_output=after_output)
        result = await model.stream(PROMPT).pipe(again)
        print(f"{after_output}:", result.text)


async def degraded() -> None:
    """A failing model gets simpler and simpler requests."""
    model = ScriptedModel([ConnectionResetError()], [ConnectionResetError()], "one, two")
    result = await ops.degrade(model, PROMPT, max_tokens=200)
    asked = [(request.max_tokens, request.temperature) for request in model.requests]
    print("degraded:", result.text, asked)


async def main() -> None:
    await resumed()
    await repeated()
    await degraded()
    broken = ScriptedModel(["one, ", "two", ConnectionResetError()]).stream(PROMPT)
    try:
        await broken.pipe(ops.keep_partial())
    except ConnectionResetError as error:
        print("kept:", vars(error)["partial"])


rxllm.run(main())
