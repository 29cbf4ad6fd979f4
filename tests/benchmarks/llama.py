"""llama.cpp: one stream vs `Llama.generate()`, and eight streams vs one."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import rxllm
from rxllm.models import tiny
from tests.benchmarks.random_gguf import write_random_gguf
from tests.benchmarks.side_by_side import Result, compare

TOKENS = 128
PROMPT = "Tell me a story about a robot who learns to paint"


def tokens_per_second(model: rxllm.Model, streams: int, tokens: int = TOKENS) -> float:
    """Return the total rate of `streams` concurrent streams in wall time, including prompts."""

    async def main() -> float:
        asked = [
            model.stream(f"{PROMPT} {n}", max_tokens=tokens, temperature=0) for n in range(streams)
        ]
        started = time.perf_counter()
        results = await asyncio.gather(*map(rxllm.sinks.collect, asked))
        seconds = time.perf_counter() - started
        return sum(result.timings.tokens for result in results) / seconds

    return rxllm.run(main())


def generate_per_second(path: Path, threads: int, tokens: int = TOKENS) -> float:
    """Return the rate of llama-cpp-python's own loop over tokens, with its detokenizer.

    It runs on a thread that ends, as our engine's does: OpenMP keeps a team of workers for each
    live thread, and lets all of them sleep instead of spin once they outnumber the cores.
    """
    with ThreadPoolExecutor(1) as one:
        return one.submit(_generate_per_second, path, threads, tokens).result()


def _generate_per_second(path: Path, threads: int, tokens: int) -> float:
    from llama_cpp import Llama

    llama = Llama(str(path), n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False)
    prompt = llama.tokenize(
        f"<|begin|><|user|>{PROMPT} 0<|end|><|assistant|>".encode(), False, True
    )
    answer: list[int] = []
    started = time.perf_counter()
    for token in llama.generate(prompt, temp=0.0, repeat_penalty=1.0):
        if token == llama.token_eos():
            break
        answer.append(token)
        llama.detokenize([token])
        if len(answer) == tokens:
            break
    rate = len(answer) / (time.perf_counter() - started)
    llama.close()
    return rate


def benchmarks() -> Iterator[Result]:
    bundled = tiny.directory / "tiny.gguf"
    # Rates in wall time, since one of the two uses two threads. With a model as small as tiny, a
    # token costs hardly more than passing it to another thread, which `generate` doesn't do.
    yield compare(
        "tiny (2 million parameters), one stream vs Llama.generate()",
        lambda: tokens_per_second(rxllm.model("tiny/llama"), 1),
        lambda: generate_per_second(bundled, threads=1),
        unit="tokens/s",
        limit=0.8,
        kind="at least",
        rounds=25,
    )
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "random.gguf"
        write_random_gguf(path)
        large = rxllm.model(f"llama/{path}", threads=2)
        yield compare(
            "88 million parameters, one stream vs Llama.generate()",
            lambda: tokens_per_second(large, 1, 96),
            lambda: generate_per_second(path, threads=2, tokens=96),
            unit="tokens/s",
            limit=1,
            kind="at least",
            rounds=5,
        )
        yield compare(
            "88 million parameters, eight concurrent streams vs one",
            lambda: tokens_per_second(large, 8, 96),
            lambda: tokens_per_second(large, 1, 96),
            unit="tokens/s",
            limit=1.5,
            kind="at least",
            rounds=5,
        )
