"""Clients other than browsers and SDKs: `curl -N`, and Python's own `urllib`."""

from __future__ import annotations

import asyncio
import shutil
import sys
from asyncio.subprocess import PIPE

import pytest

from rxllm.server import create_app
from tests.server.serving import Stepwise, port_of, serving

URLLIB = """
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1]) as response:
    for line in response:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
"""
CURL = shutil.which("curl")  # a minimal Debian has no curl; then only urllib is tested
PROGRAMS = {"urllib": [sys.executable, "-c", URLLIB], **({"curl": [CURL, "-sN"]} if CURL else {})}


@pytest.mark.parametrize("name", PROGRAMS)
async def test_a_program_receives_each_event_at_once(name: str) -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model})) as client:
        url = f"http://127.0.0.1:{port_of(client)}/stream?prompt=Hi"
        program = await asyncio.create_subprocess_exec(*PROGRAMS[name], url, stdout=PIPE)
        output = program.stdout
        assert output is not None
        model.let(2)
        async with asyncio.timeout(20):
            assert b"id: 2\n" in [await output.readline() for _ in range(6)]
            assert model.said == 2  # the rest hasn't been emitted yet
            model.let()
            rest = await output.read()
            assert await program.wait() == 0
    assert b'"text":"f"' in rest
    assert rest.rpartition(b"event: ")[2].startswith(b"complete\n")
