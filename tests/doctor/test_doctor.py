"""`rxllm check` finds what is wrong with a server, and nothing on a right one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from rxllm.doctor import DIALECTS, Checkup, check_server
from rxllm.errors import BadRequestError, ConnectionFailedError
from rxllm.models.scripted import ScriptedModel
from rxllm.server import create_app
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.faults import FAULTS, Place, faulty_reply
from rxllm.testing.provider_streams import anthropic_events, openai_events
from rxllm.web.wires import WIRE_NAMES
from tests.server.nginx import nginx
from tests.server.serving import serving

Wire = Literal["openai_chat", "anthropic"]
WIRES: list[Wire] = ["openai_chat", "anthropic"]
WORDS = [f"{number}, " for number in range(20)]
ERROR = b'{"type":"error","error":{"type":"invalid_request_error","message":"no JSON"}}'
NO_METRICS = Reply([b"no metrics"], status=404)


def right(wire: Wire) -> Reply:
    events = openai_events(*WORDS) if wire == "openai_chat" else anthropic_events(*WORDS)
    return Reply(events)


def replies(wire: Wire, first: Reply, *metrics: Reply) -> list[Reply]:
    """All replies to one check: the first stream, and what a right server says to the others."""
    before, after = metrics or (NO_METRICS, NO_METRICS)
    error = Reply([ERROR], status=400, headers={"Content-Type": "application/json"})
    return [first, right(wire), error, before, *[right(wire)] * 4, after]


async def checked(wire: Wire, first: Reply, *metrics: Reply) -> Checkup:
    async with FaultServer(*replies(wire, first, *metrics)) as server:
        return await check_server(server.url, wire=wire, model="m")


def verdicts(checkup: Checkup) -> dict[str, str]:
    return {finding.aspect: finding.verdict for finding in checkup.findings}


def wrong(checkup: Checkup) -> dict[str, tuple[str, ...]]:
    return {each.aspect: each.details for each in checkup.findings if each.verdict == "wrong"}


CASES = [
    (fault, place, wire)
    for fault, kind in FAULTS.items()
    for place in kind.places
    for wire in WIRES
]


@pytest.mark.parametrize(("fault", "place", "wire"), CASES)
async def test_a_fault_is_found_and_an_oddity_is_not_called_wrong(
    fault: str, place: Place, wire: Wire
) -> None:
    checkup = await checked(wire, faulty_reply(fault, place, wire))
    assert checkup.is_clean != FAULTS[fault].is_wrong, checkup.findings
    if FAULTS[fault].is_wrong:
        assert all(wrong(checkup).values())


@pytest.mark.parametrize("wire", WIRES)
async def test_a_right_server_has_a_clean_sheet(wire: Wire) -> None:
    checkup = await checked(wire, right(wire))
    assert set(verdicts(checkup).values()) <= {"ok", "unknown"}, checkup.findings
    assert verdicts(checkup)["tools"] == "unknown"  # none was called


async def test_our_own_server_has_a_clean_sheet_on_all_wires() -> None:
    app = create_app(models=["tiny"])
    async with serving(app) as client:
        checkup = await check_server(str(client._base_url))
    assert tuple(DIALECTS) == tuple(WIRE_NAMES)
    assert checkup.not_served == ()
    assert {finding.wire for finding in checkup.findings} == set(WIRE_NAMES)
    assert {finding.verdict for finding in checkup.findings} <= {"ok", "unknown"}, checkup.findings
    judged = {(each.wire, each.aspect) for each in checkup.findings if each.verdict == "ok"}
    tools = {each.wire for each in checkup.findings if each.aspect == "tools"}
    for wire, dialect in DIALECTS.items():
        assert (wire in tools) == dialect.tools  # the model may choose not to call one
        assert ((wire, "cancellation") in judged) != dialect.resumes


async def test_events_that_a_proxy_has_held_back_are_found() -> None:
    events = b"".join(openai_events(*WORDS))
    checkup = await checked("openai_chat", Reply([events], before=[0.6]))
    assert "came at once" in wrong(checkup)["delivery"][0]
    checkup = await checked("openai_chat", Reply([events[:1500], 0.6, events[1500:]]))
    assert verdicts(checkup)["delivery"] == "odd"


async def test_a_real_proxy_that_holds_events_back_is_found(tmp_path: Path) -> None:
    model = ScriptedModel([*(step for word in WORDS for step in (0.04, word))])
    app = create_app({"tiny": model})
    async with serving(app) as client:
        server = str(client._base_url).rstrip("/")
        for option, verdict in (("off", "ok"), ("on", "wrong")):
            location = f"""location / {{
                proxy_pass {server}; proxy_set_header Host $http_host;
                proxy_ignore_headers X-Accel-Buffering; proxy_buffering {option};
                proxy_buffers 8 64k; proxy_buffer_size 64k;
            }}"""
            async with nginx(tmp_path, location) as port:
                url = f"http://127.0.0.1:{port}"
                checkup = await check_server(url, wire="openai_chat", model="tiny")
            assert verdicts(checkup)["delivery"] == verdict, checkup.findings


async def test_streams_that_go_on_without_their_clients_are_found() -> None:
    before, after = (
        Reply([b'# HELP vllm:num_requests_running\nvllm:num_requests_running{a="b"} %d\n' % count])
        for count in (1, 4)
    )
    checkup = await checked("openai_chat", right("openai_chat"), before, after)
    assert "3 streams still run" in wrong(checkup)["cancellation"][0]
    checkup = await checked("openai_chat", right("openai_chat"), before, before)
    assert verdicts(checkup)["cancellation"] == "ok"


async def test_an_error_in_another_form_is_found() -> None:
    given = replies("openai_chat", right("openai_chat"))
    answers = {
        "odd": [Reply([b'"no"'], status=400), Reply([b"[" * 100_000], status=422)],
        "wrong": [Reply([b"{}"], status=500), given[0]],
    }
    for verdict, replied in answers.items():
        for answer in replied:
            async with FaultServer(*given[:2], answer, *given[3:]) as server:
                checkup = await check_server(server.url, wire="openai_chat", model="m")
            assert verdicts(checkup)["errors"] == verdict


async def test_a_redirect_is_not_followed_with_the_key() -> None:
    async with FaultServer(Reply()) as other:
        moved = Reply(status=307, headers={"Location": f"{other.url}/elsewhere"})
        async with FaultServer(moved) as server:
            checkup = await check_server(server.url, wire="sse", api_key="secret")
    assert "redirects to" in wrong(checkup)["response"][0]
    assert other.requests == []


async def test_a_model_with_another_name_for_the_limit_is_asked_by_it() -> None:
    refused = Reply([b'{"error":{"message":"use max_completion_tokens"}}'], status=400)
    async with FaultServer(refused, *replies("openai_chat", right("openai_chat"))) as server:
        checkup = await check_server(server.url, wire="openai_chat", model="m")
    assert checkup.is_clean
    assert all("max_tokens" not in each.body.decode() for each in server.requests[1:])


async def test_other_people_s_traffic_and_refusals_are_no_proof_of_streams_that_go_on() -> None:
    before, after = (Reply([b"vllm:num_requests_running %d\n" % count]) for count in (1, 2))
    checkup = await checked("openai_chat", right("openai_chat"), before, after)
    assert verdicts(checkup)["cancellation"] == "ok"
    given = replies("openai_chat", right("openai_chat"))
    async with FaultServer(*given[:4], Reply([b"{}"], status=429)) as server:
        checkup = await check_server(server.url, wire="openai_chat", model="m")
    assert verdicts(checkup)["cancellation"] == "unknown"


@pytest.mark.parametrize("path", ["/v1/", "/v1/chat/completions", "/openai/chat/completions?a=b"])
async def test_the_endpoint_may_be_named(path: str) -> None:
    async with FaultServer(*replies("openai_chat", right("openai_chat"))) as server:
        await check_server(server.url + path, wire="openai_chat", model="m")
    expected = "/v1/chat/completions" if path == "/v1/" else path.partition("?")[0]
    assert server.requests[0].path.partition("?")[0] == expected


async def test_models_that_cannot_chat_are_passed_over() -> None:
    listed = Reply([b'{"data":[{"id":"text-embedding-3"},{"id":""},{"id":"chat"}]}'])
    async with FaultServer(listed, *replies("openai_chat", right("openai_chat"))) as server:
        assert (await check_server(server.url, wire="openai_chat")).model == "chat"


async def test_only_the_wires_that_are_served_are_checked() -> None:
    given = replies("openai_chat", right("openai_chat"))
    listed = Reply([b'{"data":[{"id":"m"}]}'])
    missing = Reply(status=404)
    async with FaultServer(listed, missing, missing, *given, missing) as server:
        checkup = await check_server(f"{server.url}/v1")
    assert (checkup.model, checkup.is_clean) == ("m", True)
    assert {finding.wire for finding in checkup.findings} == {"openai_chat"}
    assert set(checkup.not_served) == set(WIRE_NAMES) - {"openai_chat"}
    assert server.requests[3].path == "/v1/chat/completions"


async def test_what_cannot_be_checked_is_refused() -> None:
    async with FaultServer(Reply(status=404)) as server:
        with pytest.raises(
            BadRequestError, match=r"serves no stream \(sse 404, ndjson 404, openai_chat 404"
        ):
            await check_server(server.url, model="m")
        with pytest.raises(BadRequestError, match="lists no models: name one with --model"):
            await check_server(server.url, wire="openai_chat")
        with pytest.raises(BadRequestError, match="printable ASCII"):
            await check_server(server.url, wire="sse", api_key="a\n")
        with pytest.raises(BadRequestError, match="wire must be one of sse"):
            await check_server(server.url, wire="grpc")
        url = server.url
    for invalid in ("localhost:8080", "http://[bad", "http://127.0.0.1:99999"):
        with pytest.raises(BadRequestError, match="must begin with http"):
            await check_server(invalid)
    with pytest.raises(ConnectionFailedError, match="nothing answers at"):
        await check_server(url)
    with pytest.raises(ConnectionFailedError, match="nothing answers at"):
        await check_server(url, model="m")
