"""Programs for Node, with pinned npm packages: other people's clients."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

__all__ = ["FOLDER", "NodeReader", "installed"]

FOLDER = Path(__file__).parent / "node"
NODE, NPM = shutil.which("node"), shutil.which("npm")


@cache
def installed() -> Path:
    """Return the folder with the packages; skip the test if they can't be installed."""
    if NODE is None or NPM is None:
        pytest.skip("there is no Node with npm")
    done = FOLDER / "node_modules" / ".installed"
    lock = (FOLDER / "package-lock.json").read_text()
    if not done.exists() or done.read_text() != lock:
        command = [NPM, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        made = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True)
        if made.returncode != 0:
            pytest.skip(f"npm could not install the clients: {made.stderr[-500:]}")
        done.write_text(lock)
    return FOLDER


class NodeReader:
    """A running `verify.mjs`, which reads streams as the clients of their wires do."""

    def __init__(self) -> None:
        folder = installed()
        assert NODE is not None
        self._process = subprocess.Popen(
            [NODE, "verify.mjs"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "NODE_ENV": "production"},
        )

    def read(self, wire: str, body: bytes) -> dict[str, Any]:
        """Return what the client makes of the body of a response."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = json.dumps({"wire": wire, "body": body.decode()})
        self._process.stdin.write(asked.encode() + b"\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()
