"""The cost of each operator per token, compared with a bare `map` and RxPY's nearest operator.

Each operator runs over the same tokens as a bare `map`, alternately, and the cost of the stream
itself is subtracted from both. Operators that wait run in virtual time. `growth` is the cost per
token in a stream of 10^5 tokens divided by that in a stream of 10^3.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import reactivex as rx
import structlog
from prometheus_client import CollectorRegistry
from reactivex import Observable
from reactivex import operators as rx_ops
from reactivex.scheduler import ImmediateScheduler

from rxllm import StreamScheduler, from_async
from rxllm import operators as ops
from rxllm.chunks import Chunk, End, Token, ToolCall
from rxllm.testing import VirtualTimeLoop
from tests.benchmarks.side_by_side import Result

Operator: TypeAlias = Callable[[Observable[Any]], Observable[Any]]
Texts: TypeAlias = Callable[[int], Iterator[Any]]

ROUNDS = 5
SHORT, MIDDLE, LONG = 1_000, 10_000, 100_000
PASS_THROUGH = 5.0  # times a bare map: 0.4 us instead of 0.08


def prose(count: int) -> Iterator[Token]:
    """Yield words, with a full stop after each 13th and a line end after each 97th."""
    for number in range(count):
        end = ".\n" if number % 97 == 0 else ". " if number % 13 == 0 else " "
        yield Token(f"word{number % 89}{end}")


def json_pieces(count: int) -> Iterator[Token]:
    """Yield one JSON document in short pieces."""
    yield Token("[0")
    for number in range(count - 2):
        yield Token(f', "item {number % 89}"')
    yield Token("]")


def tool_deltas(count: int) -> Iterator[ToolCall]:
    """Yield tool calls whose arguments arrive in ten pieces each."""
    arguments = json.dumps({"city": "Oslo", "days": 3, "units": "metric"})
    cuts = [arguments[: len(arguments) * part // 10] for part in range(1, 11)]
    for number in range(count // 10):
        for cut in cuts:
            yield ToolCall(f"call-{number}", "weather", cut, number, complete=cut == arguments)


@dataclass(frozen=True)
class Case:
    """An operator, RxPY's nearest operator, and the limit of its cost in bare maps."""

    name: str
    ours: Callable[[], Operator]
    nearest_name: str
    nearest: Callable[[], Operator]
    limit: float = PASS_THROUGH
    reason: str = ""
    texts: Texts = prose
    waits: bool = False  # emits from timers or tasks


async def itself(chunk: Chunk) -> Chunk:
    return chunk


async def yes(_: Chunk) -> bool:
    return True


def bare() -> Operator:
    return rx_ops.map(lambda chunk: chunk)


def concat() -> Operator:
    return rx_ops.concat_map(lambda chunk: rx.from_future(asyncio.ensure_future(itself(chunk))))


def count_10() -> Operator:
    return rx_ops.buffer_with_count(10)


def observe_on() -> Operator:
    return rx_ops.observe_on(ImmediateScheduler())


def split_map() -> Operator:
    return rx_ops.flat_map(lambda chunk: rx.from_iterable(getattr(chunk, "text", "").split()))


def scan_text() -> Operator:
    return rx_ops.scan(lambda length, chunk: length + len(getattr(chunk, "text", "")), 0)


def delay() -> Operator:
    return rx_ops.delay(0.01)


def sample() -> Operator:
    return rx_ops.throttle_first(0.1)


def take_while() -> Operator:
    return rx_ops.take_while(lambda chunk: "###" not in getattr(chunk, "text", ""))


def substitute() -> Operator:
    pattern = re.compile(r"\bsecret\b")
    return rx_ops.map(lambda chunk: pattern.sub("***", getattr(chunk, "text", "")))


def keep_all() -> Operator:
    return rx_ops.filter(lambda chunk: True)


def lower_map() -> Operator:
    return rx_ops.map(lambda chunk: getattr(chunk, "text", "").lower())


def upper_map() -> Operator:
    return rx_ops.map(lambda chunk: getattr(chunk, "text", "").upper())


def timestamp() -> Operator:
    return rx_ops.timestamp()


# Reasons why an operator may cost more than a pass-through.
COPIES = "makes new chunks"
ENTRIES = "an entry with two timestamps for each chunk"
LETTERS = "a timer for each letter"
QUEUES = "a queue, and a valve for demand"
READS = "looks at every character"
PARSES = "parses the text"
EACH = "parses and sends a value for each token"
SPLITS = "looks at every character, and makes new pieces"
TASK = "a task for each chunk"
TIMER = "a timer for each piece emitted"

ANALYTICS = ops.StreamAnalytics()
LOG = ops.DebugLog()
QUIET = structlog.wrap_logger(
    None, wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
)
REGISTRY = CollectorRegistry()

CASES = [
    Case(
        "batch(10, 0.1)",
        lambda: ops.batch(10, 0.1),
        "buffer_with_time_or_count",
        lambda: rx_ops.buffer_with_time_or_count(0.1, 10),
    ),
    Case("rechunk(64)", lambda: ops.rechunk(64), "buffer_with_count", count_10, 12.0, SPLITS),
    Case("buffered(1024)", lambda: ops.buffered(1024), "observe_on", observe_on, 25.0, QUEUES),
    Case("words()", lambda: ops.words(), "flat_map", split_map, 60.0, SPLITS),
    Case("sentences()", lambda: ops.sentences(), "scan", scan_text, 60.0, SPLITS),
    Case("lines()", lambda: ops.lines(), "scan", scan_text, 30.0, SPLITS),
    Case(
        "rate_limit(10_000)",
        lambda: ops.rate_limit(10_000),
        "delay",
        delay,
        200.0,
        TIMER,
        waits=True,
    ),
    Case("smooth()", lambda: ops.smooth(), "delay", delay, 250.0, TIMER, waits=True),
    Case(
        "typewriter(1000)",
        lambda: ops.typewriter(1000),
        "delay",
        delay,
        1500.0,
        LETTERS,
        waits=True,
    ),
    Case("pace()", lambda: ops.pace(), "delay", delay, 200.0, TIMER, waits=True),
    Case("throttle(0.1)", lambda: ops.throttle(0.1), "sample", sample, 15.0, QUEUES),
    Case(
        "stop_on(two)",
        lambda: ops.stop_on("\nHuman:", "###"),
        "take_while",
        take_while,
        8.0,
        "looks at every character",
    ),
    Case("redact(two words)", lambda: ops.redact("secret", "key"), "map", substitute, 30.0, SPLITS),
    Case(
        "redact(a pattern)",
        lambda: ops.redact(re.compile(r"\bsk-\w+")),
        "map",
        substitute,
        120.0,
        "a match may begin at any character",
    ),
    Case("filters(one)", lambda: ops.filters(lambda chunk: chunk), "filter", keep_all),
    Case("change_case('lower')", lambda: ops.change_case("lower"), "map", lower_map, 30.0, SPLITS),
    Case(
        "guard(check)",
        lambda: ops.guard(lambda _: True),
        "buffer_with_count",
        count_10,
        30.0,
        "holds, checks and joins windows",
    ),
    Case("drop_blank()", lambda: ops.drop_blank(), "filter", keep_all),
    Case("map_text(str.upper)", lambda: ops.map_text(str.upper), "map", upper_map, 10.0, COPIES),
    Case(
        "map_async(f)", lambda: ops.map_async(itself), "concat_map", concat, 900.0, TASK, waits=True
    ),
    Case(
        "filter_async(f)",
        lambda: ops.filter_async(yes),
        "concat_map",
        concat,
        900.0,
        TASK,
        waits=True,
    ),
    Case("accumulate()", lambda: ops.accumulate(), "scan", scan_text, 12.0, COPIES),
    Case("markdown_to_html()", lambda: ops.markdown_to_html(), "scan", scan_text, 300.0, PARSES),
    Case(
        "json_items()",
        lambda: ops.json_items(path=""),
        "scan",
        scan_text,
        80.0,
        "parses the text, and sends each token's value",
        json_pieces,
    ),
    Case("parse_json()", lambda: ops.parse_json(), "scan", scan_text, 40.0, PARSES, json_pieces),
    Case("tool_calls()", lambda: ops.tool_calls(), "filter", keep_all, 15.0, COPIES, tool_deltas),
    Case("text()", lambda: ops.text(), "map", upper_map),
    Case("error_boundary(f)", lambda: ops.error_boundary(lambda chunk: chunk), "map", bare),
    Case(
        "measure(report)",
        lambda: ops.measure(lambda _: None),
        "timestamp",
        timestamp,
        8.0,
        "reads the clock at each token",
    ),
    Case(
        "analyze(analytics)",
        lambda: ops.analyze(ANALYTICS),
        "timestamp",
        timestamp,
        8.0,
        "reads the clock at each token",
    ),
    Case(
        "meter(registry)",
        lambda: ops.meter(REGISTRY),
        "timestamp",
        timestamp,
        8.0,
        "reads the clock at each token",
    ),
    Case("trace()", lambda: ops.trace(), "timestamp", timestamp),
    Case("log_stream()", lambda: ops.log_stream(QUIET), "timestamp", timestamp),
    Case("debug(log)", lambda: ops.debug(LOG), "timestamp", timestamp, 12.0, ENTRIES),
    Case("track_stages()", lambda: ops.track_stages(), "scan", scan_text),
    Case(
        "analyze_text(report)",
        lambda: ops.analyze_text(lambda _: None),
        "scan",
        scan_text,
        60.0,
        READS,
    ),
    Case(
        "sentiment_and_keywords(report)",
        lambda: ops.sentiment_and_keywords(lambda _: None),
        "scan",
        scan_text,
        60.0,
        READS,
    ),
    Case("progress(10)", lambda: ops.progress(10), "scan", scan_text),
    Case("price()", lambda: ops.price(), "map", bare),
    Case("pausable(control)", lambda: ops.pausable(ops.Control()), "map", bare),
    Case("budget(tokens=n)", lambda: ops.budget(tokens=10**9), "scan", scan_text),
]


def run_to_end(
    operator: Operator | None, count: int, texts: Texts, *, waits: bool
) -> tuple[float, int]:
    """Return the CPU seconds that a stream takes, and the number of items emitted."""
    chunks = [*texts(count), End("stop")]
    emitted = 0

    def on_next(_: object) -> None:
        nonlocal emitted
        emitted += 1

    async def reads() -> AsyncIterator[list[Chunk]]:
        pieces = iter(chunks)
        while read := list(islice(pieces, 8)):
            yield read

    async def main() -> float:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        source = from_async(reads, batched=True) if waits else rx.from_iterable(chunks)
        stream = source if operator is None else source.pipe(operator)
        scheduler = StreamScheduler(loop)
        started = time.process_time()
        stream.subscribe(
            on_next, ended.set_exception, lambda: ended.set_result(None), scheduler=scheduler
        )
        await ended
        return time.process_time() - started

    factory = VirtualTimeLoop if waits else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main()), emitted


def microseconds(case: Case, make: Callable[[], Operator] | None, count: int) -> float:
    """Return the cost that one operator adds per token."""
    with_it, emitted = run_to_end(make() if make else None, count, case.texts, waits=case.waits)
    assert emitted, f"{case.name} emitted nothing"
    without, _ = run_to_end(None, count, case.texts, waits=case.waits)
    return max(with_it - without, 0.0) / count * 1e6


@dataclass(frozen=True)
class Row:
    """Medians, in microseconds per token."""

    case: Case
    ours: float
    bare: float
    nearest: float
    growth: float

    @property
    def ratio(self) -> float:
        """The cost relative to a bare map."""
        return self.ours / max(self.bare, 0.01)

    @property
    def is_within(self) -> bool:
        """True if the cost is within its limit and doesn't grow with the length of the stream."""
        return self.ratio <= self.case.limit and self.growth <= 2.0


def measured(case: Case) -> Row:
    """Measure an operator, a bare map and the nearest operator alternately."""
    makers: list[Callable[[], Operator]] = [case.ours, bare, case.nearest]
    rounds = []
    for _ in range(ROUNDS):
        rounds.append([microseconds(case, make, MIDDLE) for make in makers])
    ours, plain, nearest = (statistics.median(column) for column in zip(*rounds, strict=True))
    short = statistics.median(microseconds(case, case.ours, SHORT) for _ in range(15))
    long = statistics.median(microseconds(case, case.ours, LONG) for _ in range(3))
    return Row(case, ours, plain, nearest, long / max(short, 0.05))


def benchmarks() -> Iterator[Result]:
    """Yield a result for each operator."""
    for case in CASES:
        row = measured(case)
        yield Result(
            f"{case.name} (growth {row.growth:.2f}; {case.nearest_name}: {row.nearest:.2f} us)",
            f"{row.ours:.2f} us per token",
            f"{row.bare:.2f} us per token",
            row.ratio,
            f"at most {case.limit:g} x",
            row.is_within,
        )


def main() -> None:
    """Print the table of `tests/benchmarks/README.md`."""
    selected = sys.argv[1:]
    for case in CASES:
        if not selected or case.name.partition("(")[0] in selected:
            row = measured(case)
            print(
                f"| `{case.name}` | {row.ours:.2f} | {row.ratio:.1f} | {case.limit:g} "
                f"| `{case.nearest_name}`: {row.nearest:.2f} | {row.growth:.2f} | {case.reason} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
