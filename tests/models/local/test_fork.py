"""A model that was used before its process forked begins again in the child."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
import rxllm

model = rxllm.model(sys.argv[1])

def answer():
    return rxllm.run(model.stream("Hello!", temperature=0, max_tokens=8)).text

before = answer()
in_use = iter(model.stream("Tell me a story", max_tokens=50))
next(in_use)  # the engine is at work
child = os.fork()
if child == 0:
    os._exit(0 if answer() == before and model.active == 0 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert answer() == before
print(len(list(in_use)) > 1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("name", ["tiny/onnx", "tiny/llama"])
def test_a_forked_process_loads_the_model_again(name: str) -> None:
    if name == "tiny/llama":
        pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.stdout, ended.returncode) == ("True\n", 0), ended.stderr
