"""`meter`: Prometheus metrics of streams."""

import builtins
import gc
import weakref
from typing import Any

import prometheus_client
import pytest
import reactivex as rx
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, ErrorInfo, Start, Token, ToolCall, ToolResult, Usage
from rxllm.errors import RateLimitError
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import Marbles

DURATION = "gen_ai_client_inference_duration_seconds"
INPUT = "gen_ai_client_inference_usage_input_tokens_total"
OUTPUT = "gen_ai_client_inference_usage_output_tokens_total"
SIZES = "gen_ai_client_inference_operation_output_tokens"
FIRST = "gen_ai_client_inference_time_to_first_chunk_seconds"
BETWEEN = "gen_ai_client_inference_time_per_output_chunk_seconds"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def samples(registry: CollectorRegistry, name: str) -> list[tuple[dict[str, str], float]]:
    """The samples with a name, without the common labels."""
    return [
        ({k: v for k, v in sample.labels.items() if k != "gen_ai_operation_name"}, sample.value)
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == name
    ]


MODEL = {
    "gen_ai_provider_name": "openai",
    "gen_ai_request_model": "gpt",
    "gen_ai_response_model": "gpt",
}
TEXT = {**MODEL, "gen_ai_token_modality": "text"}
CHUNKS: dict[str, Chunk] = {"S": Start("1", "gpt", "openai"), "U": Usage(70, 5)}


def test_an_operation_that_completes(marbles: Marbles, registry: CollectorRegistry) -> None:
    marbles.run(marbles.cold("S--a-b-c-U-E|", lookup=CHUNKS).pipe(ops.meter(registry)))
    assert samples(registry, f"{DURATION}_sum") == [({**MODEL, "error_type": ""}, 12.0)]
    assert samples(registry, INPUT) == [(TEXT, 70.0)]
    assert samples(registry, OUTPUT) == [(TEXT, 5.0)]
    assert samples(registry, f"{SIZES}_sum") == [(TEXT, 5.0)]
    assert samples(registry, f"{FIRST}_sum") == [(MODEL, 3.0)]
    assert samples(registry, f"{BETWEEN}_sum") == [(MODEL, 4.0)]
    assert samples(registry, f"{BETWEEN}_count") == [(MODEL, 2.0)]


def test_details_of_the_usage_are_counted(marbles: Marbles, registry: CollectorRegistry) -> None:
    usage = Usage(70, 5, cached_tokens=3, cache_write_tokens=2, reasoning_tokens=1)
    marbles.run(marbles.cold("S-a-U|", lookup={**CHUNKS, "U": usage}).pipe(ops.meter(registry)))
    for name, count in (
        ("cache_read_input", 3.0),
        ("cache_write_input", 2.0),
        ("reasoning_output", 1.0),
    ):
        counted = samples(registry, f"gen_ai_client_inference_usage_{name}_tokens_total")
        assert counted == [(TEXT, count)]


def test_a_prometheus_parser_reads_the_metrics(
    marbles: Marbles, registry: CollectorRegistry
) -> None:
    stream = marbles.cold("S--a-b-c-U-E|", lookup=CHUNKS).pipe(ops.meter(registry))
    marbles.run(stream)
    text = prometheus_client.generate_latest(registry).decode()
    families = {each.name: each for each in text_string_to_metric_families(text)}
    assert families[BETWEEN].type == families[DURATION].type == "histogram"
    counts = [
        (sample.labels["le"], sample.value)
        for sample in families[BETWEEN].samples
        if sample.name.endswith("_bucket")
    ]
    assert [value for _, value in counts] == sorted(value for _, value in counts)
    assert dict(counts)["1.28"] == 0
    assert dict(counts)["2.56"] == dict(counts)["+Inf"] == 2


def test_the_buckets_are_those_of_the_conventions(registry: CollectorRegistry) -> None:
    ops.meter(registry)
    marbles = Marbles()
    marbles.run(marbles.cold("S-a-b-U|", lookup=CHUNKS).pipe(ops.meter(registry)))

    def bounds(name: str) -> list[float]:
        return sorted({float(labels["le"]) for labels, _ in samples(registry, f"{name}_bucket")})

    assert bounds(DURATION)[:2] == [0.01, 0.02]
    assert bounds(DURATION)[-2] == 81.92
    assert bounds(SIZES)[:3] == [1.0, 4.0, 16.0]
    assert bounds(SIZES)[-2] == 67108864.0
    assert bounds(FIRST) == bounds(BETWEEN) == bounds(DURATION)


def test_without_usage_none_is_counted_and_a_batch_is_one_chunk(
    marbles: Marbles, registry: CollectorRegistry
) -> None:
    batch = Batch((Token("a"), Token("b"), Token("c")), "abc")
    marbles.run(marbles.cold("S-B-d-E|", lookup={"B": batch}).pipe(ops.meter(registry)))
    assert samples(registry, OUTPUT) == []
    assert [value for _, value in samples(registry, f"{BETWEEN}_sum")] == [2.0]


def test_failures_and_cancellations_are_counted_by_their_error(
    marbles: Marbles, registry: CollectorRegistry
) -> None:
    operator = ops.meter(registry)
    marbles.subscribe(marbles.cold("S-a-#", lookup=CHUNKS, error=RateLimitError("")).pipe(operator))
    leaving = marbles.subscribe(marbles.cold("S-a-b|", lookup=CHUNKS).pipe(operator))
    marbles.advance_to(3)
    leaving.dispose()
    marbles.advance_to(9)
    assert samples(registry, f"{DURATION}_sum") == [
        ({**MODEL, "error_type": "cancelled"}, 3.0),
        ({**MODEL, "error_type": "RateLimitError"}, 4.0),
    ]
    assert samples(registry, f"{FIRST}_count") == [(MODEL, 2.0)]


def test_a_failure_before_the_start_is_counted_for_the_requested_model(
    marbles: Marbles, registry: CollectorRegistry
) -> None:
    marbles.run(marbles.cold("#").pipe(ops.meter(registry)), until=9)
    marbles.run(marbles.cold("#").pipe(ops.meter(registry, model="gpt", provider="openai")))
    labels = [labels for labels, _ in samples(registry, f"{DURATION}_count")]
    assert [each["gen_ai_request_model"] for each in labels] == ["unknown", "gpt"]
    assert [each["gen_ai_provider_name"] for each in labels] == ["unknown", "openai"]


def test_active_streams_are_counted_while_they_run(
    marbles: Marbles, registry: CollectorRegistry
) -> None:
    stream = marbles.cold("S-a-b|").pipe(ops.meter(registry))
    marbles.subscribe(stream)
    marbles.subscribe(stream).dispose()
    assert registry.get_sample_value("rxllm_active_streams") == 1
    marbles.advance_to(9)
    assert registry.get_sample_value("rxllm_active_streams") == 0


def test_a_restart_is_no_gap_and_keeps_the_usage(
    marbles: Marbles, registry: CollectorRegistry
) -> None:
    chunks = {**CHUNKS, "V": Usage(70, 3)}
    diagram = "S-a-b-U-R-S-a-b-c-V|"
    marbles.run(marbles.cold(diagram, lookup=chunks).pipe(ops.meter(registry)))
    assert [samples(registry, name)[0][1] for name in (INPUT, OUTPUT)] == [140.0, 8.0]
    assert [value for _, value in samples(registry, f"{BETWEEN}_sum")] == [6.0]


def test_any_number_of_calls_share_a_registry(
    marbles: Marbles, registry: CollectorRegistry
) -> None:
    for _ in range(3):
        marbles.run(marbles.cold("S|", lookup=CHUNKS).pipe(ops.meter(registry)), until=None)
    assert [value for _, value in samples(registry, f"{DURATION}_count")] == [3.0]


def test_without_a_registry_the_global_one_is_used(marbles: Marbles) -> None:
    marbles.run(marbles.cold("S|", lookup=CHUNKS).pipe(ops.meter(), ops.meter()))
    assert samples(prometheus_client.REGISTRY, f"{DURATION}_count")[0][1] == 2.0


def test_a_registry_is_not_kept_alive() -> None:
    registry = CollectorRegistry()
    ops.meter(registry)
    gone = weakref.ref(registry)
    del registry
    gc.collect()
    assert gone() is None


def test_the_labels_are_bounded(registry: CollectorRegistry) -> None:
    for number in range(130):
        marbles = Marbles()
        chunks = {"S": Start("1", f"model {number}", "openai")}
        marbles.run(marbles.cold("S|", lookup=chunks).pipe(ops.meter(registry)))
    counted = samples(registry, f"{DURATION}_count")
    assert len(counted) == 101
    assert [value for labels, value in counted if labels["gen_ai_request_model"] == "other"] == [
        30.0
    ]


def test_metrics_registered_by_other_code_raise_at_the_call(registry: CollectorRegistry) -> None:
    Gauge(DURATION, "somebody else's", registry=registry)
    for _ in range(2):
        with pytest.raises(ValueError, match=DURATION):
            ops.meter(registry)
    assert registry.get_sample_value("rxllm_active_streams") is None


def test_without_prometheus_client_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def importing(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "prometheus_client":
            raise ModuleNotFoundError(name)
        return original(name, *arguments, **options)

    original = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(ImportError, match=r"pip install 'rxllm\[metrics\]'"):
        ops.meter()


def test_everything_is_passed_on_and_demand_passes_through(
    marbles: Marbles, registry: CollectorRegistry
) -> None:
    stream = marbles.cold("S-a-R-b-E|").pipe(ops.meter(registry))
    assert marbles.run(stream, until=50) == marbles.expect("S-a-R-b-E|")
    marbles.valve.close()
    source = marbles.cold("a-b", demand=True)
    recording = marbles.subscribe(source.pipe(ops.meter(registry)))
    marbles.advance_to(99)
    recording.dispose()
    assert (recording.events, source.subscriptions) == ([], [(50.0, 99.0)])
    assert marbles.timers == []


def test_a_merge_is_one_operation(marbles: Marbles, registry: CollectorRegistry) -> None:
    streams = [marbles.cold("S-a-U|", lookup=CHUNKS, source=name) for name in ("left", "right")]
    marbles.run(rx.merge(*streams).pipe(ops.meter(registry)))
    assert [value for _, value in samples(registry, f"{DURATION}_count")] == [1.0]
    assert [samples(registry, name)[0][1] for name in (INPUT, OUTPUT)] == [140.0, 10.0]


def test_in_a_merge_each_source_has_its_own_gaps(
    marbles: Marbles, registry: CollectorRegistry
) -> None:
    left = marbles.cold("a-a-a-a-U|", lookup={"U": Usage(5, 2)}, source="left")
    right = marbles.cold("b-b-b-b-b-b-b-b--|", source="right")
    marbles.run(rx.merge(left, right).pipe(ops.meter(registry)), until=99)
    assert [value for _, value in samples(registry, f"{BETWEEN}_sum")] == [6.0 + 14.0]


def test_in_a_merge_a_restart_of_one_source_keeps_the_gaps_of_others(
    marbles: Marbles, registry: CollectorRegistry
) -> None:
    left = marbles.cold("a-b-U-R-c-d---|", lookup={"U": Usage(70, 9)}, source="left")
    right = marbles.cold("x--------y-V|", lookup={"V": Usage(7, 5)}, source="right")
    marbles.run(rx.merge(left, right).pipe(ops.meter(registry)), until=99)
    assert [samples(registry, name)[0][1] for name in (INPUT, OUTPUT)] == [77.0, 14.0]
    assert [value for _, value in samples(registry, f"{BETWEEN}_sum")] == [2.0 + 2.0 + 9.0]


@pytest.mark.parametrize(
    "wrong", [{"registry": "metrics"}, {"agent": 3}, {"model": 3}, {"provider": 3}]
)
def test_invalid_arguments_raise_at_the_call(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(wrong))):
        ops.meter(**wrong)


def test_fifty_streams_in_virtual_time(registry: CollectorRegistry) -> None:
    model = ScriptedModel("word " * 20, by="word", delay=0.05, first_delay=0.5)
    marbles = Marbles()
    for _ in range(50):
        marbles.subscribe(model.stream("Hi").pipe(ops.meter(registry)))
    marbles.advance_to(60)
    ((_, count),) = samples(registry, f"{FIRST}_count")
    ((_, first),) = samples(registry, f"{FIRST}_sum")
    ((_, between),) = samples(registry, f"{BETWEEN}_sum")
    ((_, gaps),) = samples(registry, f"{BETWEEN}_count")
    assert count == 50
    assert first / 50 == pytest.approx(0.5)
    assert gaps == 50 * 20
    assert between / gaps == pytest.approx(0.05, rel=0.02)


# Runs

RUNS = "gen_ai_invoke_agent_duration_seconds"
ANSWERS = "gen_ai_invoke_agent_inference_calls"
CALLS = "gen_ai_invoke_agent_tool_calls"
TOOLS = "gen_ai_execute_tool_duration_seconds"


def call(call_id: str, name: str = "look", source: str | None = None) -> ToolCall:
    return ToolCall(call_id, name, "{}", complete=True, source=source)


def failed(call_id: str, error: str, name: str = "look") -> ToolResult:
    return ToolResult(call_id, name, error=ErrorInfo(error, "secret"))


RUN: dict[str, Chunk] = {
    **CHUNKS,
    "c": call("1"),
    "d": call("2", "dig"),
    "M": End("tool_calls", more=True),
    "r": ToolResult("1", "look", "there"),
    "f": failed("2", "ToolError", "dig"),
    "T": Start("2", "gpt", "openai"),
    "V": Usage(90, 7),
}


def test_each_answer_of_a_run_is_an_operation_without_the_time_of_tools(
    marbles: Marbles, registry: CollectorRegistry
) -> None:
    stream = marbles.cold("--S-a-c-U-M-----r-T---b-V-E|", lookup=RUN)
    marbles.run(stream.pipe(ops.meter(registry, agent="helper")))
    assert samples(registry, f"{DURATION}_count") == [({**MODEL, "error_type": ""}, 2.0)]
    assert samples(registry, f"{DURATION}_sum") == [({**MODEL, "error_type": ""}, 10.0 + 10.0)]
    assert samples(registry, f"{FIRST}_sum") == [(MODEL, 4.0 + 6.0)]
    assert samples(registry, f"{BETWEEN}_count") == [(MODEL, 1.0)]
    assert samples(registry, f"{BETWEEN}_sum") == [(MODEL, 2.0)]
    assert [samples(registry, name)[0][1] for name in (INPUT, OUTPUT)] == [160.0, 12.0]
    assert samples(registry, f"{SIZES}_count") == [(TEXT, 2.0)]


def test_a_run_is_counted_with_its_answers_and_calls(
    marbles: Marbles, registry: CollectorRegistry
) -> None:
    stream = marbles.cold("S-c-d-M-r-f-T-b-E|", lookup=RUN)
    marbles.run(stream.pipe(ops.meter(registry, agent="helper")))
    agent = {"gen_ai_agent_name": "helper"}
    assert samples(registry, f"{RUNS}_sum") == [({**agent, "error_type": ""}, 17.0)]
    assert samples(registry, f"{ANSWERS}_sum") == [(agent, 2.0)]
    assert samples(registry, f"{CALLS}_sum") == [(agent, 2.0)]
    assert samples(registry, f"{TOOLS}_sum") == [
        ({"gen_ai_tool_name": "look", **agent, "error_type": ""}, 2.0),
        ({"gen_ai_tool_name": "dig", **agent, "error_type": "ToolError"}, 4.0),
    ]


def test_a_stream_that_is_no_run_is_none(marbles: Marbles, registry: CollectorRegistry) -> None:
    marbles.run(marbles.cold("S-a-c-E|", lookup=RUN).pipe(ops.meter(registry)))
    assert [samples(registry, f"{name}_count") for name in (RUNS, ANSWERS, CALLS, TOOLS)] == [
        []
    ] * 4
    assert [value for _, value in samples(registry, f"{DURATION}_sum")] == [7.0]


def test_without_a_name_the_agent_is_empty(marbles: Marbles, registry: CollectorRegistry) -> None:
    marbles.run(marbles.cold("S-c-M-r-T-b-E|", lookup=RUN).pipe(ops.meter(registry)))
    assert samples(registry, f"{ANSWERS}_sum") == [({"gen_ai_agent_name": ""}, 2.0)]


def test_a_nested_run_is_counted_as_answers_and_tools_but_not_of_the_outer_run(
    marbles: Marbles, registry: CollectorRegistry
) -> None:
    inside: dict[str, Chunk] = {
        **RUN,
        "1": Start("3", "small", "here", source="1"),
        "x": Token("x", source="1"),
        "p": call("1", "probe", "1"),
        "m": End("tool_calls", more=True, source="1"),
        "q": ToolResult("1", "probe", 1, source="1"),
        "2": Start("4", "small", "here", source="1"),
        "e": End("stop", source="1"),
    }
    stream = marbles.cold("S-c-M-1-x-p-m-q-2-x-x-e-r-T-b-E|", lookup=inside)
    marbles.run(stream.pipe(ops.meter(registry)))
    small = {
        "gen_ai_provider_name": "here",
        "gen_ai_request_model": "small",
        "gen_ai_response_model": "small",
    }
    assert samples(registry, f"{DURATION}_count") == [
        ({**MODEL, "error_type": ""}, 2.0),
        ({**small, "error_type": ""}, 2.0),
    ]
    assert samples(registry, f"{BETWEEN}_count") == [(MODEL, 0.0), (small, 2.0)]
    assert samples(registry, f"{BETWEEN}_sum") == [(MODEL, 0.0), (small, 4.0)]
    assert [samples(registry, f"{name}_sum")[0][1] for name in (ANSWERS, CALLS)] == [2.0, 1.0]
    tools = [labels["gen_ai_tool_name"] for labels, _ in samples(registry, f"{TOOLS}_count")]
    assert tools == ["probe", "look"]


def test_in_a_merge_of_runs_the_time_between_answers_is_no_gap(
    marbles: Marbles, registry: CollectorRegistry
) -> None:
    left = marbles.cold("S-a-b-c-M-----r-T-a-b-E|", lookup=RUN, source="left")
    right = marbles.cold("S-a-----b-E|", lookup=RUN, source="right")
    marbles.run(rx.merge(left, right).pipe(ops.meter(registry)), until=99)
    assert [value for _, value in samples(registry, f"{BETWEEN}_sum")] == [2.0 + 2.0 + 2.0 + 6.0]


def test_a_run_that_fails_counts_the_answer_that_was_asked_for(
    marbles: Marbles, registry: CollectorRegistry
) -> None:
    source = marbles.cold("S-c-M-r---#", lookup=RUN, error=RateLimitError(""))
    marbles.run(source.pipe(ops.meter(registry)))
    assert samples(registry, f"{DURATION}_sum") == [
        ({**MODEL, "error_type": ""}, 4.0),
        ({**MODEL, "gen_ai_response_model": "unknown", "error_type": "RateLimitError"}, 4.0),
    ]
    assert [labels["error_type"] for labels, _ in samples(registry, f"{RUNS}_count")] == [
        "RateLimitError"
    ]
    assert [value for _, value in samples(registry, f"{ANSWERS}_sum")] == [2.0]


def test_disposal_amid_tools_counts_the_open_ones_as_cancelled(
    marbles: Marbles, registry: CollectorRegistry
) -> None:
    stream = marbles.cold("S-c-d-M-r-------T", lookup=RUN).pipe(ops.meter(registry))
    recording = marbles.subscribe(stream)
    marbles.advance_to(12)
    recording.dispose()
    tools = [(labels["error_type"], value) for labels, value in samples(registry, f"{TOOLS}_sum")]
    assert tools == [("", 2.0), ("cancelled", 6.0)]
    assert [labels["error_type"] for labels, _ in samples(registry, f"{RUNS}_count")] == [
        "cancelled"
    ]
    assert [value for _, value in samples(registry, f"{DURATION}_count")] == [1.0]
    assert registry.get_sample_value("rxllm_active_streams") == 0


def test_names_that_a_model_invents_are_one_label(registry: CollectorRegistry) -> None:
    for number in range(130):
        error = "UnknownToolError" if number % 2 else "LimitError"
        chunks = {
            **RUN,
            "c": call("1", f"tool {number}"),
            "r": failed("1", error, f"tool {number}"),
        }
        marbles = Marbles()
        marbles.run(marbles.cold("S-c-M-r-T-b-E|", lookup=chunks).pipe(ops.meter(registry)))
    counted = {
        (labels["gen_ai_tool_name"], labels["error_type"]): value
        for labels, value in samples(registry, f"{TOOLS}_count")
    }
    assert counted == {("unknown", "UnknownToolError"): 65.0, ("unknown", "LimitError"): 65.0}


def test_a_known_tool_keeps_its_name_whatever_its_error(
    marbles: Marbles, registry: CollectorRegistry
) -> None:
    chunks = {**RUN, "d": call("2"), "f": failed("2", "LimitError")}
    marbles.run(marbles.cold("S-c-M-r-T-d-M-f-E|", lookup=chunks).pipe(ops.meter(registry)))
    tools = [labels["gen_ai_tool_name"] for labels, _ in samples(registry, f"{TOOLS}_count")]
    assert tools == ["look", "look"]


def test_the_names_of_tools_and_of_their_errors_are_bounded(registry: CollectorRegistry) -> None:
    for number in range(130):
        name = f"tool {number}"
        chunks = {**RUN, "c": call("1", name), "r": failed("1", f"Error{number}", name)}
        marbles = Marbles()
        marbles.run(marbles.cold("S-c-M-r-T-b-E|", lookup=chunks).pipe(ops.meter(registry)))
    counted = [labels for labels, _ in samples(registry, f"{TOOLS}_count")]
    assert len(counted) == 101
    assert (counted[-1]["gen_ai_tool_name"], counted[-1]["error_type"]) == ("other", "other")


def test_the_buckets_of_runs_are_those_of_the_conventions(
    marbles: Marbles, registry: CollectorRegistry
) -> None:
    marbles.run(marbles.cold("S-c-M-r-T-b-E|", lookup=RUN).pipe(ops.meter(registry)))

    def bounds(name: str) -> list[float]:
        return sorted({float(labels["le"]) for labels, _ in samples(registry, f"{name}_bucket")})

    assert (bounds(RUNS)[0], bounds(RUNS)[-2]) == (0.1, 409.6)
    assert bounds(ANSWERS)[:-1] == bounds(CALLS)[:-1] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert bounds(TOOLS) == bounds(DURATION)
