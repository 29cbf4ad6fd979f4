"""`Router`: a model that selects among several models."""

from datetime import date
from typing import Any

import msgspec
import pytest
from reactivex import Observable

import rxllm
from rxllm import Router, Settings
from rxllm.chunks import Chunk, End, Notice, Start, Token, ToolCall, Usage, text_of
from rxllm.errors import (
    AllModelsFailedError,
    AuthenticationError,
    BadRequestError,
    CircuitOpenError,
    ConnectTimeoutError,
    RateLimitError,
    ServerError,
    TotalTimeoutError,
    UnsupportedError,
)
from rxllm.model_table import ModelFacts, ModelTable, Price
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import CircuitBreaker
from rxllm.requests import ModelInfo, Prompt
from rxllm.router.strategies import (
    Candidate,
    balanced,
    cheapest_first,
    fastest_first,
    quality_first,
)
from rxllm.stream import Stream
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual

ONCE = Settings(attempts=1)


def candidate(position: int, **fields: Any) -> Candidate:
    info = ModelInfo(id=f"model-{position}", provider=fields.pop("provider", "openai"))
    return Candidate(info=info, position=position, **fields)


def positions(candidates: Any) -> list[int]:
    return [each.position for each in candidates]


def asked(marbles: Marbles, stream: Observable[Chunk], until: float = 999) -> tuple[list[str], str]:
    """The models that started an answer, in order, and the text."""
    events = [event for _, event in marbles.run(stream, until=until)]
    models = [event.model for event in events if isinstance(event, Start)]
    return models, "".join(map(text_of, events))


def named(name: str, *scripts: Any, delay: float = 1.0) -> ScriptedModel:
    return ScriptedModel(*(scripts or ("Hello",)), name=name, delay=delay)


class Able(ScriptedModel):
    """A model that can't take a seed."""

    def stream(self, prompt: Prompt, **options: Any) -> Stream[Chunk]:
        request = super().stream(prompt, **options)
        if getattr(prompt, "seed", None) is not None:
            raise BadRequestError("this model doesn't support a seed")
        return request


class Long(ScriptedModel):
    """A model with the given context length."""

    def __init__(self, context_length: int | None) -> None:
        super().__init__("Hello")
        self._context_length = context_length

    @property
    def info(self) -> ModelInfo:
        return msgspec.structs.replace(super().info, context_length=self._context_length)


def test_quality_keeps_the_order_given() -> None:
    fast = candidate(1, first_token=0.1, tokens_per_second=1000.0)
    assert positions(quality_first([fast, candidate(0, error_rate=0.9)])) == [0, 1]


def test_speed_orders_by_answer_time_with_unmeasured_models_first() -> None:
    quick_to_start = candidate(0, first_token=0.1, tokens_per_second=10.0)
    quick = candidate(1, first_token=2.0, tokens_per_second=100.0)
    assert positions(fastest_first([quick_to_start, quick, candidate(2)])) == [2, 1, 0]


def test_models_that_never_answered_or_always_fail_come_last() -> None:
    failed, good = candidate(0, error_rate=0.3), candidate(1, first_token=30.0)
    assert positions(fastest_first([failed, good])) == [1, 0]
    for rate in (0.9999, 1.0):
        quick = candidate(0, first_token=0.1, error_rate=rate)
        assert positions(fastest_first([quick, good])) == [1, 0]


def test_a_model_that_fails_half_the_time_is_half_as_fast() -> None:
    failing = candidate(0, first_token=1.0, tokens_per_second=100.0, error_rate=0.5)
    steady = candidate(1, first_token=1.0, tokens_per_second=50.0)
    assert positions(fastest_first([failing, steady])) == [1, 0]


def test_cost_puts_local_models_first_and_unknown_prices_last() -> None:
    candidates = [
        candidate(0),
        candidate(1, price=10.0),
        candidate(2, price=0.5),
        candidate(3, provider="tiny"),
    ]
    assert positions(cheapest_first(candidates)) == [3, 2, 1, 0]


def test_balanced_prefers_the_best_overall() -> None:
    best_but_slow = candidate(0, price=10.0, first_token=9.0, tokens_per_second=10.0)
    good_at_all = candidate(1, price=1.0, first_token=0.5, tokens_per_second=100.0)
    worst = candidate(2, price=1.1, first_token=0.6, tokens_per_second=90.0)
    assert positions(balanced([best_but_slow, good_at_all, worst])) == [1, 0, 2]


def test_balanced_avoids_a_model_that_fails() -> None:
    assert positions(balanced([candidate(0, error_rate=0.9), candidate(1)])) == [1, 0]


@pytest.mark.parametrize(
    ("strategy", "model"), [("quality", "large"), ("speed", "quick"), ("cost", "tiny")]
)
def test_each_strategy_tries_a_different_model_first(strategy: Any, model: str) -> None:
    """The strategy of a request must reach the router, or all strategies behave the same."""
    facts = {"large": ModelFacts(price=Price(9, 9)), "quick": ModelFacts(price=Price(5, 5))}
    prices = ModelTable(date(2026, 1, 1), facts)
    models = [named("large", delay=5), named("quick", delay=0.1), named("tiny", delay=2)]
    turns = iter(range(3))
    router = Router(models, lambda candidates: [candidates[next(turns)]], prices=prices)
    marbles = Marbles()
    for turn in range(3):
        marbles.run(router.stream("Hi"), until=100.0 * (turn + 1))  # each is measured once
    assert asked(marbles, router.stream("Hi", strategy=strategy))[0] == [model]


def test_a_transient_failure_is_retried_before_the_next_model_is_tried() -> None:
    large, small = named("large", [ServerError("down")]), named("small")
    marbles = Marbles()
    router = Router([large, small], "quality", settings=Settings(attempts=2))
    events = [event for _, event in marbles.run(router.stream("Hi"))]
    assert [event.kind for event in events if isinstance(event, Notice)] == ["retry", "fallback"]
    assert [event.model for event in events if isinstance(event, Start)][-1] == "small"
    assert (len(large.requests), len(small.requests)) == (2, 1)
    assert events[-1] is COMPLETED


def test_figures_are_updated_after_each_stream() -> None:
    marbles = Marbles()
    model = named("a", ["one", "two", "three"], delay=2)
    router = Router([model], "speed")
    marbles.run(router.stream("Hi"), until=50)
    [known] = router.candidates
    assert (known.first_token, known.tokens_per_second, known.error_rate) == (2.0, 0.5, 0.0)
    assert known.streams == 1


@pytest.mark.parametrize("bad", [[RateLimitError("no")], [AuthenticationError("no")], [99.0], []])
def test_under_speed_a_model_that_never_answers_is_not_tried_forever(bad: list[Any]) -> None:
    failing = ScriptedModel(bad, name="bad")
    good = ScriptedModel(["a", "b"], name="good", delay=1)
    marbles, router = Marbles(), Router([failing, good], "speed", settings=ONCE)
    answered = [asked(marbles, router.stream("Hi"), until=30 * turn)[1] for turn in range(1, 6)]
    assert answered == ["ab"] * 5
    assert len(failing.requests) == 1


def test_cancelling_before_the_first_token_counts_the_wait() -> None:
    marbles, silent = Marbles(), named("silent", [99.0], delay=0)
    router = Router([silent, named("good", ["a", "b"])], "speed")
    recording = marbles.subscribe(router.stream("Hi"))
    marbles.advance_to(5)
    recording.dispose()
    assert router.candidates[0].first_token == 5.0
    assert [asked(marbles, router.stream("Hi"), until=20 * n)[0] for n in (1, 2)] == [["good"]] * 2


def test_after_a_bad_request_a_model_is_still_unmeasured() -> None:
    marbles, model = Marbles(), named("a", [BadRequestError("no")], "Hello")
    router = Router([model, named("b")], "speed")
    marbles.run(router.stream("Hi"), until=10)
    assert asked(marbles, router.stream("Hi"), until=20)[0] == ["a"]


def test_a_tool_call_is_measured_by_its_duration() -> None:
    model = named("a", [ToolCall("1", "weather", complete=True)], delay=3)
    router = Router([model])
    Marbles().run(router.stream("Hi"))
    assert router.candidates[0].seconds == 3.0


def test_the_speed_of_an_answer_in_one_piece_covers_its_whole_duration() -> None:
    usage = Usage(output_tokens=20)
    model = ScriptedModel("all at once", name="lump", delay=5, usage=usage)
    router = Router([model])
    Marbles().run(router.stream("Hi"))
    assert (router.candidates[0].first_token, router.candidates[0].tokens_per_second) == (5.0, 4.0)


def test_a_pause_before_the_first_token_is_not_counted() -> None:
    marbles = Marbles()
    router = Router([named("a", ["a", "b", "c"], delay=2)])
    marbles.valve.close()
    marbles.at(50, marbles.valve.open)
    assert marbles.run(router.stream("Hi"), until=90)[-1] == (56.0, COMPLETED)
    [known] = router.candidates
    assert (known.first_token, known.tokens_per_second) == (2.0, 0.5)
    assert marbles.valve._callbacks == {}


def test_a_pause_between_tokens_is_not_counted() -> None:
    marbles = Marbles()
    router = Router([named("a", ["a", "b", "c"], delay=2)])
    marbles.at(4, marbles.valve.close)
    marbles.at(60, marbles.valve.open)
    assert marbles.run(router.stream("Hi"), until=90)[-1] == (62.0, COMPLETED)
    [known] = router.candidates
    assert (known.first_token, known.tokens_per_second) == (2.0, 0.5)


def test_the_faster_model_is_tried_first_once_both_are_measured() -> None:
    marbles = Marbles()
    router = Router([named("slow", delay=3), named("fast", delay=1)], "speed")
    answered = [asked(marbles, router.stream("Hi"), until=10 * turn)[0] for turn in range(1, 5)]
    assert answered == [["slow"], ["fast"], ["fast"], ["fast"]]


def test_an_open_circuit_is_skipped_until_its_probe() -> None:
    large = named("large", [ServerError("down")], "Hello again")
    router = Router(
        [large, named("small")],
        "quality",
        settings=ONCE,
        breaker_of=lambda _: CircuitBreaker(failures=1, reset_after=60),
    )
    marbles = Marbles()
    assert asked(marbles, router.stream("Hi"), until=10)[0] == ["large", "small"]
    assert asked(marbles, router.stream("Hi"), until=20)[0] == ["small"]
    assert asked(marbles, router.stream("Hi"), until=90) == (["small"], "Hello")
    assert asked(marbles, router.stream("Hi"), until=200) == (["large"], "Hello again")


def test_if_all_circuits_are_open_the_error_contains_each() -> None:
    router = Router(
        [named("only", [ServerError("down")])],
        settings=ONCE,
        breaker_of=lambda _: CircuitBreaker(failures=1),
    )
    marbles = Marbles()
    marbles.run(router.stream("Hi"), until=10)
    failure = marbles.run(router.stream("Hi"), until=20)[-1][1]
    assert isinstance(failure, AllModelsFailedError)
    assert isinstance(failure.errors[0], CircuitOpenError)
    assert isinstance(failure.errors[0].__cause__, ServerError)


def test_a_circuit_that_opens_hides_no_error_and_causes_no_wait() -> None:
    errors = [ServerError("the real cause"), ServerError("other")]
    models = [named(str(number), [error]) for number, error in enumerate(errors)]
    router = Router(
        models,
        "quality",
        settings=Settings(attempts=3),
        breaker_of=lambda _: CircuitBreaker(failures=2),
    )
    events = [event for _, event in Marbles().run(router.stream("Hi"))]
    assert list(map(repr, events[-1].errors)) == list(map(repr, errors))
    assert [event.kind for event in events if isinstance(event, Notice)] == [
        "retry", "fallback", "retry",
    ]  # fmt: skip
    assert [len(model.requests) for model in models] == [2, 2]


def test_if_all_fail_the_error_contains_every_error() -> None:
    errors = [ServerError("one"), ServerError("two")]
    models = [named(str(number), [error]) for number, error in enumerate(errors)]
    last = Marbles().run(Router(models, "quality", settings=ONCE).stream("Hi"))[-1][1]
    assert isinstance(last, AllModelsFailedError)
    assert list(last.errors) == errors


def test_the_failure_of_a_single_model_is_an_all_models_failed_error() -> None:
    error = ServerError("down")
    last = Marbles().run(Router([named("a", [error])], settings=ONCE).stream("Hi"))[-1][1]
    assert (type(last), last.errors, last.__cause__) == (AllModelsFailedError, (error,), error)


def test_an_empty_answer_is_a_failure() -> None:
    empty = named("empty", [])
    router = Router([empty, named("other")], "quality", settings=Settings(attempts=2))
    assert asked(Marbles(), router.stream("Hi"))[1] == "Hello"
    assert len(empty.requests) == 2
    assert router.candidates[0].error_rate > 0.5


def outputs_of(router: Router) -> list[Any]:
    """The texts, restarts and the error."""
    events = [event for _, event in Marbles().run(router.stream("Hi"))]
    kept = [
        event
        for event in events
        if text_of(event) or isinstance(event, Exception) or event == Notice("restart")
    ]
    return [text_of(event) or event for event in kept]


LOST: list[Any] = ["Once ", ConnectionResetError("cut")]


@pytest.mark.parametrize(
    ("after_output", "expected"),
    [
        ("restart", ["Once ", Notice("restart"), "Once upon"]),
        ("replay", ["Once ", "upon"]),
        (lambda partial: ScriptedModel(["upon"]).stream(partial), ["Once ", "upon"]),
    ],
)
def test_after_output_retries_the_same_model_and_then_the_next(
    after_output: Any, expected: list[Any]
) -> None:
    one = Router([named("a", LOST, "Once upon")], after_output=after_output)
    assert outputs_of(one) == expected
    two = [named("a", LOST), named("b", "Once upon")]
    assert outputs_of(Router(two, "quality", settings=ONCE, after_output=after_output)) == expected


def test_by_default_a_failure_after_output_is_passed_on() -> None:
    text, error = outputs_of(Router([named("a", LOST), named("b")], "quality"))
    assert (text, type(error), error.partial) == ("Once ", ConnectionResetError, "Once ")


def test_an_apology_replaces_the_error() -> None:
    router = Router([named("a", [ServerError("down")])], settings=ONCE, apology="Sorry.")
    assert asked(Marbles(), router.stream("Hi"))[1] == "Sorry."


def test_a_bad_request_does_not_affect_the_error_rate() -> None:
    model = named("a", [BadRequestError("no such tool")])
    router = Router([model, named("b")], "quality")
    events = Marbles().run(router.stream("Hi"))
    assert isinstance(events[-1][1], BadRequestError)
    assert router.candidates[0].error_rate == 0.0


def test_a_failure_raises_the_error_rate_and_a_success_lowers_it() -> None:
    marbles = Marbles()
    router = Router([named("a", [ServerError("down")], "Hi")], settings=ONCE)
    marbles.run(router.stream("Hi"), until=10)
    assert router.candidates[0].error_rate == pytest.approx(0.3)
    marbles.run(router.stream("Hi"), until=20)
    assert router.candidates[0].error_rate == pytest.approx(0.21)


def test_a_model_that_cannot_handle_the_request_is_skipped() -> None:
    able, other = Able("no", name="able"), named("other")
    assert asked(Marbles(), Router([able, other], "quality").stream("Hi", seed=1))[0] == ["other"]
    with pytest.raises(BadRequestError, match="seed"):
        Router([able]).stream("Hi", seed=1)


def test_a_model_that_does_not_support_the_request_leads_to_the_next() -> None:
    unable = named("a", [UnsupportedError("no JSON")])
    router = Router([unable, named("b")], "quality")
    marbles = Marbles()
    models, text = asked(marbles, router.stream("Hi", response_format="json"))
    assert (models, text) == (["a", "b"], "Hello")
    assert len(unable.requests) == 1
    assert router.candidates[0].error_rate == 0.0


def test_if_no_model_supports_the_request_its_error_is_passed_on() -> None:
    first, second = UnsupportedError("no JSON"), UnsupportedError("no JSON either")
    router = Router([named("a", [first]), named("b", [second])], "quality", apology="Sorry.")
    assert Marbles().run(router.stream("Hi"))[-1][1] is first


def test_a_router_does_not_ask_again_after_a_connect_timeout() -> None:
    late = named("a", [ConnectTimeoutError("10 s")])
    assert asked(Marbles(), Router([late, named("b")], "quality").stream("Hi"))[0] == ["a", "b"]
    assert len(late.requests) == 1


def test_a_router_continues_answers_only_if_all_its_models_do() -> None:
    able, unable = named("a"), ScriptedModel("Hi", capabilities=["text"])
    assert Router([able, able]).info.supports("prefill")
    assert not Router([able, unable]).info.supports("prefill")


def test_a_custom_strategy_orders_and_omits_models() -> None:
    def only_the_last(candidates: Any) -> Any:
        return candidates[-1:]

    router = Router([named("a"), named("b")], only_the_last)
    assert asked(Marbles(), router.stream("Hi"))[0] == ["b"]


def test_a_strategy_that_returns_nothing_or_raises_fails_the_stream() -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError("out of luck")

    for strategy, error in ((broken, RuntimeError), (lambda _: [], BadRequestError)):
        events = Marbles().run(Router([named("a")], strategy).stream("Hi"))
        assert [type(event) for _, event in events] == [error]


def test_a_silent_model_is_abandoned_for_the_next() -> None:
    marbles = Marbles()
    silent, other = named("silent", ["late"], delay=60), named("other")
    events = marbles.run(Router([silent, other], "quality").stream("Hi"))
    assert (10.0, Start) in [(time, type(event)) for time, event in events]
    assert silent.cancelled == 1


def test_disposing_stops_the_model_and_leaves_nothing_behind() -> None:
    model = ScriptedModel("one two three", by="word", delay=1, name="a")

    async def main() -> None:
        async with no_leaks():
            stream = Router([model, named("b")], "quality").stream("Hi")
            async for chunk in rxllm.to_async(stream):
                if isinstance(chunk, Token):
                    break

    run_virtual(main())
    assert (model.active, model.cancelled) == (0, 1)


def test_demand_passes_through() -> None:
    marbles = Marbles()
    marbles.valve.close()
    model = named("a", "one two three", delay=1)
    assert Token("one two three") not in [
        event for _, event in marbles.run(Router([model]).stream("Hi"), until=5)
    ]


def test_models_may_be_names_and_info_combines_their_capabilities() -> None:
    router = Router(["scripted/Hello there", "tiny"])
    assert router.info.provider == "router"
    assert "seed" in router.info.capabilities
    assert isinstance(router, rxllm.Model)
    assert [each.info.provider for each in router.candidates] == ["scripted", "tiny"]


def test_the_context_length_is_the_longest_of_its_models() -> None:
    def context(*lengths: int | None) -> int | None:
        return Router([Long(length) for length in lengths]).info.context_length

    assert context(1000, None, 8000, 200) == 8000
    assert context(None, None) is None


def test_by_default_an_answer_may_take_600_seconds() -> None:
    script: list[Any] = [4.0, "a"] * 200
    router = Router([ScriptedModel(script)])
    time, event = Marbles().run(router.stream("Hi"), until=5000)[-1]
    assert (time, type(event)) == (600.0, TotalTimeoutError)


def test_a_router_can_be_a_model_of_another_router() -> None:
    inner = Router([named("a", [ServerError("down")])], settings=ONCE)
    inner = Router([inner, named("c", [ServerError("down too")])], "quality", settings=ONCE)
    models, text = asked(
        Marbles(), Router([inner, named("b")], "quality", settings=ONCE).stream("Hi")
    )
    assert (models, text) == (["a", "c", "b"], "Hello")


def test_end_comes_once() -> None:
    events = Marbles().run(Router([named("a"), named("b")]).stream("Hi"))
    assert [event for _, event in events if isinstance(event, End)] == [End("stop")]


@pytest.mark.parametrize(
    "bad", [[], "tiny", b"tiny", ["no/such/provider"], [5], {"tiny": 1}, None, [ScriptedModel]]
)
def test_invalid_models_raise_at_the_call(bad: Any) -> None:
    with pytest.raises(BadRequestError):
        Router(bad)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"after_output": "maybe"}, ValueError),
        ({"apology": ""}, ValueError),
        ({"apology": 5}, TypeError),
        ({"settings": 3}, TypeError),
        ({"prices": {}}, TypeError),
        ({"breaker_of": 5}, TypeError),
        ({"breaker_of": lambda _: 5}, TypeError),
    ],
)
def test_other_invalid_arguments_raise_at_the_call(bad: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(bad))):
        Router(["tiny"], **bad)


def test_an_unknown_strategy_or_empty_prompt_raises_at_the_call() -> None:
    with pytest.raises(BadRequestError, match="quality"):
        Router(["tiny"], "fancy")  # type: ignore[arg-type]
    with pytest.raises(BadRequestError, match="empty"):
        Router(["tiny"]).stream("")
