"""`price`: the cost of an answer, from a price table."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from rxllm import operators as ops
from rxllm.chunks import Notice, Start, Usage
from rxllm.errors import RxLLMError
from rxllm.model_table import ModelFacts, ModelTable, Price
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import Marbles

TABLE = ModelTable(
    date(2025, 1, 1),
    {
        "openai/gpt": ModelFacts(price=Price(input=1.0, output=10.0, cached=0.1)),
        "openai/gpt-2024-01-01": ModelFacts(price=Price(input=2.0, output=20.0)),
    },
)
MILLION = Usage(1_000_000, 1_000_000)


def costs(marbles: Marbles, diagram: str, **lookup: Any) -> list[float | None]:
    stream = marbles.cold(diagram, lookup=lookup).pipe(ops.price(TABLE))
    return [chunk.cost for _, chunk in marbles.run(stream) if isinstance(chunk, Usage)]


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (MILLION, 11.0),
        (Usage(1_000_000, 0, cached_tokens=500_000), 0.55),
        (Usage(10, 0, cached_tokens=1_000_000), 1e-6),
        (Usage(0, 0), 0.0),
    ],
)
def test_usage_gets_its_cost(marbles: Marbles, usage: Usage, dollars: float) -> None:
    (priced,) = costs(marbles, "S-a-U-E|", S=Start("1", "openai/gpt"), U=usage)
    assert priced == pytest.approx(dollars)


@pytest.mark.parametrize(
    ("model", "dollars"),
    [
        ("openai/gpt-2024-08-06", 11.0),
        ("openai/gpt-20240806", 11.0),
        ("openai/gpt-2024-01-01", 22.0),
        ("openai/gpt-mini", None),
        ("gpt", None),
    ],
)
def test_a_snapshot_costs_the_same_as_its_model_and_an_unknown_model_has_no_cost(
    marbles: Marbles, model: str, dollars: float | None
) -> None:
    assert costs(marbles, "S-U-E|", S=Start("1", model), U=MILLION) == [dollars]


def test_a_cost_reported_by_the_provider_is_kept(marbles: Marbles) -> None:
    priced = Usage(1, 1, cost=0.25)
    assert costs(marbles, "S-U-E|", S=Start("1", "openai/gpt"), U=priced) == [0.25]


def test_usage_without_a_start_has_no_cost(marbles: Marbles) -> None:
    assert costs(marbles, "a-U-E|", U=MILLION) == [None]


def test_a_fallback_is_priced_as_the_model_that_answered(marbles: Marbles) -> None:
    lookup = {"S": Start("1", "openai/gpt"), "T": Start("2", "tiny/onnx"), "N": Notice("fallback")}
    assert costs(marbles, "S-N-T-U-E|", U=MILLION, **lookup) == [None]


def test_each_source_has_its_own_model(marbles: Marbles) -> None:
    lookup = {
        "S": Start("1", "openai/gpt", source="x"),
        "T": Start("2", "tiny/onnx", source="y"),
        "U": Usage(1_000_000, 0, source="x"),
        "V": Usage(1_000_000, 0, source="y"),
    }
    assert costs(marbles, "S-T-U-V-E|", **lookup) == [1.0, None]


@pytest.mark.parametrize("diagram", ["S-a-b-E|", "|", "-", "S-a-#", "S-a-N-S-b-E|"])
def test_other_chunks_pass_unchanged(marbles: Marbles, diagram: str) -> None:
    failure, lookup = RxLLMError("cut"), {"N": Notice("restart")}
    source = marbles.cold(diagram, lookup=lookup, error=failure)
    expected = marbles.expect(diagram, lookup=lookup, error=failure)
    assert marbles.run(source.pipe(ops.price(TABLE))) == expected


def test_disposal_and_demand_pass_through(marbles: Marbles) -> None:
    source = marbles.cold("S-a-b-c|", demand=True)
    recording = marbles.subscribe(source.pipe(ops.price(TABLE)))
    marbles.valve.close()
    marbles.advance_to(4)
    assert recording.events == []
    recording.dispose()
    assert source.subscriptions == [(0.0, 4.0)]


def test_subscriptions_are_independent(marbles: Marbles) -> None:
    lookup = {"S": Start("1", "openai/gpt"), "U": Usage(1_000_000, 0)}
    stream = marbles.cold("S-U|", lookup=lookup).pipe(ops.price(TABLE))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(10)
    assert first.events == second.events


def test_the_bundled_table_is_the_default(marbles: Marbles) -> None:
    stream = ScriptedModel("Hi", name="openai/gpt-4o", usage=MILLION).stream("Hi").pipe(ops.price())
    (priced,) = [chunk for _, chunk in marbles.run(stream) if isinstance(chunk, Usage)]
    assert priced.cost is not None
    assert priced.cost > 0


def test_tokens_written_to_the_cache_have_their_own_price(marbles: Marbles) -> None:
    prices = Price(input=2.0, output=10.0, cached=0.2, cache_write=2.5)
    usage = Usage(1_000_000, 0, cached_tokens=500_000, cache_write_tokens=100_000)
    assert prices.of(usage) == pytest.approx(0.8 + 0.1 + 0.25)
    assert Price(2.0, 10.0).of(usage) == pytest.approx(2.0)


def test_the_path_of_a_table_is_read_at_the_call(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text('updated = 2026-01-01\n[models."a/b"]\nprice = { input = 1, output = 2 }\n')
    ops.price(path)
    ops.price(str(path))
    path.write_text("x")
    with pytest.raises(ValueError, match="not a valid table of models"):
        ops.price(path)
    with pytest.raises(OSError, match="nowhere"):
        ops.price(tmp_path / "nowhere.toml")
