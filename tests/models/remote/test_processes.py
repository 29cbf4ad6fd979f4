"""Remote models in a process that is stopped for a while, and in one that forks."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.provider_streams import openai_events
from tests.benchmarks.relay_peers import upstream

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")

STREAMS = """
import asyncio, sys, rxllm
from rxllm import operators as ops

model = rxllm.model("openai/gpt", api_key="k", base_url=sys.argv[1])

async def main():
    limits = [{"first": 1.0}, {"total": 1.0}, {"first": 0.9, "between": 0.9}]
    streams = [model.stream("Hi").pipe(ops.timeouts(**each)) for each in limits]
    for result in await asyncio.gather(*map(rxllm.sinks.collect, streams), return_exceptions=True):
        print(getattr(result, "text", repr(result)), flush=True)

asyncio.run(main())
"""


async def test_a_process_that_is_stopped_for_longer_than_its_time_limits() -> None:
    """The answers wait in its sockets when it goes on."""
    go_on = asyncio.Event()
    async with FaultServer(Reply([go_on, *openai_events("Hi")])) as server:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", STREAMS, server.url, stdout=asyncio.subprocess.PIPE
        )
        await server.until(lambda server: len(server.requests) == 3)
        child.send_signal(signal.SIGSTOP)
        go_on.set()
        await asyncio.sleep(1.2)  # the clock of the other process goes on
        child.send_signal(signal.SIGCONT)
        output, _ = await child.communicate()
    assert output.decode().splitlines() == ["Hi"] * 3


def test_a_used_model_works_in_a_forked_process() -> None:
    program = """
    import os, sys, rxllm
    model = rxllm.model("openai/gpt", api_key="k", base_url=sys.argv[1])

    def tokens():
        return sum(isinstance(chunk, rxllm.Token) for chunk in model.stream("3"))

    def say():
        line = f"{tokens()} {rxllm.run(model.stream('3')).finish_reason}"
        os.write(1, f"{line}\\n".encode())  # in one piece, whoever else writes

    say()
    child = os.fork()
    say()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    """
    with upstream(0.0) as url:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), url],
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.splitlines() == ["3 stop"] * 3
