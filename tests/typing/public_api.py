# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""A user's file that uses the whole public API: checked by mypy and pyright, never run.

A line with a `type: ignore` must be an error, since the checkers report unneeded ones. A test
compares the names used here with each `__all__`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Unpack, assert_type

import reactivex
from aiohttp import web
from reactivex import Observable

import rxllm
from rxllm import Chunk, Stream, agents, errors, models, redis, server, sinks, testing
from rxllm import operators as ops

_ChunksToChunks = Callable[[Observable[Chunk]], Stream[Chunk]]


def misspelt_names_are_errors() -> None:
    ops.retry_with_backof  # type: ignore[attr-defined]  # noqa: B018
    rxllm.Roter  # type: ignore[attr-defined]  # noqa: B018
    sinks.consol  # type: ignore[attr-defined]  # noqa: B018
    models.modle  # type: ignore[attr-defined]  # noqa: B018
    server.create_ap  # type: ignore[attr-defined]  # noqa: B018


# rxllm


def the_packages_are_attributes() -> None:
    assert_type(rxllm.operators.words(), _ChunksToChunks)
    assert_type(rxllm.errors.BadRequestError("no"), errors.BadRequestError)
    assert_type(rxllm.models.scripted.ScriptedModel("Hi"), models.ScriptedModel)
    assert_type(rxllm.server.create_app(), web.Application)
    assert_type(rxllm.sinks.Streams(), sinks.Streams)
    assert_type(rxllm.testing.Marbles(), testing.Marbles)


def models_by_name() -> None:
    model = rxllm.model("tiny", slots=2)
    assert_type(model, rxllm.Model)
    assert_type(model.info, rxllm.ModelInfo)
    assert_type(rxllm.list_models(), list[rxllm.ModelInfo])
    assert_type(rxllm.streaming_pays(100), bool)
    router = rxllm.Router(["tiny", model], "balanced", settings=rxllm.Settings(total=60))
    assert_type(router.stream("Hi", temperature=0), Stream[Chunk])
    rxllm.Router(["tiny"], breaker_of=lambda info: redis.RedisBreaker("redis://x", info.id))
    rxllm.Router(["tiny"], "fastestest")  # type: ignore[arg-type]
    chat = rxllm.Chat("tiny", system="Be brief.", keep=9, temperature=0)
    assert_type(chat.ask("Hi", max_tokens=9), Stream[Chunk])
    assert_type(chat.history[-1].text, str)

    def made(rest: str, **options: object) -> rxllm.Model:
        return model

    rxllm.register("mine", made, rxllm.ModelInfo("mine", "mine"))


def recordings(model: rxllm.Model) -> None:
    assert_type(rxllm.recorded(model, "run.jsonl"), rxllm.Model)
    rxllm.recorded(5, "run.jsonl")  # type: ignore[arg-type]
    replay = rxllm.replay(Path("run.jsonl"), timing=True, match="order", until=3)
    assert_type(replay.stream("Hi", seed=7), Stream[Chunk])
    assert_type(replay.then("tiny", by="prompt"), rxllm.Model)
    rxllm.replay("run.jsonl", match="any")  # type: ignore[arg-type]


def a_custom_model() -> rxllm.Model:
    class Own:
        @property
        def info(self) -> rxllm.ModelInfo:
            return rxllm.ModelInfo("own", "own")

        def stream(
            self, prompt: object, **options: Unpack[rxllm.RequestOptions]
        ) -> rxllm.Stream[Chunk]:
            assert_type(options.get("seed"), int | None)
            return rxllm.Stream(_subscribe, "own", of_chunks=True)

    return Own()


def prompts(model: rxllm.Model) -> None:
    image = rxllm.ImagePart(url="https://example.org/a.png")
    file = rxllm.FilePart(url="https://example.org/a.pdf")
    question = rxllm.Message("user", (rxllm.TextPart("What is it?"), image, file))
    thought = rxllm.Message("assistant", (rxllm.ReasoningPart("hm"), rxllm.ToolCall("c", "look")))
    assert_type(thought.calls, tuple[rxllm.ToolCall, ...])
    request = rxllm.Request(messages=(question,), tools=(rxllm.Tool("look"),))
    assert_type(request.messages, tuple[rxllm.Message, ...])
    assert_type(model.stream(request), Stream[Chunk])
    assert_type(model.stream([question]), Stream[Chunk])


async def answers_of_a_type(model: rxllm.Model) -> None:
    @dataclass
    class Cat:
        name: str

    for answer_type in (Cat, list[Cat], Cat | None, Literal["a", "b"], {"type": "object"}, "json"):
        assert_type(model.stream("Hi", response_format=answer_type), Stream[Chunk])
    result = await model.stream("Hi", response_format=Cat)
    assert_type(result.value, Any)
    cat: Cat = result.value
    print(cat.name)


def chunks_are_distinguished(chunk: Chunk) -> None:
    match chunk:
        case rxllm.Start():
            assert_type(chunk.request_id, str)
        case rxllm.Token():
            assert_type(chunk.confidence, float | None)
        case rxllm.Reasoning():
            assert_type(chunk.state, rxllm.ProviderState | None)
        case rxllm.Batch():
            assert_type(chunk.text, str)
        case rxllm.ToolCall():
            assert_type(chunk.arguments, str)
        case rxllm.Json():
            assert_type(chunk.complete, bool)
        case rxllm.Citation():
            assert_type(chunk.url, str | None)
        case rxllm.ToolResult():
            assert_type(chunk.error, rxllm.ErrorInfo | None)
        case rxllm.ApprovalRequest():
            assert_type(chunk.token, str)
        case rxllm.Steering():
            assert_type(chunk.id, str | None)
        case rxllm.FileOutput():
            assert_type(chunk.media_type, str)
        case rxllm.Usage():
            assert_type(chunk.cost, float | None)
        case rxllm.Progress():
            assert_type(chunk.tokens, int)
        case rxllm.Notice():
            assert_type(chunk.error, rxllm.ErrorInfo | None)
        case rxllm.End():
            assert_type(chunk.stop_sequence, str | None)


def tools() -> None:
    @rxllm.tool
    def look(place: str, here: rxllm.ToolContext) -> str:
        here.report({"place": place})
        raise rxllm.ToolError("it is dark")

    def decide(arguments: dict[str, Any], here: agents.ToolContext) -> agents.Decision:
        return "ask" if here.step > 1 else True

    policy: agents.Policy = decide

    @rxllm.tool(approval=policy, timeout=10, name="walk")
    async def walk(to: str) -> None: ...

    assert_type(look, rxllm.FunctionTool)
    assert_type(walk, agents.FunctionTool)
    assert_type(walk.tool, rxllm.Tool)
    rxllm.tool(approval="always")  # type: ignore[call-overload]
    rxllm.tool(time_out=10)  # type: ignore[call-overload]
    assert issubclass(agents.ToolError, Exception)
    assert agents.mcp_server is rxllm.mcp_server
    assert agents.mcp_tools is rxllm.mcp_tools


def agent(model: rxllm.Model, look: rxllm.FunctionTool) -> None:
    def shorten(turn: agents.Turn) -> agents.Turn | None:
        return None if turn.step < 3 else turn

    prepare: agents.Prepare = shorten
    approvals: agents.Approvals = {"token": True}
    inbox = agents.Inbox()
    assert rxllm.Inbox is agents.Inbox
    helper = rxllm.Agent(model, [look], prepare=prepare, max_steps=3)
    assert_type(helper, agents.Agent)
    assert_type(helper.as_tool("ask", "Ask somebody."), rxllm.FunctionTool)
    stream = helper.stream("Hi", approvals=approvals, inbox=inbox, context={}, max_tokens=9)
    assert_type(stream, Stream[Chunk])
    assert_type(rxllm.prune([rxllm.Message("user", "Hi")], keep=1), tuple[rxllm.Message, ...])
    assert_type(agents.prune_steps(keep=3), agents.Prepare)
    assert rxllm.prune is agents.prune
    rxllm.Agent(model, prepare=rxllm.prune_steps(), max_steps=3)
    rxllm.Agent(model, claim=redis.RedisClaims("redis://127.0.0.1", "x", ttl=60))
    rxllm.Agent(model, max_stops=3)  # type: ignore[call-arg]
    assert_type(rxllm.piped(helper, ops.timeouts(first=1)), rxllm.Model)


async def tools_of_mcp_servers() -> None:
    async with rxllm.mcp_server("python", "server.py", sequential=True) as tools:
        assert_type(tools, list[rxllm.FunctionTool])
    rxllm.mcp_server("https://example.org/mcp", approval="always")  # type: ignore[arg-type]


async def streams_and_demand(stream: Stream[Chunk]) -> None:
    assert_type(rxllm.run(stream), rxllm.Result)
    assert_type(rxllm.run(asyncio.sleep(0, "x")), str)
    assert_type(rxllm.to_async(stream), AsyncGenerator[Chunk, None])
    assert_type(rxllm.from_async(lambda: rxllm.to_async(stream)), Stream[Chunk])
    valve = rxllm.Valve()
    assert_type(valve.is_open, bool)
    scheduler = rxllm.StreamScheduler(asyncio.get_running_loop(), valve)
    assert_type(scheduler.valve, rxllm.Valve)
    stream.subscribe(print, scheduler=scheduler)


def failures(error: rxllm.RxLLMError) -> None:
    assert_type(error.retryable, bool)
    assert_type(rxllm.classify_error(error), Literal["retry", "fallback", "raise"])
    if isinstance(error, errors.AllModelsFailedError):
        assert_type(error.errors, tuple[Exception, ...])
    if isinstance(error, errors.InvalidAnswerError):
        assert_type(error.path, str | None)


# rxllm.operators


def analytics(source: Stream[Chunk]) -> None:
    def on_text(figures: ops.TextFigures) -> None:
        assert_type(figures.words_per_sentence, float | None)

    def on_content(figures: ops.ContentFigures) -> None:
        assert_type(figures.keywords, dict[str, int])

    def on_measured(measurement: ops.Measurement) -> None:
        assert_type(measurement.tokens_per_second, float | None)
        assert_type(measurement.intervals, ops.Intervals)

    assert_type(ops.analyze_text(on_text), _ChunksToChunks)
    lexicon = ops.read_lexicon()
    assert_type(lexicon, ops.Lexicon)
    assert_type(ops.sentiment_and_keywords(on_content, lexicon=lexicon), _ChunksToChunks)
    assert_type(ops.measure(on_measured), _ChunksToChunks)
    ops.measure(on_text)  # type: ignore[arg-type]
    assert_type(ops.meter(model="tiny"), _ChunksToChunks)
    assert_type(ops.trace(model="tiny"), _ChunksToChunks)
    assert_type(ops.log_stream(chunks=True, user="me"), _ChunksToChunks)
    assert_type(ops.progress(every=5), _ChunksToChunks)
    assert_type(ops.track_stages(max_tokens=100), _ChunksToChunks)

    def store(messages: tuple[rxllm.Message, ...]) -> None: ...

    assert_type(ops.transcribe(store), _ChunksToChunks)
    ops.transcribe(on_text)  # type: ignore[arg-type]
    prices = rxllm.read_model_table(Path("models.toml"))
    assert_type(prices, rxllm.ModelTable)
    assert_type(prices.models, dict[str, rxllm.ModelFacts])
    assert_type(prices.price_of("openai/gpt"), rxllm.Price | None)
    assert_type(rxllm.TokenCount(3).estimated, bool)
    assert_type(rxllm.run(rxllm.available_models("ollama")), list[rxllm.ModelInfo])
    assert_type(ops.price(prices), _ChunksToChunks)
    log = ops.DebugLog(size=10, echo=True)
    assert_type(log.summary(), ops.DebugSummary)
    assert_type(list(log), list[ops.DebugEntry])
    assert_type(ops.debug(log), _ChunksToChunks)
    analytics = ops.StreamAnalytics()
    assert_type(source.pipe(ops.analyze(analytics, "mine")), Stream[Chunk])
    assert_type(analytics.report(), ops.AnalyticsReport)
    assert_type(analytics.report().slowest, ops.StreamRecord | None)


def buffering() -> None:
    def on_count(count: ops.TextCount) -> None:
        assert_type(count.kind, Literal["words", "sentences", "lines"])

    status = ops.BufferStatus()
    assert_type(ops.buffered(status=status), _ChunksToChunks)
    assert_type(status.pressure, float)
    assert_type(ops.batch(size=5), _ChunksToChunks)
    assert_type(ops.rechunk("adaptive"), _ChunksToChunks)
    assert_type(ops.words(on_count), _ChunksToChunks)
    assert_type(ops.sentences(on_count), _ChunksToChunks)
    assert_type(ops.lines(on_count), _ChunksToChunks)


def combining(model: rxllm.Model, a: Stream[Chunk], b: Observable[Chunk]) -> None:
    def on_race(result: ops.RaceResult) -> None:
        assert_type(result.winner, str | None)

    def on_end(summaries: Mapping[str, ops.StreamSummary]) -> None:
        assert_type(summaries["a"].status, Literal["completed", "failed", "cancelled"])

    def on_choice(choice: ops.Choice) -> None:
        assert_type(choice.scores, dict[str, float])

    assert_type(ops.merge_streams(a, b, on_active=print), Stream[Chunk])
    assert_type(ops.race({"a": a, "b": b}, on_result=on_race), Stream[Chunk])
    assert_type(ops.hedge(a, b, after=2, on_result=on_race), Stream[Chunk])
    assert_type(ops.best_of({"a": a, "b": b}, on_choice=on_choice), Stream[Chunk])
    assert_type(ops.side_by_side({"a": a, "b": b}, on_result=on_end), Stream[Chunk])
    assert_type(ops.parallel(["p", "q"], model, ops.Pool(2), on_result=on_end), Stream[Chunk])
    assert_type(ops.quick_then_detailed(a, lambda text: model.stream(text)), Stream[Chunk])
    assert_type(a.pipe(ops.merge_with(b, a), ops.words()), Stream[Chunk])
    assert_type(a.pipe(ops.race_with({"b": b}, name="a", on_result=on_race)), Stream[Chunk])
    assert_type(a.pipe(ops.hedge_with(b, after=2, on_result=on_race)), Stream[Chunk])
    assert_type(a.pipe(ops.best_of_with(b, weights={"0": 2})), Stream[Chunk])
    assert_type(a.pipe(ops.side_by_side_with({"b": b}, name="a")), Stream[Chunk])
    assert_type(reactivex.merge(a, b).pipe(ops.merge_with(b)), Stream[Chunk])
    ops.side_by_side_with("b")  # type: ignore[arg-type]


def controlling() -> None:
    control = ops.Control(max_pause=60)
    assert_type(ops.pausable(control), _ChunksToChunks)
    control.pause()
    assert_type(ops.limit_concurrency(ops.Pool(3, queue=10)), _ChunksToChunks)
    connections = redis.RedisConnections("redis://127.0.0.1")
    assert_type(ops.limit(redis.RedisLimiter(connections, "x", tokens=9)), _ChunksToChunks)
    pools: list[ops.SlotPool] = [ops.Pool(3), redis.RedisPool(connections, "x", 3)]
    assert_type(ops.limit_concurrency(pools[0]), _ChunksToChunks)
    assert_type(ops.budget(1.5, 1000, prices="models.toml"), _ChunksToChunks)
    assert_type(ops.budget(ops.Budget(usd=5), input_tokens=10), _ChunksToChunks)
    registry = ops.StreamRegistry()
    assert_type(ops.track(registry, "mine"), _ChunksToChunks)
    assert_type(registry["mine"], ops.TrackedStream)
    assert_type(registry.snapshot(), list[ops.StreamInfo])


def a_pool_and_a_limiter_of_ones_own(
    pool: ops.SlotPool, stream: ops.Pooled, limiter: ops.RateLimiter, request: ops.Limited
) -> None:
    assert_type(pool.enter(stream), bool)
    assert_type(limiter.delay(request, 1.0), float)
    assert_type(ops.limit(limiter), _ChunksToChunks)


def filtering() -> None:
    def on_redaction(redaction: ops.Redaction) -> None:
        assert_type(redaction.by, Mapping[str, int])

    assert_type(ops.stop_on("\n", "END"), _ChunksToChunks)
    assert_type(ops.redact("bad", on_result=on_redaction), _ChunksToChunks)
    assert_type(ops.change_case("upper"), _ChunksToChunks)
    assert_type(ops.punctuation("ascii"), _ChunksToChunks)
    assert_type(ops.drop_blank(), _ChunksToChunks)
    assert_type(ops.filters(lambda chunk: chunk), _ChunksToChunks)
    assert_type(ops.guard(lambda text: "x" in text, on_violation="error"), _ChunksToChunks)

    async def is_harmless(text: str, about: ops.Checked) -> bool:
        return about.tool is None or about.what != "arguments" or text != about.source

    both = ops.guard(is_harmless, what=("text", "arguments"), on_violation="retract")
    assert_type(both, _ChunksToChunks)
    ops.guard(is_harmless, what="json")  # type: ignore[arg-type]
    ops.guard(is_harmless, on_violation="warn")  # type: ignore[arg-type]
    ops.punctuation("latin")  # type: ignore[arg-type]


def multicasting(model: rxllm.Model, source: Stream[Chunk]) -> None:
    class Store(ops.CacheStore):
        def get(self, key: str, *, now: float) -> bytes | None:
            return None

        def put(self, key: str, answer: bytes, *, now: float, ttl: float | None) -> None:
            return None

    key = ops.cache_key(model, "Hi", temperature=0)
    assert_type(key, str)
    assert_type(ops.cache(Store(), key), _ChunksToChunks)
    shared_store: ops.AsyncCacheStore = redis.RedisCache("redis://127.0.0.1", "x")
    assert_type(ops.cache(shared_store, key), _ChunksToChunks)
    assert_type(ops.cache(ops.MemoryStore(max_entries=9), key, ttl=None), _ChunksToChunks)
    shared = source.pipe(ops.multiplex(on_lag="coalesce"))
    assert_type(shared, ops.Multiplexed)
    assert_type(shared.pipe(ops.text()), Stream[str])


def recovery(model: rxllm.Model, backup: Stream[Chunk]) -> None:
    def on_output(after: ops.AfterOutput) -> _ChunksToChunks:
        return ops.retry_with_backoff(3, after_output=after)

    def is_long(quality: ops.Quality) -> bool:
        return quality.characters > 1000

    assert_type(on_output("restart"), _ChunksToChunks)
    assert_type(on_output(lambda partial: model.stream(partial)), _ChunksToChunks)
    on_output("resart")  # type: ignore[arg-type]
    assert_type(ops.fallback_to(backup, lambda: backup, apology="Sorry."), _ChunksToChunks)
    assert_type(ops.resume(model, "Hi", attempts=2, seed=1), _ChunksToChunks)
    assert_type(ops.complete_partial(model, "Hi"), _ChunksToChunks)
    assert_type(ops.degrade(model, "Hi", max_tokens=100), Stream[Chunk])
    assert_type(ops.keep_partial(), _ChunksToChunks)
    assert_type(ops.require_output(), _ChunksToChunks)
    assert_type(ops.timeouts(first=10, between=5, total=60), _ChunksToChunks)
    assert_type(
        ops.quality_gate(is_long, ops.too_slow(3.0), ops.repeats(times=5), ops.not_json()),
        _ChunksToChunks,
    )
    breaker = ops.CircuitBreaker(failures=3)
    assert_type(breaker.ask(1.0), ops.Permit | None)
    breaker = redis.RedisBreaker("redis://127.0.0.1", "x", failures=3)
    assert_type(ops.circuit_breaker(breaker, counts=ops.is_failure_of_model), _ChunksToChunks)


def throttling() -> None:
    assert_type(ops.pace(gap=0.01), _ChunksToChunks)
    assert_type(ops.rate_limit(50, cost=lambda piece: len(piece.text)), _ChunksToChunks)
    assert_type(ops.smooth(by="word"), _ChunksToChunks)
    assert_type(ops.throttle(0.1), _ChunksToChunks)
    assert_type(ops.typewriter(30), _ChunksToChunks)


def transforming(source: Stream[Chunk], call: rxllm.ToolCall) -> None:
    async def same(chunk: Chunk) -> Chunk:
        return chunk

    async def is_kept(chunk: Chunk) -> bool:
        return chunk.source is None

    for piece in source.pipe(ops.accumulate()):
        assert_type(piece, ops.Accumulated)
        assert_type(piece.length, int)
    assert_type(source.pipe(ops.text()), Stream[str])
    assert_type(source.pipe(ops.markdown_to_html()), Stream[ops.Html | Chunk])
    assert_type(ops.map_text(str.upper), _ChunksToChunks)
    assert_type(ops.split_reasoning(inside=True), _ChunksToChunks)
    assert_type(ops.limit(ops.Limiter(requests=60)), _ChunksToChunks)
    assert_type(ops.map_async(same, concurrency=2), _ChunksToChunks)
    assert_type(ops.filter_async(is_kept), _ChunksToChunks)
    assert_type(ops.error_boundary(lambda chunk: chunk), _ChunksToChunks)
    assert_type(ops.parse_json({"type": "object"}), _ChunksToChunks)
    assert_type(ops.json_items(dict[str, int], path="items"), _ChunksToChunks)
    assert_type(ops.tool_calls(strict=False), _ChunksToChunks)
    assert_type(ops.arguments_of(call), dict[str, Any])


# rxllm.sinks


async def sinks_are_awaited(stream: Stream[Chunk]) -> None:
    result = await sinks.collect(stream)
    assert_type(result, sinks.Result)
    assert_type(result.timings, sinks.Timings)
    assert_type(await sinks.console(stream, figures=False), rxllm.Result)
    assert_type(await sinks.file(stream, Path("story.txt"), append=True), rxllm.Result)


async def chunks_are_dispatched(stream: Stream[Chunk]) -> None:
    def on_token(token: rxllm.Token, seen: list[str]) -> None:
        seen.append(token.text)

    seen: list[str] = []
    assert_type(await sinks.dispatch(stream, {rxllm.Token: on_token}, seen), list[str])


async def models_are_compared(model: rxllm.Model) -> None:
    cases = [rxllm.benchmark.Case("story", "Tell me a story", expect="owl")]
    report = await rxllm.benchmark.benchmark({"tiny": model}, cases, max_tokens=9)
    assert_type(report.rows[0].as_expected, float | None)


async def callbacks(stream: Stream[Chunk]) -> None:
    def on_token(event: sinks.TokenEvent) -> None:
        assert_type(event.token, rxllm.Token)
        assert_type(event.index, int)

    running = sinks.callbacks(stream, on_token=on_token, on_complete=print)
    assert_type(running, sinks.CallbackStream)
    streams = sinks.Streams()
    assert_type(streams.add("mine", running), sinks.CallbackStream)
    assert_type(streams.states(), dict[str, sinks.Status])
    await running.wait()


async def sinks_for_the_web(request: web.Request, stream: Stream[Chunk]) -> web.StreamResponse:
    def on_end(delivered: sinks.DeliveryReport) -> None:
        assert_type(delivered.result, rxllm.Result)

    assert_type(await sinks.ndjson(request, stream, on_end=on_end), web.StreamResponse)
    delivered = await sinks.websocket(web.WebSocketResponse(), stream, "mine")
    assert_type(delivered, sinks.DeliveryReport)
    assert_type(await sinks.openai_chat(request, stream, include_usage=True), web.StreamResponse)
    await sinks.openai_responses(request, stream, runs_tools=True)
    await sinks.anthropic(request, stream, model="m")
    await sinks.ui_messages(request, stream, message_id="m")
    await sinks.ag_ui(request, stream, thread_id="t", run_id="r")
    return await sinks.sse(request, stream, heartbeat=None, on_end=on_end)


async def streams_for_any_framework(
    scope: dict[str, Any], receive: Any, send: Any, stream: Stream[Chunk]
) -> None:
    body = rxllm.web.events(stream, "anthropic")
    assert_type(body, rxllm.web.Events)
    async for data in body:
        assert_type(data, bytes)
    assert_type(await sinks.asgi(scope, receive, send, stream), sinks.DeliveryReport)
    assert_type(rxllm.web.wire_format("sse"), rxllm.web.WireFormat)


# rxllm.models, rxllm.server, rxllm.testing


def models_of_a_script() -> None:
    assert_type(models.model("tiny"), rxllm.Model)
    assert_type(models.list_models(), list[rxllm.ModelInfo])
    script = models.ScriptedModel("Hello", ["wrong", ConnectionResetError()], delay=0.1)
    assert_type(script.stream("Hi"), Stream[Chunk])

    def made(rest: str, **options: object) -> models.scripted.ScriptedModel:
        return models.ScriptedModel(rest)

    models.register("mine", made)


async def a_custom_server(registry: ops.StreamRegistry) -> None:
    class Store(server.MemoryStreams):
        async def read(
            self, stream_id: str, after: int = 0, *, exact: bool = False
        ) -> Observable[server.Frame]:
            return await super().read(stream_id, after)

    store: server.StreamStore = Store(registry, server.Limits(grace=60))
    begun: server.StreamHandle = await store.begin(lambda: rxllm.model("tiny").stream("Hi"), "mine")
    assert_type(await begun.first(), server.Frame)
    server.create_app(chat=server.Persona(system="Be brief."), rooms=server.RoomSettings())
    app = server.create_app(["tiny"], limits=server.Limits(), store=Store)
    assert_type(app, web.Application)
    await server.serve(app, port=8080)
    await server.drain(app)


def tests_without_a_model() -> None:
    marbles = testing.Marbles()
    source = marbles.cold("S-a-b-E|")
    assert_type(source, testing.ColdChunks)
    assert_type(source.subscriptions, list[tuple[float, float | None]])
    assert_type(marbles.hot("a|"), testing.HotChunks)
    assert_type(marbles.subscribe(source.pipe(ops.words())), testing.Recording)
    assert_type(marbles.run(source)[-1] == (7.0, testing.COMPLETED), bool)

    async def main() -> int:
        async with testing.no_leaks():
            return 3

    assert_type(testing.run_virtual(main()), int)
    assert_type(testing.VirtualTimeLoop().time(), float)


def _subscribe(
    observer: reactivex.abc.ObserverBase[Chunk], scheduler: reactivex.abc.SchedulerBase | None
) -> Callable[[], None]:
    return observer.on_completed


# rxllm.web


async def streams_are_kept_by_a_store(store: rxllm.web.StreamStore) -> None:
    assert_type(await store.list(), list[rxllm.web.StreamSummary])
    handle: rxllm.web.StreamHandle = await store.begin(
        lambda: rxllm.model("tiny").stream("Hi"), "mine"
    )
    frame = await handle.first()
    assert_type(frame, rxllm.web.Frame)
    message: rxllm.web.StreamChunk | rxllm.web.Complete | rxllm.web.StreamFailed = frame.message
    assert_type(message.id, str | None)
    kept: rxllm.web.StreamStore = rxllm.web.MemoryStreams(ops.StreamRegistry(), server.Limits())
    kept = redis.RedisStreams("redis://127.0.0.1", ops.StreamRegistry(), server.Limits(), lease=2)
    assert_type(await kept.close(), None)
    server.create_app(store=partial(redis.RedisStreams, "redis://127.0.0.1"), take_over=False)
