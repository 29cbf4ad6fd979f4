"""An independent server: llama-cpp-python's, in a separate process, with the bundled model."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import rxllm
from rxllm.chunks import End, Start, Token
from rxllm.doctor import check_server
from rxllm.errors import EmptyStreamError, ServerError
from rxllm.models import tiny

Listen = Callable[..., Awaitable[Any]]

pytestmark = pytest.mark.skipif(
    not (importlib.util.find_spec("llama_cpp") and importlib.util.find_spec("uvicorn")),
    reason="llama-cpp-python[server] is not installed",
)


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """Start the server on a free port, and yield its base URL."""
    command = [
        sys.executable,
        "-m",
        "llama_cpp.server",
        "--model",
        str(tiny.directory / "tiny.gguf"),
    ]
    options = {"--host": "127.0.0.1", "--port": "0", "--n_ctx": "1024", "--n_threads": "1"}
    for option in options.items():
        command += option
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        log: list[str] = []
        for line in server.stderr:
            log.append(line)
            if running := re.search(r"running on (http://[\d.:]+)", line):
                break
        else:
            pytest.fail("".join(log))
        # If nobody reads its log, the server blocks in the end.
        reading = threading.Thread(target=server.stderr.read, name="server log")
        reading.start()
        yield f"{running[1]}/v1"
        server.terminate()
        reading.join(30)


@pytest.fixture
def model(base_url: str) -> rxllm.Model:
    return rxllm.model("openai_compatible/tiny", base_url=base_url)


async def test_its_answer_equals_that_of_the_same_model_in_this_process(
    model: rxllm.Model, listen: Listen
) -> None:
    heard = await listen(model, "Hello!", temperature=0)
    here = await rxllm.sinks.collect(rxllm.model("tiny/llama").stream("Hello!", temperature=0))
    assert heard.error is None
    assert heard.text == here.text
    assert isinstance(heard.chunks[0], Start)
    assert heard.chunks[0].model == "openai_compatible/tiny"
    assert heard.chunks[-1] == End("stop")


async def test_options_reach_the_server(model: rxllm.Model, listen: Listen) -> None:
    heard = await listen(model, "Tell me a story", temperature=0, max_tokens=7)
    assert len(heard.of(Token)) <= 7
    assert heard.chunks[-1] == End("length")
    stopped = await listen(model, "Tell me a story", temperature=0, stop="house")
    assert stopped.text
    assert "house" not in stopped.text
    assert stopped.chunks[-1] == End("stop")


async def test_sampling_with_a_seed_is_reproducible(model: rxllm.Model, listen: Listen) -> None:
    options: dict[str, Any] = {"temperature": 1.0, "seed": 7, "max_tokens": 12}
    first = await listen(model, "Tell me a story", **options)
    assert first.text == (await listen(model, "Tell me a story", **options)).text


async def test_a_rejected_request_is_an_error(model: rxllm.Model, listen: Listen) -> None:
    heard = await listen(model, "Hi", extra={"temperature": "warm"})
    assert isinstance(heard.error, ServerError)
    assert heard.error.status == 500
    assert "valid number" in str(heard.error)


async def test_a_prompt_that_is_too_long_ends_its_stream_without_content(
    model: rxllm.Model, listen: Listen
) -> None:
    """This server detects it only after sending its headers."""
    assert isinstance((await listen(model, "x " * 3000)).error, EmptyStreamError)


async def test_disposal_frees_the_server_for_the_next_request_at_once(
    model: rxllm.Model, listen: Listen
) -> None:
    """The server answers one request at a time, and a new one interrupts the previous one."""
    chunks = rxllm.to_async(model.stream("Tell me a long story about a robot", max_tokens=900))
    async for chunk in chunks:
        if isinstance(chunk, Token):
            break
    await chunks.aclose()
    async with asyncio.timeout(30):
        assert (await listen(model, "Hello!", temperature=0)).chunks[-1] == End("stop")


async def test_the_check_finds_what_this_server_does_otherwise(base_url: str) -> None:
    """As of 0.3.36 it reports no usage, and says 500 to a body that isn't JSON."""
    checkup = await check_server(base_url)
    found = {each.aspect: each.verdict for each in checkup.findings}
    assert {each.wire for each in checkup.findings} == {"openai_chat"}
    assert [each for each, verdict in found.items() if verdict == "wrong"] == ["errors"]
    assert [each for each, verdict in found.items() if verdict == "odd"] == ["usage"]
