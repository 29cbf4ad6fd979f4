"""Set the options of a request; `temperature=0` always picks the most likely token."""

import rxllm

request = rxllm.Request(
    messages=(
        rxllm.Message("system", "You tell stories."),
        rxllm.Message("user", "Tell me a story about a shy dragon"),
    ),
    max_tokens=80,
    temperature=0,
    top_p=0.9,
    stop=("\n\n",),
    seed=7,
)


async def main() -> None:
    for model in ("tiny/onnx", "scripted/Once there was a dragon."):
        result = await rxllm.model(model).stream(request)
        print(f"{model}: {result.text!r} ({result.finish_reason}, stop: {result.stop_sequence!r})")


rxllm.run(main())
