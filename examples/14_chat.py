"""Hold a multi-turn conversation."""

import rxllm
from rxllm import Message

KEEP = 3  # past exchanges sent with each question
history: list[Message] = []


async def ask(question: str) -> None:
    messages = [*history[-2 * KEEP :], Message("user", question)]
    print(f"> {question}")
    result = await rxllm.sinks.console(rxllm.model("tiny").stream(messages), figures=False)
    history.extend([messages[-1], Message("assistant", result.text)])


async def main() -> None:
    for question in ("Hello!", "Who are you?", "Tell me a story about a small bear", "Thank you!"):
        await ask(question)


rxllm.run(main())
