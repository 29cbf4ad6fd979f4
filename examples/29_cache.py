"""Cache answers, and share those still being generated."""

import asyncio
import time

import rxllm
from rxllm import operators as ops
from rxllm.sinks import collect

model = rxllm.model("tiny")
store = ops.MemoryStore(max_entries=100)


async def ask(prompt: str) -> str:
    request = rxllm.Request(messages=(rxllm.Message("user", prompt),), temperature=0, max_tokens=60)
    key = ops.cache_key(model, request)
    result = await collect(model.stream(request).pipe(ops.cache(store, key, ttl=600)))
    return result.text


async def main() -> None:
    prompt = "Tell me a story about an old clock"
    begun = time.monotonic()
    answers = await asyncio.gather(*[ask(prompt) for _ in range(3)])
    called = time.monotonic()
    answers.append(await ask(prompt))
    replayed = time.monotonic()
    print(f"{len(answers)} answers, {len(set(answers))} text, {len(store)} in the store")
    print("faster from there:", replayed - called < called - begun)


rxllm.run(main())
