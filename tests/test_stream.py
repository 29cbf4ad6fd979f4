"""`Stream`: three ways to read it, a `pipe` that rejects mistakes, subscriptions as in RxPY."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import ConnectableObservable, Observable, Subject, abc
from reactivex import operators as rxo
from reactivex.disposable import Disposable

import rxllm
from rxllm import operators as ops
from rxllm.chunks import Chunk, End, Start, Token
from rxllm.errors import StreamError
from rxllm.models.scripted import ScriptedModel
from rxllm.result import Result
from rxllm.stream import Stream, as_stream
from rxllm.testing import no_leaks, run_virtual

STORY = ["Once", " upon", " a", " time"]


def story() -> tuple[ScriptedModel, Stream[Any]]:
    model = ScriptedModel(STORY, name="story")
    return model, model.stream("Hi")


def texts(chunks: list[Any]) -> list[str]:
    return [chunk.text for chunk in chunks if isinstance(chunk, Token)]


class TestReading:
    """`async for`, `await` and `for`."""

    async def test_async_for_yields_the_chunks(self) -> None:
        model, stream = story()
        assert texts([chunk async for chunk in stream]) == STORY
        assert (model.completed, model.active) == (1, 0)

    async def test_await_returns_the_result(self) -> None:
        _, stream = story()
        result = await stream
        assert isinstance(result, Result)
        assert (result.text, result.finish_reason) == ("Once upon a time", "stop")

    def test_for_yields_the_chunks_without_an_event_loop(self) -> None:
        model, stream = story()
        assert texts(list(stream)) == STORY
        assert (model.completed, model.active) == (1, 0)

    async def test_each_read_asks_the_model_again(self) -> None:
        model, stream = story()
        await stream
        assert [chunk async for chunk in stream]
        assert len(model.requests) == 2

    async def test_await_raises_the_error_with_the_text_so_far(self) -> None:
        stream = ScriptedModel(["Once", StreamError("cut")]).stream("Hi")
        with pytest.raises(StreamError, match="cut") as raised:
            await stream
        assert raised.value.partial == "Once"

    async def test_async_for_raises_the_error_after_the_chunks(self) -> None:
        received = []
        with pytest.raises(StreamError, match="cut"):
            async for chunk in ScriptedModel(["Once", StreamError("cut")]).stream("Hi"):
                received.append(chunk)
        assert texts(received) == ["Once"]

    def test_for_raises_the_error_after_the_chunks(self) -> None:
        received = []
        with pytest.raises(StreamError, match="cut"):
            for chunk in ScriptedModel(["Once", StreamError("cut")]).stream("Hi"):
                received.append(chunk)  # noqa: PERF402 - the error must come after them
        assert texts(received) == ["Once"]

    async def test_only_a_stream_of_chunks_can_be_awaited(self) -> None:
        model, stream = story()
        with pytest.raises(TypeError, match="stream of chunks can be awaited, but text emits"):
            await stream.pipe(ops.text())  # type: ignore[misc]
        assert not model.requests
        with pytest.raises(TypeError, match="stream of chunks"):
            await stream.pipe(rxo.map(str))  # type: ignore[misc]

    async def test_for_inside_an_event_loop_suggests_async_for(self) -> None:
        model, stream = story()
        with pytest.raises(TypeError, match="async for"):
            for _ in stream:
                pass
        with pytest.raises(TypeError, match="async for"):
            list(stream)
        assert not model.requests

    async def test_several_streams_with_gather(self) -> None:
        model, stream = story()
        async with no_leaks():
            results = await asyncio.gather(stream, model.stream("You"), model.stream("They"))
        assert [result.text for result in results] == ["Once upon a time"] * 3
        assert len(model.requests) == 3


class TestLeaving:
    """Leaving the loop stops the model."""

    async def test_async_for_with_aclosing(self) -> None:
        model = ScriptedModel(STORY, delay=60)
        async with no_leaks():
            async with contextlib.aclosing(aiter(model.stream("Hi"))) as chunks:
                async for _ in chunks:
                    break
            assert (model.cancelled, model.active) == (1, 0)

    def test_breaking_out_of_a_for_stops_the_model_at_once(self) -> None:
        model = ScriptedModel(STORY, delay=60)
        for _ in model.stream("Hi"):
            break
        assert (model.cancelled, model.active) == (1, 0)

    def test_an_exception_in_a_for_stops_the_model_at_once(self) -> None:
        model = ScriptedModel(STORY, delay=60)
        with pytest.raises(LookupError):
            for _ in model.stream("Hi"):
                raise LookupError
        assert (model.cancelled, model.active) == (1, 0)

    def test_an_unused_iterator_does_not_ask_the_model(self) -> None:
        model, stream = story()
        iterator = iter(stream)
        del iterator
        assert not model.requests


class TestDemand:
    """A busy reader holds the source."""

    @staticmethod
    def counted() -> tuple[list[int], Stream[int]]:
        pulled: list[int] = []

        async def source() -> Any:
            for number in range(1000):
                pulled.append(number)
                yield number

        return pulled, rxllm.from_async(source)

    async def test_async_for(self) -> None:
        pulled, stream = self.counted()
        async with contextlib.aclosing(aiter(stream)) as numbers:
            async for _ in numbers:
                for _ in range(100):
                    await asyncio.sleep(0)
                break
            assert len(pulled) <= 18

    def test_for(self) -> None:
        pulled, stream = self.counted()
        for number in stream:
            # 16 waiting, one in flight, and this one; 8 more were requested at half of these.
            assert len(pulled) <= number + 1 + 16 + 1
            if number == 300:
                break

    def test_for_yields_everything_that_a_source_without_demand_pushes(self) -> None:
        assert list(as_stream(rx.range(500), "range")) == list(range(500))


def test_repr_shows_the_name() -> None:
    _, stream = story()
    assert repr(stream) == "<Stream story>"
    assert repr(stream.pipe(ops.measure(print))) == "<Stream measure>"
    assert repr(stream.pipe(ops.words(), ops.words())) == "<Stream words>"
    assert repr(stream.pipe(rxo.map(str))) == "<Stream map>"
    assert repr(ops.merge_streams(stream, stream)) == "<Stream merge_streams>"

    def mine(source: Observable[Any]) -> Observable[Any]:
        return Observable(lambda observer, _: source.subscribe(observer))

    assert repr(stream.pipe(mine)) == "<Stream test_repr_shows_the_name>"


class TestPipe:
    """The arguments and results of `pipe`."""

    def test_without_operators_pipe_returns_the_stream(self) -> None:
        _, stream = story()
        assert stream.pipe() is stream

    async def test_the_result_of_an_rxpy_operator_is_a_stream(self) -> None:
        _, stream = story()
        tokens = stream.pipe(rxo.filter(lambda chunk: isinstance(chunk, Token)), rxo.take(2))
        assert isinstance(tokens, Stream)
        assert texts([chunk async for chunk in tokens]) == STORY[:2]

    async def test_the_result_of_a_users_operator_is_a_stream(self) -> None:
        def mine(source: Observable[Any]) -> Observable[Any]:
            return Observable(lambda observer, scheduler: source.subscribe(observer))

        _, stream = story()
        piped = stream.pipe(mine)
        assert isinstance(piped, Stream)
        assert (await piped).text == "Once upon a time"

    def test_a_users_operator_receives_a_stream_at_any_position(self) -> None:
        given: list[object] = []

        def mine(source: Stream[Any]) -> Stream[Any]:
            given.append(source)
            return source

        _, stream = story()
        stream.pipe(rxo.take(1), mine, ops.words(), mine)  # type: ignore[misc]
        assert all(isinstance(source, Stream) for source in given)

    def test_a_connectable_observable_is_returned_unchanged(self) -> None:
        _, stream = story()
        assert type(stream.pipe(rxo.publish())) is ConnectableObservable

    async def test_other_results_are_returned_unchanged(self) -> None:
        _, stream = story()
        assert isinstance(stream.pipe(rxo.to_future()), asyncio.Future)
        parts = stream.pipe(rxo.partition(lambda chunk: isinstance(chunk, Token)))
        assert isinstance(parts, list)

    def test_the_result_of_multiplex_keeps_its_class(self) -> None:
        _, stream = story()
        assert stream.pipe(ops.multiplex()).lags == []

    async def test_more_than_twelve_operators(self) -> None:
        _, stream = story()
        assert (await stream.pipe(*[ops.drop_blank()] * 20)).text == "Once upon a time"

    def test_an_operator_in_the_middle_must_return_a_stream(self) -> None:
        _, stream = story()
        with pytest.raises(TypeError, match="argument 1 of pipe returned None, but argument 2"):
            stream.pipe(lambda source: None, ops.words())  # type: ignore[misc]

    async def test_a_sum_of_streams_is_a_stream(self) -> None:
        _, stream = story()
        assert (await (stream + stream)).text == "Once upon a time" * 2

    def test_rxpys_run_suggests_an_alternative(self) -> None:
        _, stream = story()
        with pytest.raises(TypeError, match=r"rxllm\.run"):
            stream.run()

    @pytest.mark.parametrize(
        ("argument", "words"),
        [
            (ops.measure, r"argument 2 is the function measure, .*pipe\(measure\(\.\.\.\)\)"),
            (ops.stop_on, r"pipe\(stop_on\(\.\.\.\)\)"),
            (ops.merge_streams, r"pipe\(merge_streams\(\.\.\.\)\)"),
            (ops.Pool, r"limit_concurrency\(pool\)"),
            (rxo.map, r"pipe\(map\(\.\.\.\)\)"),
            (None, "argument 2 is None"),
            ("text", "argument 2 is 'text'"),
            (ops.Pool(1), r"argument 2 is Pool.*limit_concurrency\(pool\)"),
            (ScriptedModel("Hi"), r"model\.stream\(prompt\)\.pipe"),
            ([ops.words()], r"pipe\(\*operators\)"),
            (rx.empty(), "merge_streams"),
        ],
    )
    def test_a_non_operator_is_rejected(self, argument: Any, words: str) -> None:
        model, stream = story()
        with pytest.raises(TypeError, match=words):
            stream.pipe(ops.words(), argument)
        with pytest.raises(TypeError, match="argument 1"):
            stream.pipe(argument, ops.words())
        assert not model.requests


class TestEverythingReturnsAStream:
    """Models, operators, combining functions and `from_async` return a `Stream`."""

    def test_models(self) -> None:
        assert isinstance(rxllm.model("tiny").stream("Hi"), Stream)
        assert isinstance(rxllm.model("openai/x", api_key="k").stream("Hi"), Stream)
        assert isinstance(rxllm.Router(["tiny"]).stream("Hi"), Stream)
        assert isinstance(ScriptedModel("Hi").stream("Hi"), Stream)

    @pytest.mark.parametrize("name", sorted(ops.__all__))
    def test_a_pipe_is_typed_to_its_last_operator_by_annotations(self, name: str) -> None:
        function = getattr(ops, name)
        if not inspect.isfunction(function):
            return
        returned = function.__annotations__["return"]
        assert "Observable" not in returned.removeprefix("Callable[[Observable[Chunk]], ")


def modules() -> list[Path]:
    root = Path(rxllm.__file__).parent
    ours = [path for path in root.rglob("*.py") if "operators" not in path.parts[-3:]]
    return sorted({*ours, *(root.parent / "operators").rglob("*.py")})


@pytest.mark.parametrize("path", modules(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_code_stores_the_on_next_of_an_observer(path: Path) -> None:
    """A link's `on_next` is its subscriber's own function: stored, it would outlive the link."""
    tree = ast.parse(path.read_text())
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    stored = [
        f"{path}:{node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr == "on_next"
        and ast.unparse(node.value).split(".")[-1].lstrip("_") == "observer"
        and id(node) not in called
        and path.name != "stream.py"
    ]
    assert not stored


class TestSubscriptions:
    """A link behaves like RxPY's observer."""

    @staticmethod
    def played(make: Callable[[Any], Observable[int]], events: list[str]) -> list[object]:
        """Return what a subscriber receives during `events`, and whether upstream was disposed."""
        received: list[object] = []
        source: list[abc.ObserverBase[int]] = []

        def subscribe(observer: abc.ObserverBase[int], _: object = None) -> abc.DisposableBase:
            source.append(observer)
            return Disposable(lambda: received.append("disposed"))

        def raises() -> None:
            raise LookupError

        subscription = make(subscribe).subscribe(
            lambda item: raises() if item < 0 else received.append(item),
            lambda error: received.append(repr(error)),
            lambda: received.append("completed"),
        )
        for number, event in enumerate(events):
            with contextlib.suppress(LookupError):
                match event:
                    case "next":
                        source[0].on_next(number)
                    case "raise":
                        source[0].on_next(-1)
                    case "error":
                        source[0].on_error(ValueError(number))
                    case "complete":
                        source[0].on_completed()
                    case "dispose":
                        subscription.dispose()
        return received

    @given(st.lists(st.sampled_from(["next", "raise", "error", "complete", "dispose"]), max_size=6))
    def test_it_behaves_as_in_rxpy_for_any_events(self, events: list[str]) -> None:
        expected = self.played(lambda subscribe: Observable(subscribe), events)
        assert self.played(lambda subscribe: Stream(subscribe, "test"), events) == expected

    def test_an_error_during_subscription_is_an_error_of_the_stream(self) -> None:
        def subscribe(*_: object) -> abc.DisposableBase:
            raise ValueError("no")

        errors: list[Exception] = []
        Stream(subscribe, "test").subscribe(on_error=errors.append)
        assert str(errors[0]) == "no"

    def test_subscribe_may_return_a_function(self) -> None:
        disposed: list[bool] = []
        stream: Stream[int] = Stream(lambda *_: lambda: disposed.append(True), "test")
        stream.subscribe().dispose()
        assert disposed == [True]

    def test_a_source_that_ends_during_subscription_is_disposed(self) -> None:
        disposed: list[bool] = []

        def subscribe(observer: abc.ObserverBase[int], _: object = None) -> abc.DisposableBase:
            observer.on_completed()
            return Disposable(lambda: disposed.append(True))

        Stream(subscribe, "test").subscribe()
        assert disposed == [True]

    def test_without_on_error_the_error_is_raised(self) -> None:
        subject: Subject[int] = Subject()
        as_stream(subject, "test").subscribe()
        with pytest.raises(LookupError):
            subject.on_error(LookupError())

    def test_subscribe_takes_an_observer(self) -> None:
        received: list[object] = []
        subject: Subject[object] = Subject()
        subject.subscribe(received.append, received.append, lambda: received.append("completed"))
        as_stream(rx.of(1, 2), "test").subscribe(subject)
        assert received == [1, 2, "completed"]

    @pytest.mark.parametrize("operators", [[], [ops.drop_blank()], [rxo.map(lambda item: item)]])
    def test_a_link_passed_to_another_stream_is_cut_there_too(self, operators: Any) -> None:
        """An operator may pass its observer upstream: items after the end are dropped."""
        pushing: list[Callable[[], object]] = []

        def push(observer: abc.ObserverBase[Token], _: object = None) -> abc.DisposableBase:
            pushing.append(
                lambda: [observer.on_next(Token(letter)) for letter in "abcdef"] and None
            )
            return Disposable()

        inner = Stream(push, "inner").pipe(*operators)
        outer: Stream[Token] = Stream(
            lambda observer, _: inner.subscribe(observer) and Disposable(), "outer"
        )
        received: list[str] = []

        def on_next(token: Token) -> None:
            received.append(token.text)
            if len(received) == 2:
                subscription.dispose()

        subscription = outer.subscribe(on_next)
        pushing[0]()
        assert received == ["a", "b"]

    async def test_an_operator_that_stores_on_next_is_safe_in_a_pipe(self) -> None:
        """RxPY's own operators may do so, since they receive an observer of RxPY."""

        def keeping(source: Observable[Token]) -> Observable[Token]:
            def subscribe(
                observer: abc.ObserverBase[Token], scheduler: abc.SchedulerBase | None = None
            ) -> abc.DisposableBase:
                return source.subscribe(observer.on_next, scheduler=scheduler)

            return Observable(subscribe)

        received: list[Token] = []
        tokens = [Token(letter) for letter in "abcdef"]
        stream = as_stream(rx.from_iterable(tokens), "tokens").pipe(keeping, rxo.take(2))
        stream.subscribe(received.append)
        await asyncio.sleep(0)
        assert received == tokens[:2]

    def test_few_streams_need_a_lock(self) -> None:
        _, stream = story()
        assert "lock" not in vars(stream)
        with stream.lock:
            assert stream.lock is stream.lock

    def test_two_threads_that_race_for_the_lock_get_the_same_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        new_lock = threading.RLock
        others: list[Any] = []

        def overtaken() -> Any:
            if not others:
                others.append(None)
                others[0] = stream.lock  # another thread is faster
            return new_lock()

        stream = ScriptedModel(STORY).stream("Hi")
        monkeypatch.setattr("rxllm.stream.threading.RLock", overtaken)
        assert stream.lock is others[0]


def test_a_plain_observable_can_be_read() -> None:
    chunks: Observable[Chunk] = rx.of(Start("1", "m"), Token("Once"), End("stop"))
    assert rxllm.run(chunks).text == "Once"
    assert rxllm.run(rxllm.sinks.collect(chunks)).text == "Once"


def test_a_stream_runs_in_virtual_time() -> None:
    async def main() -> float:
        await ScriptedModel(STORY, delay=60).stream("Hi")
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 240
