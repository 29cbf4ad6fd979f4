"""Manage many streams by id in one scope, which stops them on exit."""

import rxllm
from rxllm.sinks import Streams, callbacks

model = rxllm.model("tiny")


async def main() -> None:
    async with Streams() as streams:
        for subject in ("a fox", "a baker", "a king"):
            story = callbacks(model.stream(f"Tell me a story about {subject}"))
            streams.add(subject, story).start()
        first = await streams["a fox"]
        print(first.text.partition(".")[0] + ".")
        print(streams.states())
    print(streams.states())


rxllm.run(main())
