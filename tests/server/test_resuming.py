"""Streams outlive their connections: resuming, joining, pausing, stopping."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from rxllm.chunks import End, Start, Token
from rxllm.errors import RateLimitError
from rxllm.server import Limits, create_app
from rxllm.server.messages import Complete, StreamChunk, StreamList
from tests.server.serving import Stepwise, all_events, said, scripted, serving, take, turns, until

PROMPT = {"prompt": "Hi"}


def stepwise(**limits: Any) -> tuple[Stepwise, web.Application]:
    model = Stepwise()
    return model, create_app({"tiny": model}, limits=Limits(**limits))


async def streams(client: Any) -> dict[str, Any]:
    async with client.get("/streams") as response:
        listed = msgspec.json.decode(await response.read(), type=StreamList).streams
    return {summary.id: summary for summary in listed}


@pytest.mark.parametrize("seen", range(9))
async def test_last_event_id_resumes_with_no_gap_and_no_repeat(seen: int) -> None:
    model, app = stepwise()
    async with serving(app) as client:
        model.let(max(seen, 1))
        response = await client.post("/stream", json=PROMPT)
        first = await take(response, seen)
        response.close()
        model.let()
        path = f"/stream/{response.headers['X-Stream-Id']}"
        last = {"Last-Event-ID": str(seen)}
        got = await all_events(await client.get(path, headers=last))
    assert said(first) + said(got) == "abcdef"
    assert all(event.position > seen for event in got)
    assert got[-1].kind == "complete"


async def test_a_late_reader_gets_the_snapshot_and_then_live_events() -> None:
    model, app = stepwise()
    async with serving(app) as client:
        model.let(4)
        first = await client.get("/stream", params=PROMPT)
        await take(first, 4)
        late = await client.get(f"/stream/{first.headers['X-Stream-Id']}")
        start, snapshot = await take(late, 2)
        assert isinstance(start.message, StreamChunk)
        assert isinstance(start.message.chunk, Start)
        assert isinstance(snapshot.message, StreamChunk)
        assert (snapshot.message.chunk, snapshot.position) == (Token("abc"), 4)
        model.let()
        assert said(await all_events(late)) == "def"
        assert said(await all_events(first)) == "def"


async def test_the_end_of_a_stream_is_204_so_that_an_event_source_stops() -> None:
    async with serving(scripted("Hi there")) as client:
        response = await client.get("/stream", params={**PROMPT, "id": "mine"})
        last = {"Last-Event-ID": str((await all_events(response))[-1].position)}
        assert (await client.get("/stream/mine", headers=last)).status == 204
        assert (await client.get("/stream/mine")).status == 200


async def test_a_reconnecting_event_source_does_not_call_the_model_again() -> None:
    """It repeats its first request, with `Last-Event-ID`."""
    model, app = stepwise()
    async with serving(app) as client:
        model.let(3)
        query = {**PROMPT, "id": "mine"}
        first = await client.get("/stream", params=query)
        seen = await take(first, 3)
        first.close()
        model.let()
        again = await client.get("/stream", params=query, headers={"Last-Event-ID": "3"})
        assert said(seen) + said(await all_events(again)) == "abcdef"
        nameless = await client.get("/stream", params=PROMPT, headers={"Last-Event-ID": "3"})
        assert (nameless.status, await nameless.read()) == (204, b"")
        assert len(await streams(client)) == 1
        other = {**query, "prompt": "something else"}
        async with client.get("/stream", params=other) as taken:
            assert taken.status == 409


async def ask_and_leave(client: aiohttp.ClientSession, model: Stepwise, **query: str) -> None:
    """Send a request to a silent model, and leave before its first output."""
    asking = asyncio.create_task(client.get("/stream", params=query))
    await until(lambda: model.active == 1)
    asking.cancel()
    await asyncio.wait([asking])


async def test_a_reader_that_was_cut_before_its_first_event_can_repeat_its_request() -> None:
    """An `EventSource` has no `Last-Event-ID` yet, and gives up for good on a 409."""
    model, app = stepwise()
    async with serving(app) as client:
        await ask_and_leave(client, model, **PROMPT, id="mine")
        asking = asyncio.create_task(client.get("/stream", params={**PROMPT, "id": "mine"}))
        model.let()
        assert said(await all_events(await asking)) == "abcdef"
        assert len(await streams(client)) == 1


async def test_a_client_that_leaves_before_the_first_event_does_not_affect_others() -> None:
    model, app = stepwise()
    async with serving(app) as client:
        asking = asyncio.create_task(client.post("/stream", json=PROMPT))
        await until(lambda: model.active == 1)
        (stream_id,) = await streams(client)
        viewer = await client.get(f"/stream/{stream_id}")
        asking.cancel()
        await asyncio.wait([asking])
        model.let()
        assert said(await all_events(viewer)) == "abcdef"


async def test_the_same_request_calls_the_model_again_after_a_failure() -> None:
    model = Stepwise(RateLimitError("slow down"))
    model.let()
    query = {**PROMPT, "id": "mine"}
    async with serving(create_app({"tiny": model})) as client:
        async with client.get("/stream", params=query) as refused:
            assert refused.status == 429
        model.chunks = (Start("r", "m"), Token("Hello"), End("stop"))
        assert said(await all_events(await client.get("/stream", params=query))) == "Hello"


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 30])
async def test_an_invalid_last_event_id_is_400(last: str) -> None:
    async with serving(scripted()) as client:
        await (await client.get("/stream", params={**PROMPT, "id": "mine"})).read()
        response = await client.get("/stream/mine", headers={"Last-Event-ID": last})
        assert response.status == 400


async def test_an_unknown_stream_is_404() -> None:
    async with serving(scripted()) as client:
        for method, path in (
            ("GET", "/stream/x"),
            ("DELETE", "/streams/x"),
            ("POST", "/streams/x/pause"),
            ("POST", "/streams/x/resume"),
        ):
            assert (await client.request(method, path)).status == 404


async def test_a_stream_that_nobody_reads_is_cancelled_after_the_grace_period() -> None:
    """Abandoned streams must not stay active forever."""
    model, app = stepwise(grace=1)
    async with serving(app) as client:
        model.let(2)
        response = await client.get("/stream", params=PROMPT)
        await take(response, 2)
        response.close()
        await until(lambda: model.active == 0)
        (summary,) = (await streams(client)).values()
        assert summary.status == "cancelled"


async def test_pause_holds_the_model_and_resume_releases_it() -> None:
    model, app = stepwise()
    async with serving(app) as client:
        model.let(2)
        response = await client.get("/stream", params={**PROMPT, "id": "mine"})
        await take(response, 2)
        assert (await client.post("/streams/mine/pause")).status == 200
        assert (await streams(client))["mine"].status == "paused"
        model.let()
        await turns()
        assert model.said <= 3  # the one already being generated
        assert (await client.post("/streams/mine/resume")).status == 200
        assert said(await all_events(response)) == "bcdef"
        assert (await client.post("/streams/mine/pause")).status == 409


async def test_a_stream_is_cancelled_by_its_id() -> None:
    model, app = stepwise()
    async with serving(app) as client:
        model.let(3)
        response = await client.get("/stream", params={**PROMPT, "id": "mine"})
        await take(response, 3)
        assert (await client.delete("/streams/mine")).status == 200
        end, complete = await all_events(response)
        assert isinstance(end.message, StreamChunk)
        assert end.message.chunk == End("cancelled")
        assert isinstance(complete.message, Complete)
        assert complete.message.finish_reason == "cancelled"
        assert model.active == 0


async def test_a_stream_outside_the_store_is_listed_and_can_be_stopped() -> None:
    model, app = stepwise()
    async with serving(app) as client:
        asking = asyncio.ensure_future(client.post("/generate", json=PROMPT))
        await until(lambda: model.active == 1)
        (summary,) = (await streams(client)).values()
        assert summary.position is None
        assert (await client.delete(f"/streams/{summary.id}")).status == 200
        answer = await (await asking).json()
        assert answer["finishReason"] == "cancelled"


async def test_progress_and_estimated_end_of_a_stream_can_be_asked_for_by_its_id() -> None:
    model = Stepwise(Start("r", "m"), *map(Token, "abcdefghijkl"), End("stop"))
    app = create_app({"tiny": model})
    async with serving(app) as client:
        query = {**PROMPT, "id": "mine", "maxTokens": "40"}
        model.let(12)
        async with client.get("/stream", params=query) as response:
            await until(lambda: model.said == 12)
            summary = (await streams(client))["mine"]
            assert summary.progress is not None
            assert (summary.progress.tokens, summary.progress.percentage) == (10, 25.0)
            assert summary.estimated_end is not None
            assert summary.estimated_end > summary.started
            model.let()
            await response.read()
        assert (await streams(client))["mine"].estimated_end == pytest.approx(
            summary.started, abs=60
        )


async def test_a_bounded_number_of_ended_streams_is_kept() -> None:
    async with serving(scripted(limits=Limits(ended_streams=3))) as client:
        for number in range(6):
            query = {**PROMPT, "id": f"s{number}"}
            await (await client.get("/stream", params=query)).read()
        assert list(await streams(client)) == ["s3", "s4", "s5"]


async def test_a_token_chunk_is_the_same_for_all_readers() -> None:
    model, app = stepwise()
    async with serving(app) as client:
        model.let(1)
        first = await client.get("/stream", params={**PROMPT, "id": "mine"})
        readers = [first, *[await client.get("/stream/mine") for _ in range(4)]]
        await until(lambda: model.said == 1)
        model.let()
        got = [[event.message for event in await all_events(each)] for each in readers]
    assert all(each == got[0] for each in got[1:])
    tokens = [each.chunk for each in got[0] if isinstance(each, StreamChunk)]
    assert Token("a") in tokens


async def test_a_stream_that_exceeds_a_limit_is_listed_as_failed() -> None:
    async with serving(scripted(limits=Limits(stream_events=3))) as client:
        await (await client.get("/stream", params={**PROMPT, "id": "mine"})).read()
        assert (await streams(client))["mine"].status == "failed"
        assert (await (await client.delete("/streams/mine")).json())["status"] == "failed"


async def test_cancelling_a_completed_stream_returns_its_status() -> None:
    async with serving(scripted()) as client:
        await (await client.get("/stream", params={**PROMPT, "id": "mine"})).read()
        assert (await (await client.delete("/streams/mine")).json())["status"] == "completed"
        assert (await streams(client))["mine"].status == "completed"
        await client.post("/generate", json={**PROMPT, "id": "other"})  # not in the store
        assert (await (await client.delete("/streams/other")).json())["status"] == "completed"
