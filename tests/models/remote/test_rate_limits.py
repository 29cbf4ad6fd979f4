"""The rate limits in the headers of each provider."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

import rxllm
from rxllm.chunks import RateLimit, RateLimits, Start
from rxllm.models.remote.rate_limits import rate_limits_in
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.provider_streams import openai_events


def openai(reset: str) -> RateLimit | None:
    limits = rate_limits_in(
        {"x-ratelimit-remaining-requests": "4", "x-ratelimit-reset-requests": reset}
    )
    return None if limits is None else limits.requests


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("1s", 1.0), ("20ms", 0.02), ("6m0s", 360.0), ("1h2m3.5s", 3723.5), ("2", 2.0), ("0", 0.0)],
)
def test_durations(given: str, seconds: float) -> None:
    found = openai(given)
    assert found is not None
    assert found.reset == pytest.approx(seconds)


@pytest.mark.parametrize(
    "given", ["", "soon", "1x", "s", "inf", "-inf", "nan", "1e400", "-1", "-30.5"]
)
def test_a_reset_that_can_not_be_read_is_not_known(given: str) -> None:
    assert openai(given) == RateLimit(4, None, None)


def test_times() -> None:
    soon = time.time() + 30
    for given in (str(int(soon * 1000)), str(soon), datetime.fromtimestamp(soon, UTC).isoformat()):
        found = openai(given)
        assert found is not None
        assert found.reset == pytest.approx(30, abs=2)
    assert openai(str(time.time() - 30)) == RateLimit(4, None, 0.0)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("2030-01-20T00:00:30Z", 31.0),
        ("2030-01-20T00:00:30+00:00", 31.0),
        ("2030-01-20T00:00:30.5Z", 30.5),
        ("2030-01-20T01:00:30+01:00", 31.0),
    ],
)
def test_a_time_in_whole_seconds_may_have_been_truncated(
    monkeypatch: pytest.MonkeyPatch, given: str, seconds: float
) -> None:
    now = datetime(2030, 1, 20, tzinfo=UTC).timestamp()
    monkeypatch.setattr("rxllm.models.remote.rate_limits.time.time", lambda: now)
    assert openai(given) == RateLimit(4, None, seconds)
    assert openai(str(int(now) + 30)) == RateLimit(4, None, 31.0)
    assert openai(f"{now + 30:.1f}") == RateLimit(4, None, 30.0)
    assert openai(str(int(now + 30) * 1000)) == RateLimit(4, None, 30.0)


@pytest.mark.parametrize(
    ("headers", "limits"),
    [
        ({"x-ratelimit-limit-requests": "5", "x-ratelimit-remaining-requests": "4",
          "x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "6m0s"},
         RateLimits(RateLimit(4, 5), RateLimit(149984, None, 360.0))),
        ({"anthropic-ratelimit-requests-limit": "50",
          "anthropic-ratelimit-requests-remaining": "0"}, RateLimits(RateLimit(0, 50))),
        ({"x-ratelimit-limit": "20", "x-ratelimit-remaining": "19"}, RateLimits(RateLimit(19, 20))),
        ({"x-ratelimit-remaining-requests": "-1"}, RateLimits(RateLimit(0))),
        ({"x-ratelimit-remaining-requests": "many"}, None),
        ({"ratelimit-limit": "20", "ratelimit-remaining": "3", "ratelimit-reset": "7"},
         RateLimits(RateLimit(3, 20, 7.0))),
        ({"ratelimit-limit": "20, 20;w=60, 900;w=3600", "ratelimit-remaining": "3"},
         RateLimits(RateLimit(3, 20))),
        ({"ratelimit-limit": "10, 900", "ratelimit-remaining": "5, 100", "ratelimit-reset": "1, 9"},
         RateLimits(RateLimit(5, 10, 1.0))),
        ({"ratelimit-limit": "10, 900", "ratelimit-remaining": "8, 2", "ratelimit-reset": "1, 9"},
         RateLimits(RateLimit(2, 900, 9.0))),
        ({"anthropic-ratelimit-input-tokens-remaining": "900",
          "anthropic-ratelimit-output-tokens-remaining": "80",
          "anthropic-ratelimit-output-tokens-limit": "100"},
         RateLimits(None, RateLimit(80, 100))),
        ({"anthropic-ratelimit-tokens-remaining": "70",
          "anthropic-ratelimit-input-tokens-remaining": "60",
          "anthropic-ratelimit-input-tokens-limit": "99"}, RateLimits(None, RateLimit(60, 99))),
        ({"x-ratelimit-remaining-req-minute": "3", "x-ratelimit-limit-req-minute": "6",
          "x-ratelimit-remaining-tokens-minute": "500",
          "x-ratelimit-limit-tokens-minute": "900"},
         RateLimits(RateLimit(3, 6), RateLimit(500, 900))),
        ({"x-ratelimit-remaining": "3", "x-ratelimit-remaining-requests": "9"},
         RateLimits(RateLimit(9))),
        ({"content-type": "text/event-stream"}, None),
    ],
)  # fmt: skip
def test_headers(headers: dict[str, str], limits: RateLimits | None) -> None:
    assert rate_limits_in(headers) == limits


async def test_the_start_of_a_stream_has_them() -> None:
    headers = {"x-ratelimit-remaining-requests": "4"}
    async with FaultServer(Reply(openai_events("a"), headers=headers)) as server:
        model: Any = rxllm.model("openai/gpt", api_key="k", base_url=server.url)
        chunks = [chunk async for chunk in model.stream("Hi")]
    (start,) = [chunk for chunk in chunks if isinstance(chunk, Start)]
    assert start.rate_limits == RateLimits(RateLimit(4))
