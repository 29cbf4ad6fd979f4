"""Shared set-up: `RXLLM_REQUIRE` makes skipped tests fail the run, and Ctrl-C works.

A shell starts its background jobs with SIGINT ignored, and every child inherits that. The run
restores the signal, so that tests of Ctrl-C behave the same wherever the run was started.

A property draws a fifth of its examples (the profile `quick`), or all of them (`full`) if
everything is required, as in CI. There is no deadline per example, since a busy machine may be
slow; an example that hangs is stopped by the timeout of its test.
"""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

settings.register_profile("full", deadline=None, max_examples=100)
settings.register_profile("quick", deadline=None, max_examples=20)
settings.load_profile("full" if os.environ.get("RXLLM_REQUIRE") else "quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store",
        choices=["memory", "redis"],
        default="memory",
        help="where the apps of tests/server keep their streams",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about the store in memory, if another one is asked for."""
    if config.getoption("--store") != "memory":
        left_out = [each for each in items if each.get_closest_marker("memory_store")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [each for each in items if each not in left_out]


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("RXLLM_REQUIRE"):
        return
    if reporter.stats.get("skipped"):
        reporter.write_line("RXLLM_REQUIRE is set, but tests were skipped: the run failed")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
