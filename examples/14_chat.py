"""Hold a multi-turn conversation."""

import rxllm

chat = rxllm.Chat("tiny", system="You are a friendly storyteller.", send=3)
for question in ("Hello!", "Who are you?", "Tell me a story about a small bear", "Thank you!"):
    print(f"> {question}")
    rxllm.run(rxllm.sinks.console(chat.ask(question), figures=False))
