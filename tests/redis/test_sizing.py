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
COSTS = {  # by the tokens in a flush, in the order of the columns
    float(cells[1]): [float(cell) for cell in cells[2:6]]
    for line in PAGE.splitlines()
    if re.match(r"\| [\d.]+ \|", line) and len(cells := line.split("|")) == 7
}
HOME, READERS, RATE, USE = 93, 1.2, 50, 0.6
WRITE, READ, REDIS_WRITE, REDIS_READ = COSTS[2.5]
BYTES = 16.6


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
    memory = (kept * BYTES + (streams + ended) * (3200 + 4000)) / 1e9
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
        "Redis CPU a token": f"{redis:.2f} us",
        "cores of Redis, one for each shard": f"{shards:,}",
        "tokens in Redis": f"{kept:,}",
        "memory in Redis": f"{rounded(memory):,} GB",
        "`maxmemory`, all shards together": f"{rounded(2 * memory):,} GB",
        "memory of servers": f"{rounded(serving):,} GB",
        "from providers": f"{rounded(tokens * 168 * 8 / 1e9):,} Gbit/s",
        "to clients": f"{rounded(sent * 8 / 1e9):,} Gbit/s",
        "servers to Redis": f"{rounded(tokens * (41 + READERS * 21) * 8 / 1e9):,} Gbit/s",
        "Redis to servers": f"{rounded(tokens * (2 + READERS * 41) * 8 / 1e9):,} Gbit/s",
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
    for flushed, words in (
        (2.5, r"([\d,]+) tokens/s: \*\*([\d,]+) such streams"),
        (5.0, r"([\d,]+) tokens/s, or ([\d,]+)\sstreams"),
    ):
        microseconds = COSTS[flushed][2] + READERS * COSTS[flushed][3]
        [(tokens, streams)] = re.findall(words, PAGE)
        assert tokens == f"{whole(USE / microseconds * 1e6):,}"
        assert streams == f"{int(USE / microseconds * 1e6 / RATE):,}"
        assert f"{microseconds:.2f} us" in PAGE


def test_the_processes_and_groups_of_the_text_are_those_of_the_table() -> None:
    small, large = (int(ROWS["cores of servers"][at].replace(",", "")) for at in (1, 2))
    [shards] = re.findall(r"The (\d+) shards don't exist", PAGE)
    assert shards == ROWS["cores of Redis, one for each shard"][1]
    text = " ".join(PAGE.split())
    assert f"{small:,} processes on every shard are {2 * small:,}, below" in text
    assert f"the {2 * large:,} of 10^6 streams are not" in text
    assert f"of {small:,}, each has its own" in text
    server = float(ROWS["server CPU a token"][1].removesuffix(" us"))
    [(streams, again, us, cores)] = re.findall(
        r"\(([\d,]+) streams of the table need ([\d,]+) x 50 x ([\d.]+) us / 0.6 = "
        r"([\d.]+) cores\)",
        text,
    )
    assert (again, float(us)) == (streams, server)
    assert cores == f"{tenths(int(streams.replace(',', '')) * RATE * server / USE / 1e6)}"
    assert f"**{streams} such streams" in text


def test_costs_fall_with_the_tokens_in_a_flush() -> None:
    assert sorted(COSTS) == [1.0, 2.5, 5.0]
    for column in zip(*(COSTS[flushed] for flushed in sorted(COSTS)), strict=True):
        assert list(column) == sorted(column, reverse=True)
