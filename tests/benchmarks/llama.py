"""llama.cpp: one stream beside `Llama.generate()`, and eight streams beside one."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import rxllm
from rxllm.models import tiny
from tests.benchmarks.random_gguf import write_random_gguf
from tests.benchmarks.side_by_side import Result, compare

TOKENS = 128
PROMPT = "Tell me a story about a robot who learns to paint"


def tokens_per_second(model: rxllm.Model, streams: int, tokens: int = TOKENS) -> float:
    """The total of so many streams at once, wall clock."""

    async def main() -> int:
        results = await asyncio.gather(
            *(
                rxllm.sinks.collect(model.stream(f"{PROMPT} {n}", max_tokens=tokens, temperature=0))
                for n in range(streams)
            )
        )
        return sum(result.usage.output_tokens for result in results if result.usage)

    started = time.perf_counter()
    total = rxllm.run(main())
    return total / (time.perf_counter() - started)


def generate_per_second(path: Path, threads: int, tokens: int = TOKENS) -> float:
    """llama-cpp-python's own loop over tokens, made to text with its detokenizer."""
    from llama_cpp import Llama

    llama = Llama(str(path), n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False)
    prompt = llama.tokenize(
        f"<|begin|><|user|>{PROMPT} 0<|end|><|assistant|>".encode(), False, True
    )
    said: list[int] = []
    started = time.perf_counter()
    for token in llama.generate(prompt, temp=0.0, repeat_penalty=1.0):
        if token == llama.token_eos():
            break
        said.append(token)
        llama.detokenize([token])
        if len(said) == tokens:
            break
    rate = len(said) / (time.perf_counter() - started)
    llama.close()
    return rate


def benchmarks() -> Iterator[Result]:
    bundled = tiny.directory / "tiny.gguf"
    # Only wall-clock rates compare the two, since one of them works on two threads.
    yield compare(
        "tiny (2 million parameters), one stream beside Llama.generate()",
        lambda: tokens_per_second(rxllm.model("tiny/llama"), 1),
        lambda: generate_per_second(bundled, threads=1),
        unit="tokens/s",
        limit=1,
        kind="at least",
    )
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "random.gguf"
        write_random_gguf(path)
        large = rxllm.model(f"llama/{path}", threads=2)
        yield compare(
            "88 million parameters, one stream beside Llama.generate()",
            lambda: tokens_per_second(large, 1, 48),
            lambda: generate_per_second(path, threads=2, tokens=48),
            unit="tokens/s",
            limit=1,
            kind="at least",
            rounds=5,
        )
        yield compare(
            "88 million parameters, eight streams at once beside one",
            lambda: tokens_per_second(large, 8, 48),
            lambda: tokens_per_second(large, 1, 48),
            unit="tokens/s",
            limit=1.5,
            kind="at least",
            rounds=5,
        )
