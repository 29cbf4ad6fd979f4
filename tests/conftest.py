"""What all tests share: `RXLLM_REQUIRE` makes a skipped test fail the run.

No property test has a deadline: on a busy machine a draw takes as long as it takes, and a draw that
hangs is stopped by the limit of its test.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("rxllm", deadline=None)
settings.load_profile("rxllm")


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("RXLLM_REQUIRE"):
        return
    if reporter.stats.get("skipped"):
        reporter.write_line("RXLLM_REQUIRE is set, and tests were skipped: the run has failed")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
