"""`Router`: a model made of models (rows A11, F4, J9)."""

from datetime import date
from typing import Any

import pytest
from reactivex import Observable

import rxllm
from rxllm import Router, Settings
from rxllm.chunks import Chunk, End, Notice, Start, Token, text_of
from rxllm.errors import AllModelsFailedError, BadRequestError, ServerError
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import CircuitBreaker, Price, Prices
from rxllm.requests import ModelInfo, Prompt
from rxllm.strategies import Candidate, balanced, cheapest_first, fastest_first, quality_first
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual

ONCE = Settings(attempts=1)


def candidate(position: int, **fields: Any) -> Candidate:
    info = ModelInfo(id=f"model-{position}", provider=fields.pop("provider", "openai"))
    return Candidate(info=info, position=position, **fields)


def positions(candidates: Any) -> list[int]:
    return [each.position for each in candidates]


def asked(marbles: Marbles, stream: Observable[Chunk], until: float = 999) -> tuple[list[str], str]:
    """The models that answered, in their order, and the text."""
    events = [event for _, event in marbles.run(stream, until=until)]
    models = [event.model for event in events if isinstance(event, Start)]
    return models, "".join(map(text_of, events))


def named(name: str, *scripts: Any, delay: float = 1.0) -> ScriptedModel:
    return ScriptedModel(*(scripts or ("Hello",)), name=name, delay=delay)


class Able(ScriptedModel):
    """A model that can't take a seed."""

    def stream(self, prompt: Prompt, **options: Any) -> Observable[Chunk]:
        request = super().stream(prompt, **options)
        if getattr(prompt, "seed", None) is not None:
            raise BadRequestError("this model knows no seed")
        return request


def test_quality_is_the_order_given() -> None:
    fast = candidate(1, first_token=0.1, tokens_per_second=1000.0)
    assert positions(quality_first([fast, candidate(0, error_rate=0.9)])) == [0, 1]


def test_speed_is_the_time_of_an_answer_and_what_is_not_measured_comes_first() -> None:
    quick_to_start = candidate(0, first_token=0.1, tokens_per_second=10.0)
    quick = candidate(1, first_token=2.0, tokens_per_second=100.0)
    assert positions(fastest_first([quick_to_start, quick, candidate(2)])) == [2, 1, 0]


def test_a_model_that_fails_half_the_time_is_half_as_fast() -> None:
    failing = candidate(0, first_token=1.0, tokens_per_second=100.0, error_rate=0.5)
    steady = candidate(1, first_token=1.0, tokens_per_second=50.0)
    assert positions(fastest_first([failing, steady])) == [1, 0]


def test_cost_asks_local_models_first_and_unknown_prices_last() -> None:
    candidates = [
        candidate(0),
        candidate(1, price=10.0),
        candidate(2, price=0.5),
        candidate(3, provider="tiny"),
    ]
    assert positions(cheapest_first(candidates)) == [3, 2, 1, 0]


def test_balanced_is_best_on_the_whole() -> None:
    best_but_slow = candidate(0, price=10.0, first_token=9.0, tokens_per_second=10.0)
    good_at_all = candidate(1, price=1.0, first_token=0.5, tokens_per_second=100.0)
    worst = candidate(2, price=1.1, first_token=0.6, tokens_per_second=90.0)
    assert positions(balanced([best_but_slow, good_at_all, worst])) == [1, 0, 2]


def test_balanced_leaves_a_model_that_fails() -> None:
    assert positions(balanced([candidate(0, error_rate=0.9), candidate(1)])) == [1, 0]


@pytest.mark.parametrize(
    ("strategy", "model"), [("quality", "large"), ("speed", "quick"), ("cost", "tiny")]
)
def test_each_strategy_asks_another_model_first(strategy: Any, model: str) -> None:
    """F4: strategy was dropped, so all tries were the same."""
    prices = Prices(date(2026, 1, 1), {"large": Price(9, 9), "quick": Price(5, 5)})
    models = [named("large", delay=5), named("quick", delay=0.1), named("tiny", delay=2)]
    turns = iter(range(3))
    router = Router(models, lambda candidates: [candidates[next(turns)]], prices=prices)
    marbles = Marbles()
    for turn in range(3):
        marbles.run(router.stream("Hi"), until=100.0 * (turn + 1))  # each is measured once
    assert asked(marbles, router.stream("Hi", strategy=strategy))[0] == [model]


def test_a_failure_that_may_pass_is_retried_and_then_the_next_model_is_asked() -> None:
    large, small = named("large", [ServerError("down")]), named("small")
    marbles = Marbles()
    router = Router([large, small], "quality", settings=Settings(attempts=2))
    events = [event for _, event in marbles.run(router.stream("Hi"))]
    assert [event.kind for event in events if isinstance(event, Notice)] == ["retry", "fallback"]
    assert [event.model for event in events if isinstance(event, Start)][-1] == "small"
    assert (len(large.requests), len(small.requests)) == (2, 1)
    assert events[-1] is COMPLETED


def test_it_learns_from_what_it_measures() -> None:
    marbles = Marbles()
    model = named("a", ["one", "two", "three"], delay=2)
    router = Router([model], "speed")
    marbles.run(router.stream("Hi"), until=50)
    [known] = router.candidates
    assert (known.first_token, known.tokens_per_second, known.error_rate) == (2.0, 0.5, 0.0)
    assert known.streams == 1


def test_the_faster_model_is_asked_once_both_were_measured() -> None:
    marbles = Marbles()
    router = Router([named("slow", delay=3), named("fast", delay=1)], "speed")
    answered = [asked(marbles, router.stream("Hi"), until=10 * turn)[0] for turn in range(1, 5)]
    assert answered == [["slow"], ["fast"], ["fast"], ["fast"]]


def test_an_open_circuit_is_passed_over_until_its_probe() -> None:
    large = named("large", [ServerError("down")], "Hello again")
    router = Router(
        [large, named("small")],
        "quality",
        settings=ONCE,
        breaker_of=lambda: CircuitBreaker(failures=1, reset_after=60),
    )
    marbles = Marbles()
    assert asked(marbles, router.stream("Hi"), until=10)[0] == ["large", "small"]
    assert asked(marbles, router.stream("Hi"), until=20)[0] == ["small"]
    assert asked(marbles, router.stream("Hi"), until=90) == (["small"], "Hello")
    assert asked(marbles, router.stream("Hi"), until=200) == (["large"], "Hello again")


def test_if_all_circuits_are_open_all_are_told() -> None:
    router = Router(
        [named("only", [ServerError("down")])],
        settings=ONCE,
        breaker_of=lambda: CircuitBreaker(failures=1),
    )
    marbles = Marbles()
    marbles.run(router.stream("Hi"), until=10)
    assert type(marbles.run(router.stream("Hi"), until=20)[-1][1]).__name__ == "CircuitOpenError"


def test_if_all_fail_every_error_is_there() -> None:
    errors = [ServerError("one"), ServerError("two")]
    models = [named(str(number), [error]) for number, error in enumerate(errors)]
    last = Marbles().run(Router(models, "quality", settings=ONCE).stream("Hi"))[-1][1]
    assert isinstance(last, AllModelsFailedError)
    assert list(last.errors) == errors


def test_or_an_apology_ends_it() -> None:
    router = Router([named("a", [ServerError("down")])], settings=ONCE, apology="Sorry.")
    assert asked(Marbles(), router.stream("Hi"))[1] == "Sorry."


def test_a_fault_of_the_request_counts_for_nothing() -> None:
    model = named("a", [BadRequestError("no such tool")])
    router = Router([model, named("b")], "quality")
    events = Marbles().run(router.stream("Hi"))
    assert isinstance(events[-1][1], BadRequestError)
    assert router.candidates[0].error_rate == 0.0


def test_a_failure_counts_and_success_makes_up_for_it() -> None:
    marbles = Marbles()
    router = Router([named("a", [ServerError("down")], "Hi")], settings=ONCE)
    marbles.run(router.stream("Hi"), until=10)
    assert router.candidates[0].error_rate == pytest.approx(0.3)
    marbles.run(router.stream("Hi"), until=20)
    assert router.candidates[0].error_rate == pytest.approx(0.21)


def test_a_model_that_cannot_take_the_request_is_passed_over() -> None:
    able, other = Able("no", name="able"), named("other")
    assert asked(Marbles(), Router([able, other], "quality").stream("Hi", seed=1))[0] == ["other"]
    with pytest.raises(BadRequestError, match="seed"):
        Router([able]).stream("Hi", seed=1)


def test_a_strategy_of_ones_own_orders_and_leaves_out() -> None:
    def only_the_last(candidates: Any) -> Any:
        return candidates[-1:]

    router = Router([named("a"), named("b")], only_the_last)
    assert asked(Marbles(), router.stream("Hi"))[0] == ["b"]


def test_a_strategy_that_leaves_nothing_or_fails_is_the_error_of_the_stream() -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError("out of luck")

    for strategy, error in ((broken, RuntimeError), (lambda _: [], BadRequestError)):
        events = Marbles().run(Router([named("a")], strategy).stream("Hi"))
        assert [type(event) for _, event in events] == [error]


def test_a_silent_model_is_left_for_the_next() -> None:
    marbles = Marbles()
    silent, other = named("silent", ["late"], delay=60), named("other")
    events = marbles.run(Router([silent, other], "quality").stream("Hi"))
    assert (10.0, Start) in [(time, type(event)) for time, event in events]
    assert silent.cancelled == 1


def test_leaving_stops_the_model_and_leaves_nothing_behind() -> None:
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


def test_names_are_models_and_it_tells_what_its_models_can_do() -> None:
    router = Router(["scripted/Hello there", "tiny"])
    assert router.info.provider == "router"
    assert "seed" in router.info.capabilities
    assert isinstance(router, rxllm.Model)
    assert [each.info.provider for each in router.candidates] == ["scripted", "tiny"]


def test_a_router_is_a_model_for_another_router() -> None:
    inner = Router([named("a", [ServerError("down")])], settings=ONCE)
    inner = Router([inner, named("c", [ServerError("down too")])], "quality", settings=ONCE)
    models, text = asked(
        Marbles(), Router([inner, named("b")], "quality", settings=ONCE).stream("Hi")
    )
    assert (models, text) == (["a", "c", "b"], "Hello")


def test_end_comes_once() -> None:
    events = Marbles().run(Router([named("a"), named("b")]).stream("Hi"))
    assert [event for _, event in events if isinstance(event, End)] == [End("stop")]


@pytest.mark.parametrize("bad", [[], "tiny", ["no/such/provider"]])
def test_bad_models_are_refused_at_the_call(bad: Any) -> None:
    with pytest.raises(BadRequestError):
        Router(bad)


def test_a_bad_strategy_is_refused_at_the_call() -> None:
    with pytest.raises(BadRequestError, match="quality"):
        Router(["tiny"], "fancy")  # type: ignore[arg-type]
    with pytest.raises(BadRequestError, match="empty"):
        Router(["tiny"]).stream("")
