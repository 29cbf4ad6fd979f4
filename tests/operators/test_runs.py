"""A run of several answers: every operator works on it as on its answers, one after another."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from reactivex import Observable

from rxllm import operators as ops
from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Json,
    Notice,
    Progress,
    Reasoning,
    Start,
    Token,
    ToolCall,
    ToolResult,
    Usage,
    carried,
)
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED
from tests.operators.test_pipelines import CATALOGUE, Story, answer, events_of, scripts
from tests.profiles import draws

MODEL = ScriptedModel("spare")

SINGLE: dict[str, Callable[[], Callable[[Observable[Chunk]], Observable[Any]]]] = {
    **{name: entry.make for name, entry in CATALOGUE.items()},
    "accumulate": ops.accumulate,
    "analyze": lambda: ops.analyze(ops.StreamAnalytics()),
    "analyze_text": lambda: ops.analyze_text(lambda _: None),
    "cache": lambda: ops.cache(ops.MemoryStore(), "key"),
    "circuit_breaker": lambda: ops.circuit_breaker(ops.CircuitBreaker()),
    "complete_partial": lambda: ops.complete_partial(MODEL, "Hi"),
    "debug": lambda: ops.debug(ops.DebugLog()),
    "fallback_to": lambda: ops.fallback_to(MODEL.stream("Hi")),
    "json_items": lambda: ops.json_items(),
    "keep_partial": ops.keep_partial,
    "limit": lambda: ops.limit(ops.Limiter(requests=1000)),
    "limit_concurrency": lambda: ops.limit_concurrency(ops.Pool(1)),
    "log_stream": ops.log_stream,
    "markdown_to_html": ops.markdown_to_html,
    "meter": lambda: ops.meter(registry=CollectorRegistry()),
    "multiplex": ops.multiplex,
    "price": ops.price,
    "punctuation": lambda: ops.punctuation("typographic"),
    "quality_gate": lambda: ops.quality_gate(lambda _: None, every=1),
    "require_output": ops.require_output,
    "resume": lambda: ops.resume(MODEL, "Hi"),
    "retry_with_backoff": ops.retry_with_backoff,
    "sentiment_and_keywords": lambda: ops.sentiment_and_keywords(lambda _: None),
    "timeouts": lambda: ops.timeouts(first=100, between=100, total=10_000),
    "trace": ops.trace,
    "track": lambda: ops.track(ops.StreamRegistry()),
    "track_stages": ops.track_stages,
    "transcribe": lambda: ops.transcribe(lambda _: None),
}
"""Every operator that takes one stream, and whose output consists of chunks."""

OTHERS = {
    "text",  # strings
    "parse_json",  # below
    *("degrade", "parallel"),  # make streams
    *("best_of", "hedge", "merge_streams", "quick_then_detailed", "race", "side_by_side"),
    *("best_of_with", "hedge_with", "merge_with", "race_with", "side_by_side_with"),
    *("arguments_of", "cache_key", "is_failure_of_model", "read_lexicon"),
    *("not_json", "repeats", "too_slow"),  # conditions
}

CALL = ToolCall("call-1", "look", '{"at"', 0)
CALLS = [CALL, ToolCall("call-1", "look", '{"at": 1}', 0, complete=True)]
RESULTS: list[Any] = [
    ToolResult("call-1", "look", "half", preliminary=True),
    0.05,
    ToolResult("call-1", "look", "snow"),
]
STEP = [*CALLS, Usage(1, 2), End("tool_calls", more=True)]


def test_every_operator_is_looked_at() -> None:
    known = {name.split(" ")[0].split("(")[0].rstrip(",") for name in SINGLE} | {"price"}
    functions = {name for name in ops.__all__ if name[0].islower()}
    assert functions <= known | OTHERS


def shape(events: Sequence[Any]) -> list[Any]:
    """What may not differ: text between the other chunks, and their order."""
    shaped: list[Any] = []
    text = ""
    for event in map(carried, events):
        if isinstance(event, Token | Batch | Progress | Json | ops.Html):
            text += event.text if isinstance(event, Token | Batch) else ""
            text += event.html if isinstance(event, ops.Html) and event.final else ""
            continue
        shaped += [text] if text else []
        text = ""
        if event is not COMPLETED and not (isinstance(event, Reasoning) and not event.text):
            shaped.append(repr(event) if isinstance(event, Exception) else event)
    return [*shaped, text] if text else shaped


def last_states(shaped: list[Any]) -> list[Any]:
    """Without the earlier states of a call or a result, which some operators join."""
    kept = []
    for each, following in itertools.zip_longest(shaped, shaped[1:]):
        if isinstance(each, ToolCall | ToolResult) and type(each) is type(following):
            continue
        kept.append(each)
    return kept


@settings(
    max_examples=draws(300),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)
@given(st.sampled_from(sorted(SINGLE)), scripts(), scripts(), st.booleans())
def test_a_run_is_the_concatenation_of_its_answers(
    name: str,
    one: tuple[str, list[Any]],
    other: tuple[str, list[Any]],
    toggles: bool,
) -> None:
    first = [Start("1", "model"), *one[1], *STEP]
    second = answer(other[1])

    def through(steps: list[Any]) -> list[Any]:
        return last_states(shape(events_of(SINGLE[name]()(Story(steps).stream()), toggles=toggles)))

    of_first = through(first)
    expected = of_first
    if of_first[-1] == STEP[-1]:  # `stop_on` may have ended the run
        expected = [*of_first, RESULTS[-1], *through(second)]
    assert through([*first, *RESULTS, *second]) == expected


@pytest.mark.parametrize(
    "name",
    sorted({*SINGLE} - {"json_items", "markdown_to_html"}),
)
def test_a_restart_takes_back_the_answer_under_way_and_none_before_it(name: str) -> None:
    """Whatever an operator holds when the second answer begins again."""
    run: list[Any] = [
        *[Start("1", "model"), Token("one "), *STEP, *RESULTS],
        *[Start("2", "model"), Token("wrong "), 0.01, Notice("restart")],
        *[Start("3", "model"), Token("two."), Usage(1, 2), End("stop")],
    ]
    events = list(map(carried, events_of(SINGLE[name]()(Story(run).stream()))))
    texts, current = [], ""
    for event in events:
        if isinstance(event, Token | Batch):
            current += event.text
        elif isinstance(event, Notice) and event.kind == "restart":
            current = ""
        elif isinstance(event, End):
            texts.append(current)
            current = ""
    assert [text.strip().lower() for text in texts] == ["one", "two."]
    assert [each for each in events if isinstance(each, ToolResult)][-1] == RESULTS[-1]
