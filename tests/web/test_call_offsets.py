"""Tool calls of which only the new arguments are sent: every reader gets them whole."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rxllm.chunks import Chunk, End, Notice, Token, ToolCall, state_key
from rxllm.testing import run_virtual
from rxllm.valve import StreamScheduler, Valve
from rxllm.web.event_log import EventLog
from rxllm.web.stream_messages import Complete
from tests.server.serving import Calls, decode


def calls_of(arguments: list[str], index: int, source: str | None) -> list[Chunk]:
    """A call in pieces: usually each begins with the one before, but that isn't promised."""
    return [ToolCall(f"c{index}", "f", text, index, source=source) for text in arguments]


GROWING = st.lists(st.text("ab", max_size=3), max_size=6).map(
    lambda pieces: ["".join(pieces[:end]) for end in range(1, len(pieces) + 1)]
)
ANY = st.lists(st.text("ab", max_size=4), max_size=4)
CALLS = st.builds(calls_of, GROWING | ANY, st.integers(0, 1), st.sampled_from([None, "x", "y"]))
OTHERS: st.SearchStrategy[list[Chunk]] = st.sampled_from(
    [[Token("t")], [Notice("restart")], [Notice("restart", source="x")], [Token("u", source="y")]]
)
STREAMS = st.lists(CALLS | OTHERS, max_size=8).map(lambda parts: list(chain(*parts)))


@given(STREAMS, st.lists(st.integers(0, 40), max_size=4), st.lists(st.booleans(), max_size=40))
def test_every_reader_gets_each_call_as_it_was(
    chunks: list[Chunk], joins: list[int], pauses: list[bool]
) -> None:
    """Readers join, pause and fall behind at any point; the last state of each call arrives."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        log = EventLog("s", 1000, 1000.0, lambda count: None)
        readers: list[tuple[Valve, Calls, dict[Any, Chunk]]] = []

        def join() -> None:
            calls, seen = Calls(), dict[Any, Chunk]()

            def on_frame(frame: Any) -> None:
                message = calls.whole(decode(frame.data))
                chunk = getattr(message, "chunk", None)
                if isinstance(chunk, ToolCall):
                    seen[state_key(chunk)] = chunk

            valve = Valve()
            log.read(0).subscribe(on_frame, scheduler=StreamScheduler(loop, valve))
            readers.append((valve, calls, seen))

        for at, chunk in enumerate([*chunks, End("stop")]):
            for _ in range(joins.count(at)):
                join()
            if at < len(pauses):
                for valve, _, _ in readers[::2]:
                    (valve.close if pauses[at] else valve.open)()
            log.append(chunk)
        join()
        for valve, _, _ in readers:
            valve.open()
        log.end(Complete(id="s", tokens=0, seconds=0.0))
        newest: dict[Any, Chunk] = {}
        for chunk in chunks:
            if isinstance(chunk, ToolCall):
                newest[state_key(chunk)] = chunk
            elif isinstance(chunk, Notice):
                gone = chunk.source
                newest = {key: call for key, call in newest.items() if gone and call.source != gone}
        for _, _, seen in readers:
            assert {key: seen[key] for key in newest} == newest

    run_virtual(main())


def test_a_reader_that_begins_in_the_middle_gets_the_call_whole() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        log = EventLog("s", 1000, 1000.0, lambda count: None)
        log.append(Token("t"))
        log.append(ToolCall("c", "f", '{"a'))
        seen: list[Any] = []
        scheduler = StreamScheduler(loop, Valve())
        log.read(2).subscribe(lambda frame: seen.append(decode(frame.data)), scheduler=scheduler)
        log.append(Token("t"))
        log.append(ToolCall("c", "f", '{"a":1'))
        log.append(ToolCall("c", "f", '{"a":1}', complete=True))
        calls = [each.chunk.arguments for each in seen if isinstance(each.chunk, ToolCall)]
        assert calls == ['{"a":1', "}"]
        log.end(Complete(id="s", tokens=0, seconds=0.0))

    run_virtual(main())
