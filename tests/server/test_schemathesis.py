"""Schemathesis finds no request that the server and its OpenAPI document disagree about.

For each operation it derives valid and invalid requests from the document, sends them to a server,
and checks each response. A failure shows the request as a `curl` command.
"""

from __future__ import annotations

import asyncio
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from tests.server.serving import port_of, scripted, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(find_spec("schemathesis") is None, reason="needs schemathesis (extra dev)"),
]

KEY: Final = "secret"
# Schemathesis doesn't count 408 and 413 as rejections.
# The blocks of Anthropic's messages are recursive: to cover them takes thousands of requests.
# `/api/stream` and `/generate` have the same body as `/stream`, where it is covered.
CONFIG: Final = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, "5xx"]

[[operations]]
include-path-regex = "^/(v1/messages|api/stream|generate)"
phases.coverage.enabled = false
"""
OPTIONS: Final = (
    *("--seed", "1", "--generation-database", "none", "--request-timeout", "60"),
    *("--continue-on-failure", "--no-color", "--warnings", "off"),
)


async def run_schemathesis(port: int, directory: Path, *options: str) -> tuple[int | None, str]:
    """Return the exit code and the output of a run against the server on a port."""
    (directory / "schemathesis.toml").write_text(CONFIG)
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run"),
        *(f"http://127.0.0.1:{port}/openapi.json", *OPTIONS, *options),
        cwd=directory,
        env={
            **os.environ,
            "PYTHONPATH": str(root),
            "SCHEMATHESIS_HOOKS": "tests.server.schemathesis_hooks",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


@pytest.mark.parametrize("paths", ["^/v1/", "^/(?:api/|agui)", "^/(?!v1/|api/|agui)"])
async def test_the_server_conforms_to_its_document(paths: str, tmp_path: Path) -> None:
    async with serving(scripted()) as client:
        code, output = await run_schemathesis(
            port_of(client),
            tmp_path,
            *("--include-path-regex", paths, "--phases", "coverage,fuzzing"),
            *("--max-examples", "10", "--exclude-checks", "positive_data_acceptance"),
            # A wrong key would hide all other mismatches.
            *("--generation-with-security-parameters", "false"),
        )
    assert code == 0, output


async def test_a_server_with_a_key_requires_it(tmp_path: Path) -> None:
    async with serving(scripted(api_key=KEY)) as client:
        code, output = await run_schemathesis(
            port_of(client),
            tmp_path,
            *("--header", f"Authorization: Bearer {KEY}", "--checks", "ignored_auth"),
            *("--phases", "fuzzing", "--max-examples", "1"),
        )
    assert code == 0, output
