"""Clients that repeat their request when its connection was lost: the model is asked only once."""

from __future__ import annotations

from typing import Any

import pytest

from rxllm.server import create_app
from rxllm.server.messages import StreamFailed
from tests.server.serving import Stepwise, all_events, decode, said, serving, take

BODY = {"prompt": "Hi", "id": "s1"}


def position(kind: str, value: int) -> dict[str, Any]:
    """The arguments that ask for what comes after a position."""
    if kind == "header":
        return {"headers": {"Last-Event-ID": str(value)}}
    return {"params": {"lastEventId": str(value)}}


@pytest.mark.parametrize("kind", ["header", "query"])
async def test_a_repeated_post_resumes_its_stream_and_is_204_at_the_end(kind: str) -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model})) as client:
        model.let(4)
        first = await client.post("/stream", json=BODY)
        seen = await take(first, 3)
        first.close()
        async with client.post("/stream", json=BODY, **position(kind, 3)) as again:
            model.let()
            rest = await all_events(again)
        assert said([*seen, *rest]) == "abcdef"
        assert rest[0].position == 4
        last = rest[-1].position
        async with client.post("/stream", json=BODY, **position(kind, last)) as ended:
            assert (ended.status, await ended.read()) == (204, b"")
    assert model.said == len(model.chunks)


async def test_the_same_post_before_the_first_event_joins_the_stream() -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model})) as client:
        model.let(2)
        first = await client.post("/stream", json=BODY)
        first.close()
        model.let()
        async with client.post("/stream", json=BODY) as again:
            assert said(await all_events(again)) == "abcdef"
    assert model.said == len(model.chunks)


async def test_a_different_request_with_the_id_of_a_stream_is_409() -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model})) as client:
        model.let()
        async with client.post("/stream", json=BODY) as first:
            await first.read()
        async with client.post("/stream", json={**BODY, "prompt": "Other"}) as other:
            assert other.status == 409


async def test_a_post_with_a_position_but_without_an_id_is_told_what_is_missing() -> None:
    model = Stepwise()
    async with (
        serving(create_app({"tiny": model})) as client,
        client.post("/stream", json={"prompt": "Hi"}, headers={"Last-Event-ID": "3"}) as response,
    ):
        message = decode(await response.read())
        assert isinstance(message, StreamFailed)
        assert (response.status, message.field) == (400, "id")
    assert model.said == 0


@pytest.mark.parametrize("path", ["/stream", "/api/stream"])
async def test_a_stream_that_is_no_longer_kept_is_204_and_not_asked_for_again(path: str) -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model})) as client:
        async with client.post(path, json=BODY, headers={"Last-Event-ID": "3"}) as response:
            assert response.status == 204
        async with client.get("/stream?prompt=Hi&id=s1&lastEventId=3") as response:
            assert response.status == 204
    assert model.said == 0


async def test_an_empty_position_of_a_polyfill_is_none() -> None:
    model = Stepwise()
    model.let()
    async with (
        serving(create_app({"tiny": model})) as client,
        client.get("/stream?prompt=Hi&id=s1&lastEventId=") as response,
    ):
        assert said(await all_events(response)) == "abcdef"


async def test_lines_of_a_named_stream_are_resumed_too() -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model})) as client:
        model.let(3)
        first = await client.post("/api/stream", json=BODY)
        seen = [decode(await first.content.readline()) for _ in range(2)]
        first.close()
        model.let()
        headers = {"Last-Event-ID": "2"}
        async with client.post("/api/stream", json=BODY, headers=headers) as again:
            rest = [decode(line) for line in (await again.read()).splitlines()]
    assert [each.position for each in seen] == [1, 2]
    assert rest[0].chunk.text == "bcdef"  # type: ignore[union-attr]
    assert rest[-1].text == "abcdef"  # type: ignore[union-attr]
    assert model.said == len(model.chunks)


async def test_a_whole_answer_has_the_name_of_its_request_in_the_list() -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model})) as client:
        model.let()
        async with client.post("/generate", json=BODY) as response:
            assert (await response.json())["text"] == "abcdef"
        async with client.post("/generate", json={**BODY, "id": "\u00e9"}) as response:
            assert response.status == 400
