"""`limit`: requests and tokens a minute, by rates of one's own and by what a provider says."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
import reactivex as rx
from reactivex.abc import DisposableBase
from reactivex.disposable import Disposable

import rxllm
from rxllm import operators as ops
from rxllm.chunks import Chunk, RateLimit, RateLimits, Start, Token, Usage
from rxllm.errors import PoolFullError, RateLimitError
from rxllm.operators import Limiter
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from rxllm.valve import clock_of
from tests.rate_limited_server import RateLimitedServer


def started(marbles: Marbles, limiter: Limiter, count: int, **lookup: Chunk) -> list[Any]:
    """Subscribe to streams at once, and return when each source was subscribed to."""
    sources = [marbles.cold("S-a|", lookup=lookup) for _ in range(count)]
    for source in sources:
        marbles.subscribe(source.pipe(ops.limit(limiter)))
    marbles.advance_to(1000)
    return [source.subscriptions[0][0] if source.subscriptions else None for source in sources]


def limits(remaining: int, limit: int | None = None, reset: float | None = None) -> Start:
    return Start("r", "m", rate_limits=RateLimits(RateLimit(remaining, limit, reset)))


def test_requests_a_minute(marbles: Marbles) -> None:
    assert started(marbles, Limiter(requests=2, wait=900), 5) == [0.0, 0.0, 30.0, 60.0, 90.0]


def test_tokens_a_minute_as_those_before_have_used(marbles: Marbles) -> None:
    limiter = Limiter(tokens=2000, wait=900)
    assert started(marbles, limiter, 3) == [0.0, 0.0, 30.0]  # 1,000 are expected of each
    used = Usage(90, 10)
    source = marbles.cold("S-U|", lookup={"U": used})
    marbles.run(source.pipe(ops.limit(limiter)), until=1100)
    marbles.advance_to(2000)
    assert limiter._expected == 775.0


def test_without_knowledge_one_request_asks_and_the_others_wait_for_its_answer(
    marbles: Marbles,
) -> None:
    sources = [marbles.cold("--S-a|") for _ in range(3)]
    limiter = Limiter()
    for source in sources:
        marbles.subscribe(source.pipe(ops.limit(limiter)))
    marbles.advance_to(50)
    times = [source.subscriptions[0][0] for source in sources]
    assert times == [0.0, *[pytest.approx(2.0, abs=0.01)] * 2]


def test_while_it_does_not_come_one_request_is_sent_each_two_seconds(marbles: Marbles) -> None:
    sources = [marbles.cold("-") for _ in range(3)]
    limiter = Limiter()
    for source in sources:
        marbles.subscribe(source.pipe(ops.limit(limiter)))
    marbles.advance_to(50)
    assert [source.subscriptions[0][0] for source in sources] == [0.0, 2.0, 4.0]


class Provider:
    """Permits some requests in each window, and reports it with the headers of each answer."""

    def __init__(
        self, marbles: Marbles, requests: int, window: float, delay: float, phase: float
    ) -> None:
        self.refused = 0
        self.answered: list[float] = []
        self._marbles = marbles
        self._clock = clock_of(marbles.scheduler)
        self._requests, self._window = requests, window
        self._delay, self._phase = delay, phase * window
        self._counts: Counter[int] = Counter()

    def answer(self) -> rx.Observable[Chunk]:
        return rx.create(self._subscribe)

    def _subscribe(self, observer: Any, _: Any = None) -> DisposableBase:
        now = self._clock() + self._phase
        window = int(now / self._window)
        self._counts[window] += 1
        remaining = self._requests - self._counts[window]
        if remaining < 0:
            self.refused += 1
            observer.on_error(RateLimitError("slow down"))
            return Disposable()
        start = limits(remaining, self._requests, (window + 1) * self._window - now)

        def send(*_: object) -> None:
            self.answered.append(self._clock())
            observer.on_next(start)
            observer.on_completed()

        return self._marbles.scheduler.schedule_relative(self._delay, send)


@pytest.mark.parametrize("phase", [0.0, 0.1, 0.35, 0.5, 0.77, 0.95])
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.3, 1.0, 2.5, 3.0])
@pytest.mark.parametrize(("requests", "window"), [(5, 1.0), (1, 1.0), (5, 60.0)])
def test_no_request_is_refused_even_if_the_first_event_comes_late(
    marbles: Marbles, requests: int, window: float, delay: float, phase: float
) -> None:
    limiter = Limiter(wait=500)
    provider = Provider(marbles, requests, window, delay, phase)
    for _ in range(20):
        marbles.subscribe(provider.answer().pipe(ops.limit(limiter)))
    marbles.advance_to(900)
    assert (len(provider.answered), provider.refused) == (20, 0)
    windows = 20 / requests
    assert provider.answered[-1] < (windows + 1) * max(window, 2) + 3 * delay


@pytest.mark.parametrize("reset", [float("inf"), float("nan"), -5.0, None])
def test_a_reset_that_is_not_known_is_expected_in_a_minute(
    marbles: Marbles, reset: float | None
) -> None:
    limiter = Limiter(wait=900)
    for _ in range(2):
        source = marbles.cold("S|", lookup={"S": limits(0, 9, reset)})
        marbles.subscribe(source.pipe(ops.limit(limiter)))
    marbles.advance_to(500)
    assert source.subscriptions[0][0] == pytest.approx(60.0, abs=0.1)


def test_after_a_429_without_a_time_to_wait_the_waits_double(marbles: Marbles) -> None:
    limiter, times = Limiter(wait=900), list[float]()
    clock = clock_of(marbles.scheduler)

    def refuse(_: object) -> rx.Observable[Chunk]:
        times.append(round(clock()))
        is_answered = len(times) == 9
        return marbles.cold("S|") if is_answered else rx.throw(RateLimitError("slow"))

    for _ in range(11):
        marbles.subscribe(rx.defer(refuse).pipe(ops.limit(limiter)))
    marbles.advance_to(500)
    assert times == [0, 1, 3, 7, 15, 31, 63, 123, 183, 184, 185]


def test_a_long_wait_after_a_429_is_not_repeated(marbles: Marbles) -> None:
    limiter, sources = Limiter(wait=900), [marbles.cold("-----S|") for _ in range(3)]
    refused = marbles.cold("#", error=RateLimitError("slow", retry_after=300.0))
    for source in (refused, *sources):
        marbles.subscribe(source.pipe(ops.limit(limiter)))
    marbles.advance_to(900)
    times = [round(source.subscriptions[0][0]) for source in sources]
    assert times == [300, 301, 302]


def test_times_that_a_clock_can_not_count_exactly(marbles: Marbles) -> None:
    times = started(marbles, Limiter(requests=1.1, wait=900), 3)
    assert times == [0.0, pytest.approx(0.9 * 60 / 1.1), pytest.approx(1.9 * 60 / 1.1)]


def test_what_the_provider_says_is_kept_to(marbles: Marbles) -> None:
    limiter = Limiter(wait=900)
    lookups = [{"S": limits(left, limit=2, reset=10)} for left in (1, 0, 1, 0, 1, 0)]
    sources = [marbles.cold("S-a|", lookup=lookup) for lookup in lookups]
    for source in sources:
        marbles.subscribe(source.pipe(ops.limit(limiter)))
    marbles.advance_to(100)
    times = [source.subscriptions[0][0] for source in sources]
    assert times == [pytest.approx(at, abs=0.1) for at in (0, 0, 10, 10, 20, 20)]


def test_a_pool_may_keep_to_what_the_provider_says(marbles: Marbles) -> None:
    pool = ops.Pool(2, limiter=Limiter(wait=900), wait=900)
    lookups = [{"S": limits(left, limit=2, reset=10)} for left in (1, 0, 1, 0)]
    sources = [marbles.cold("S-a|", lookup=lookup) for lookup in lookups]
    for source in sources:
        marbles.subscribe(source.pipe(ops.limit_concurrency(pool)))
    marbles.advance_to(100)
    times = [source.subscriptions[0][0] for source in sources]
    assert times == [pytest.approx(at, abs=0.1) for at in (0, 0, 10, 10)]
    assert (pool.active, pool.waiting) == (0, 0)
    with pytest.raises(TypeError, match="limiter must be a Limiter or None, got int"):
        ops.Pool(2, limiter=3)  # type: ignore[arg-type]


def test_a_stream_waits_no_longer_than_permitted(marbles: Marbles) -> None:
    limiter = Limiter(requests=1, wait=20)
    marbles.subscribe(marbles.cold("a|").pipe(ops.limit(limiter)))
    source = marbles.cold("b|")
    ((at, error),) = marbles.run(source.pipe(ops.limit(limiter)), until=100)
    assert (at, type(error), source.subscriptions) == (20.0, PoolFullError, [])
    assert "the limiter permitted no request within 20 s" in str(error)
    assert (limiter.waiting, marbles.timers) == (0, [])


@pytest.mark.parametrize(("second", "end"), [("-" * 30 + "S", (61.0, COMPLETED)), ("", None)])
def test_after_a_stop_of_the_process_an_answer_that_permits_more_is_read_first(
    marbles: Marbles, second: str, end: object
) -> None:
    limiter = Limiter(wait=5)
    for diagram, start in (("S", limits(1, 2, reset=900)), (second, limits(7, reset=900))):
        marbles.subscribe(marbles.cold(diagram, lookup={"S": start}).pipe(ops.limit(limiter)))
    recording = marbles.subscribe(marbles.cold("|").pipe(ops.limit(limiter)))
    marbles.at(1, lambda: marbles.scheduler.sleep(60))
    marbles.advance_to(100)
    [(time, event)] = recording.events
    assert (time, event) == end if end else (time, type(event)) == (61.1, PoolFullError)


def test_a_429_holds_the_next_request_back(marbles: Marbles) -> None:
    limiter = Limiter(wait=900)
    answered = marbles.cold("S|", lookup={"S": limits(8, 9, reset=60)})
    refused = marbles.cold("#", error=RateLimitError("slow", retry_after=7.0))
    for source in (answered, refused):
        marbles.subscribe(source.pipe(ops.limit(limiter)))
    marbles.advance_to(0.5)
    source = marbles.cold("S|")
    marbles.subscribe(source.pipe(ops.limit(limiter)))
    marbles.advance_to(100)
    assert source.subscriptions[0][0] == pytest.approx(7.01, abs=0.01)


def test_disposal_gives_the_place_up_and_the_next_one_moves_on(marbles: Marbles) -> None:
    limiter = Limiter(requests=1, wait=900)
    marbles.subscribe(marbles.cold("a|").pipe(ops.limit(limiter)))
    waiting = marbles.subscribe(marbles.cold("b|").pipe(ops.limit(limiter)))
    source = marbles.cold("c|")
    marbles.subscribe(source.pipe(ops.limit(limiter)))
    assert limiter.waiting == 2
    waiting.dispose()
    marbles.advance_to(100)
    assert source.subscriptions[0][0] == 60.0


@pytest.mark.parametrize("options", [{}, {"requests": 1, "wait": 900}])
def test_a_stream_that_waited_starts_in_the_context_of_its_own_subscription(
    marbles: Marbles, options: Any
) -> None:
    limiter = Limiter(**options)
    caller: ContextVar[str] = ContextVar("caller")
    callers: list[str] = []

    def begin(_: object) -> rx.Observable[Chunk]:
        callers.append(caller.get())
        return marbles.cold("-S|")

    def subscribe(name: str) -> None:
        caller.set(name)
        marbles.subscribe(rx.defer(begin).pipe(ops.limit(limiter)))

    for name in "abc":
        copy_context().run(subscribe, name)
    caller.set("the loop")
    marbles.advance_to(900)
    assert callers == ["a", "b", "c"]


def test_the_tasks_of_a_stream_that_waited_see_the_context_of_its_subscription() -> None:
    caller: ContextVar[str] = ContextVar("caller")
    limiter, started = Limiter(requests=1, wait=900), dict[str, str]()

    async def ask(name: str) -> None:
        caller.set(name)

        async def answer() -> Any:
            started[name] = caller.get()
            yield Token(name)

        stream = rxllm.from_async(answer).pipe(ops.limit(limiter))
        _ = [chunk async for chunk in rxllm.to_async(stream)]

    async def main() -> None:
        async with no_leaks():
            await asyncio.gather(*map(ask, "abc"))

    run_virtual(main())
    assert started == {"a": "a", "b": "b", "c": "c"}


def test_values_errors_and_demand_pass_through(marbles: Marbles) -> None:
    error = RuntimeError("mine")
    source = marbles.cold("a-b#", error=error, demand=True)
    assert marbles.run(source.pipe(ops.limit(Limiter(requests=9)))) == [
        (0.0, Token("a")), (2.0, Token("b")), (3.0, error),
    ]  # fmt: skip
    assert marbles.run(marbles.cold("|").pipe(ops.limit(Limiter())))[-1][1] is COMPLETED


@pytest.mark.parametrize("options", [{"requests": 0}, {"tokens": -1}, {"wait": 0}])
def test_invalid_arguments_are_errors_at_the_call(options: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        Limiter(**options)
    with pytest.raises(TypeError, match="limiter must be a Limiter, got int"):
        ops.limit(3)  # type: ignore[arg-type]


async def test_twenty_at_once_of_a_provider_that_permits_five_at_a_time() -> None:
    limiter = Limiter()
    async with RateLimitedServer(5, window=0.5) as server:
        model = rxllm.model("openai/gpt", api_key="k", base_url=server.url)
        streams = [model.stream("Hi").pipe(ops.limit(limiter)) for _ in range(20)]
        results = await asyncio.gather(*map(rxllm.sinks.collect, streams))
    assert [result.text for result in results] == ["Hi"] * 20
    assert (server.refused, limiter.waiting) == (0, 0)


async def test_streams_of_other_loops_may_share_a_limiter() -> None:
    limiter = Limiter(requests=6000)
    model = rxllm.model("scripted/Hi")

    def ask() -> str:
        return str(rxllm.run(model.stream("Hi").pipe(ops.limit(limiter))).text)

    async with no_leaks():
        answers = await asyncio.gather(*(asyncio.to_thread(ask) for _ in range(4)))
    assert answers == ["Hi"] * 4
