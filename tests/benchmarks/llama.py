"""llama.cpp: rates vs `Llama.generate()` and a bare batched loop, and waits for long prompts."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import rxllm
from rxllm.models import tiny
from rxllm.models.local.model import LocalModel
from tests.benchmarks.llama_by_hand import BareLoop
from tests.benchmarks.random_gguf import write_random_gguf
from tests.benchmarks.side_by_side import Result, compare

TOKENS = 128
PROMPT = "Tell me a story about a robot who learns to paint"
LONG = " ".join([PROMPT] * 166)


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


def on_one_thread(measure: Callable[..., float], *arguments: Any) -> float:
    """Measure on a thread that ends, as our engine's does.

    OpenMP keeps a team of workers for each live thread, and lets all of them sleep instead of spin
    once they outnumber the cores.
    """
    with ThreadPoolExecutor(1) as one:
        return one.submit(measure, *arguments).result()


def generate_per_second(path: Path, threads: int, tokens: int = TOKENS) -> float:
    """Return the rate of llama-cpp-python's own loop over tokens, with its detokenizer."""
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
        partial(on_one_thread, generate_per_second, bundled, 1),
        unit="tokens/s",
        limit=0.8,
        kind="at least",
        rounds=25,
    )
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "random.gguf"
        write_random_gguf(path)
        yield from _rates(path)
        yield from _waits(path)


def _rates(path: Path) -> Iterator[Result]:
    model = _local(path, context_length=512)
    yield compare(
        "88 million parameters, one stream vs Llama.generate()",
        lambda: tokens_per_second(model, 1, 96),
        partial(on_one_thread, generate_per_second, path, 2, 96),
        unit="tokens/s",
        limit=0.91,
        kind="at least",
        rounds=5,
    )
    # The bare loop has flash attention, which is faster for contexts as short as these.
    for streams, limit in ((1, 0.8), (8, 0.9), (32, 0.8)):
        model = _local(path, context_length=256, slots=streams)
        loop = BareLoop(path, streams, 256, threads=2)
        prompts = [loop.tokens_of(_as_prompt(f"{PROMPT} {n}")) for n in range(streams)]
        yield compare(
            f"88 million parameters, {streams} at once vs a bare batched loop",
            partial(tokens_per_second, model, streams, 64),
            partial(on_one_thread, loop.run, prompts, 64),
            unit="tokens/s",
            limit=limit,
            kind="at least",
            rounds=3,
        )
        loop.close()
        model.close()


def _waits(path: Path) -> Iterator[Result]:
    """How long a stream waits for a long prompt: its own, or that of another stream."""
    model = _local(path, context_length=4096, slots=4)
    loop = BareLoop(path, 1, 4096, threads=2)
    numbers = itertools.count()

    def other_beginning() -> str:
        return f"{next(numbers)} {LONG}"

    def by_hand() -> float:
        started = time.perf_counter()
        loop.read([loop.tokens_of(_as_prompt(other_beginning()))])
        return (time.perf_counter() - started) * 1000

    yield compare(
        "first token after a prompt of 2,000 tokens vs a bare loop",
        lambda: rxllm.run(_first_token(model, other_beginning())),
        partial(on_one_thread, by_hand),
        unit="ms",
        limit=1.1,
        kind="at most",
        rounds=3,
    )
    loop.close()
    yield compare(
        "the same if another stream has begun alike vs alone",
        lambda: rxllm.run(_first_token(model, f"{LONG} {next(numbers)}")),
        lambda: rxllm.run(_first_token(model, other_beginning())),
        unit="ms",
        limit=0.3,
        kind="at most",
        rounds=3,
    )
    yield compare(
        "longest gap in a stream while such a prompt is read vs 100 ms",
        lambda: rxllm.run(_longest_gap(model, other_beginning())),
        lambda: 100.0,
        unit="ms",
        limit=1,
        kind="at most",
        rounds=3,
    )
    model.close()


def _local(path: Path, **options: Any) -> LocalModel:
    model = rxllm.model(f"llama/{path}", threads=2, **options)
    assert isinstance(model, LocalModel)
    return model


def _as_prompt(text: str) -> str:
    return f"<|begin|><|user|>{text}<|end|><|assistant|>"


async def _first_token(model: rxllm.Model, prompt: str) -> float:
    """Milliseconds from the subscription to the first token."""
    started = time.perf_counter()
    async for chunk in model.stream(prompt, max_tokens=1, temperature=0):
        if isinstance(chunk, rxllm.Token):
            break
    return (time.perf_counter() - started) * 1000


async def _longest_gap(model: rxllm.Model, prompt: str) -> float:
    """Milliseconds between two tokens of a stream, at most, while another one reads a prompt."""
    moments: list[float] = []

    async def talk() -> None:
        async for _ in model.stream(PROMPT, max_tokens=2000, temperature=0):
            moments.append(time.perf_counter())

    talking = asyncio.create_task(talk())
    while len(moments) < 20:
        await asyncio.sleep(0.01)
    await _first_token(model, prompt)
    talking.cancel()
    await asyncio.gather(talking, return_exceptions=True)
    times = moments[10:]
    return max(after - before for before, after in pairwise(times)) * 1000
