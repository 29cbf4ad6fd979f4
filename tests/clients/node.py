"""Programs for Node, with pinned npm packages: other people's clients."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

__all__ = ["NODE", "NodeReader", "installed"]

SOURCES = Path(__file__).parent / "node"
FOLDER = Path(__file__).parents[2] / "build" / "clients"
NODE, NPM = shutil.which("node"), shutil.which("npm")


@cache
def installed() -> Path:
    """Return a folder with the programs and their packages; skip the test if that can't be."""
    if NODE is None or NPM is None:
        pytest.skip("there is no Node with npm")
    lock = (SOURCES / "package-lock.json").read_bytes()
    folder = FOLDER / sha256(lock).hexdigest()[:16]
    if not folder.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=FOLDER))
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SOURCES / name, made)
        command = [NPM, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, cwd=made, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"npm could not install the clients: {done.stderr[-500:]}")
        try:
            made.rename(folder)
        except OSError:  # another worker was faster
            shutil.rmtree(made)
    for program in (*SOURCES.glob("*.mjs"), *SOURCES.glob("*.jsx")):
        target = folder / program.name
        if not target.exists() or target.read_bytes() != program.read_bytes():
            partial = folder / f"{program.name}.{os.getpid()}"
            shutil.copy(program, partial)
            partial.rename(target)
    return folder


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
