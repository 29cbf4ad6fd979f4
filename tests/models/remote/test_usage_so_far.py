"""The usage of an answer is known from its start, so one that is left early has a usage, too."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import date
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rxllm
from rxllm import operators as ops
from rxllm.chunks import Chunk, End, Reasoning, Start, Token, ToolCall, Usage
from rxllm.errors import ConnectionFailedError, ProviderError
from rxllm.model_table import ModelFacts, ModelTable, Price
from rxllm.models.remote.usage_so_far import UsageSoFar
from rxllm.requests import as_request
from rxllm.testing.fault_server import RESET, FaultServer, Reply
from rxllm.testing.provider_streams import (
    anthropic_event,
    anthropic_events,
    openai_event,
    openai_events,
)
from rxllm.transcript import Transcript

ModelOn = Callable[..., rxllm.Model]
Hear = Callable[..., Awaitable[Any]]

PROMPT = 5
"""The estimated tokens of the prompt "Hi"."""


def words(count: int) -> list[bytes]:
    texts = [f"w{number} " for number in range(count)]
    return openai_events(*texts, finish_reason=None, usage=False, done=False)


def told(*reads: list[Chunk], fails: bool = False) -> list[Chunk]:
    """Return what comes of an answer that was read in these parts."""
    usage, heard = UsageSoFar(as_request("Hi")), list[Chunk]()
    for read in reads:
        chunks = list(read)
        usage.add_to(chunks, fails=fails and read is reads[-1])
        heard += chunks
    return heard


def so_far(written: int, read: int = PROMPT) -> Usage:
    return Usage(read, written, estimated=True)


class TestOfOneAnswer:
    def test_the_prompt_is_estimated_at_the_start(self) -> None:
        start, first = Start("1", "openai/gpt"), Token("a")
        assert told([start], [first]) == [start, so_far(0), first]

    def test_an_answer_without_any_count_gets_an_estimate_before_its_end(self) -> None:
        *_, last, end = told([Start("1", "openai/gpt"), Token("a"), Reasoning("b"), End("stop")])
        assert (last, end) == (so_far(2), End("stop"))

    def test_the_count_of_the_provider_replaces_all_estimates(self) -> None:
        said: list[Chunk] = [Start("1", "openai/gpt"), Token("a"), Usage(7, 3), End("stop")]
        assert told(said)[2:] == said[1:]

    def test_a_count_that_comes_with_the_start_needs_no_estimate(self) -> None:
        said: list[Chunk] = [Start("1", "anthropic/claude"), Usage(7, 1), Token("a")]
        assert told(said) == said

    def test_what_is_written_after_a_count_is_estimated_on_top_of_it(self) -> None:
        counted = Usage(7, 1, cached_tokens=4)
        heard = told([Start("1", "anthropic/claude"), counted], [Token("a")] * 40)
        [estimate] = [chunk for chunk in heard if isinstance(chunk, Usage) and chunk.estimated]
        assert estimate == Usage(7, 33, cached_tokens=4, estimated=True)

    def test_large_pieces_count_by_their_characters_and_calls_as_pieces(self) -> None:
        start, call = Start("1", "m"), ToolCall("c", "f")
        assert so_far(10) in told([start, Token("a" * 40), Token("b"), call, End("tool_calls")])
        assert so_far(3) in told([start, Token("b"), call, Token("d"), End("stop")])

    def test_a_failure_comes_after_an_estimate_of_everything(self) -> None:
        start = Start("1", "openai/gpt")
        assert told([start, Token("a")], [Token("b")], [], fails=True)[-1] == so_far(2)
        assert told([start], fails=True) == [start, so_far(0)]
        assert told([], fails=True) == []

    @given(st.integers(0, 3000))
    def test_the_last_estimate_is_a_quarter_behind_at_most(self, count: int) -> None:
        pieces: list[list[Chunk]] = [[Token("a")]] * count
        heard = told([Start("1", "m")], *pieces)
        estimates = [chunk for chunk in heard if isinstance(chunk, Usage)]
        assert 0 <= count - estimates[-1].output_tokens <= max(15, count // 4)
        assert len(estimates) <= 5 + 4 * math.log2(max(count, 64) / 64)

    @given(
        st.lists(
            st.sampled_from([Token("a"), Token("b" * 90), Reasoning("c"), ToolCall("d", "f")])
        ),
        st.lists(st.integers(0, 50)),
        st.booleans(),
    )
    def test_the_estimates_do_not_depend_on_how_the_answer_is_read(
        self, said: list[Chunk], cuts: list[int], fails: bool
    ) -> None:
        whole = [Start("1", "m"), *said, *([] if fails else [End("stop")])]
        places = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
        reads = [whole[start:end] for start, end in pairwise(places)]
        assert told(*reads, fails=fails) == told(whole, fails=fails)


class TestOfAStream:
    async def test_a_stream_that_is_left_early_has_its_usage_and_its_cost(
        self, model_on: ModelOn
    ) -> None:
        facts = {"openai/gpt": ModelFacts(price=Price(input=1.0, output=10.0))}
        record = Transcript()
        async with FaultServer(Reply([*words(40), asyncio.Event()])) as server:
            stream = (
                model_on(server).stream("Hi").pipe(ops.price(ModelTable(date(2026, 11, 1), facts)))
            )
            async with aclosing(aiter(stream)) as chunks:
                async for chunk in chunks:
                    record.add(chunk)
                    if isinstance(chunk, Token) and chunk.text == "w39 ":
                        break
        assert record.usage is not None
        assert record.usage.estimated
        assert record.usage.input_tokens == PROMPT
        assert 30 <= record.usage.output_tokens <= 40
        assert record.usage.cost == (PROMPT + 10 * record.usage.output_tokens) / 1e6

    async def test_a_lost_connection_comes_after_the_usage(self, hear: Hear) -> None:
        heard = await hear([*words(3), RESET])
        assert isinstance(heard.error, ConnectionFailedError)
        assert heard.estimates[-1] == so_far(3)

    async def test_so_does_an_error_that_the_provider_reports(self, hear: Hear) -> None:
        heard = await hear([*words(3), openai_event(error={"message": "overloaded"})])
        assert isinstance(heard.error, ProviderError)
        assert heard.estimates[-1] == so_far(3)

    async def test_the_usage_of_a_failed_attempt_is_billed_too(self, model_on: ModelOn) -> None:
        whole = Reply(openai_events("Yes."))
        async with FaultServer(Reply([*words(3), RESET]), whole) as server:
            stream = (
                model_on(server)
                .stream("Hi")
                .pipe(ops.retry_with_backoff(initial=0.01, after_output="restart"))
            )
            result = await stream
        assert result.text == "Yes."
        assert result.usage == Usage(PROMPT + 5, 3 + 1, estimated=True)

    async def test_anthropic_counts_the_prompt_at_the_start(self) -> None:
        usage = {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 1}
        message = {"id": "m", "model": "claude", "usage": usage}
        events = [
            anthropic_event("message_start", message=message), *anthropic_events("a", "b")[1:3]
        ]  # fmt: skip
        async with FaultServer(Reply([*events, RESET])) as server:
            model = rxllm.model("anthropic/claude", api_key="k", base_url=server.url)
            record = Transcript()
            with pytest.raises(ConnectionFailedError):
                async for chunk in model.stream("Hi"):
                    record.add(chunk)
        assert record.usage is not None
        assert (record.usage.input_tokens, record.usage.cached_tokens) == (7, 4)
        assert record.usage.estimated
