"""The page about several servers calculates correctly."""

from __future__ import annotations

import math
import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest

import rxllm.server

PAGE = Path(rxllm.server.__file__).with_name("SCALING.md").read_text(encoding="utf-8")
ROWS = {
    cells[1]: cells[2:]
    for line in PAGE.splitlines()
    if len(cells := [cell.strip() for cell in line.split("|")]) == 6
}
HOME, WRITE, REDIS_WRITE, REDIS_READ, READ = 93, 24 - 4, 12, 4, 21
READERS, RATE, USE = 1.2, 50, 0.6


def rounded(value: float, digits: int = 1) -> Decimal:
    """Round as on paper: half up."""
    return Decimal(repr(round(value, 6))).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)


def tenths(value: float) -> float:
    return float(rounded(value))


def whole(value: float) -> int:
    return int(rounded(value, 0))


def sizes(streams: int) -> dict[str, str]:
    """Return the column for so many streams, each row rounded as on the page."""
    tokens = streams * RATE
    server = HOME + WRITE + READERS * (READ + HOME)
    redis = REDIS_WRITE + READERS * REDIS_READ
    servers = math.ceil(round(tokens * server / 1e6 / USE, 3))
    shards = math.ceil(round(tokens * redis / 1e6 / USE, 3))
    ended = streams // 20 * 30
    kept = streams * 500 + ended * 1000
    memory = (kept * 31.7 + (streams + ended) * (490 + 4000)) / 1e9
    serving = (streams * (1 + READERS) * 104 * 1024 + servers * 80e6) / 1e9
    sent = tokens * (1 + READERS) * 170
    usd = (
        (servers + shards) * 25,
        whole((tenths(2 * memory) + serving) * 3),
        whole(sent / 1e9 * 2_628_000 * 0.01),
    )
    return {
        "tokens a second": f"{tokens:,}",
        "server CPU a token": f"{server:.1f} us",
        "cores of servers": f"{servers:,}",
        "Redis CPU a token": f"{redis:.1f} us",
        "cores of Redis, one for each shard": f"{shards:,}",
        "tokens in Redis": f"{kept:,}",
        "memory in Redis": f"{rounded(memory):,} GB",
        "`maxmemory`, all shards together": f"{rounded(2 * memory):,} GB",
        "memory of servers": f"{rounded(serving):,} GB",
        "from providers": f"{rounded(tokens * 168 * 8 / 1e9):,} Gbit/s",
        "to clients": f"{rounded(sent * 8 / 1e9):,} Gbit/s",
        "servers to Redis": f"{rounded(tokens * (277 + READERS * 85) * 8 / 1e9):,} Gbit/s",
        "Redis to servers": f"{rounded(tokens * READERS * 120 * 8 / 1e9):,} Gbit/s",
        "USD a month for cores": f"{usd[0]:,}",
        "USD a month for memory": f"{usd[1]:,}",
        "USD a month for traffic": f"{usd[2]:,}",
        "USD a month, without models": f"{sum(usd):,}",
    }


@pytest.mark.parametrize(("column", "streams"), [(1, 10**5), (2, 10**6)])
def test_each_row_of_the_table_is_what_its_arithmetic_gives(column: int, streams: int) -> None:
    expected = sizes(streams)
    assert {name: ROWS[name][column] for name in expected} == expected


def test_so_many_streams_fit_on_one_redis() -> None:
    for microseconds, words in (
        (REDIS_WRITE + READERS * REDIS_READ, r"([\d,]+) tokens/s: \*\*([\d,]+) such streams"),
        (READERS * 4.8, r"([\d,]+) tokens/s, or ([\d,]+)\sstreams"),
    ):
        [(tokens, streams)] = re.findall(words, PAGE)
        assert tokens == f"{whole(USE / microseconds * 1e6):,}"
        assert streams == f"{int(USE / microseconds * 1e6 / RATE):,}"
