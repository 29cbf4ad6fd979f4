"""Behind reverse proxies: whose host and whose address a request has, and a real nginx."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request

import rxllm.server
from rxllm.errors import BadRequestError
from rxllm.server import create_app
from rxllm.server.proxies import Proxies
from tests.server.nginx import nginx
from tests.server.serving import Stepwise, all_events, port_of, said, scripted, serving, take

README = Path(rxllm.server.__file__).with_name("README.md")
RECIPE = re.findall(r"```nginx\n(.*?)```", README.read_text(), re.DOTALL)[0]


def asked(remote: str, *headers: tuple[str, str]) -> Any:
    class Transport:
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return (remote, 1234) if name == "peername" else default

        def is_closing(self) -> bool:
            return False

    names = [("Host", "inner:8080"), *headers]
    from multidict import CIMultiDict, CIMultiDictProxy

    return make_mocked_request(
        "GET", "/", CIMultiDictProxy(CIMultiDict(names)), transport=Transport()
    )


TRUSTED = Proxies(["10.0.0.0/8", "::1"])


@pytest.mark.parametrize(
    ("remote", "headers", "host", "client"),
    [
        ("10.0.0.1", [], "inner:8080", "10.0.0.1"),
        ("10.0.0.1", [("X-Forwarded-Host", "a.example")], "a.example", "10.0.0.1"),
        ("9.9.9.9", [("X-Forwarded-Host", "a.example")], "inner:8080", "9.9.9.9"),
        # What a client has sent comes first: the proxy has added the last one.
        ("10.0.0.1", [("X-Forwarded-Host", "localhost, a.example")], "a.example", "10.0.0.1"),
        ("10.0.0.1", [("X-Forwarded-For", "1.1.1.1, 2.2.2.2")], "inner:8080", "2.2.2.2"),
        ("10.0.0.1", [("X-Forwarded-For", "2.2.2.2, 10.0.0.9")], "inner:8080", "2.2.2.2"),
        ("10.0.0.1", [("X-Forwarded-For", "2.2.2.2:88")], "inner:8080", "2.2.2.2"),
        ("::1", [("X-Forwarded-For", "2001:db8::7")], "inner:8080", "2001:db8::7"),
        ("::ffff:10.0.0.1", [("X-Forwarded-For", "2.2.2.2")], "inner:8080", "2.2.2.2"),
        ("9.9.9.9", [("X-Forwarded-For", "2.2.2.2")], "inner:8080", "9.9.9.9"),
        ("10.0.0.1", [("Forwarded", "for=2.2.2.2;host=a.example")], "inner:8080", "10.0.0.1"),
        ("10.0.0.1", [("X-Forwarded-For", "[2001:db8::7]:88")], "inner:8080", "2001:db8::7"),
        ("10.0.0.1", [("X-Forwarded-For", "nonsense")], "inner:8080", "nonsense"),
    ],
)
def test_only_trusted_proxies_are_believed(
    remote: str, headers: list[tuple[str, str]], host: str, client: str
) -> None:
    request = asked(remote, *headers)
    assert TRUSTED.host_of(request) == host
    assert TRUSTED.client_of(request) == client
    assert Proxies([]).host_of(request) == "inner:8080"
    assert Proxies([]).client_of(request) == remote


@pytest.mark.parametrize("wrong", [["proxy.example"], ["10.0.0.0/99"], "10.0.0.1"])
def test_a_trusted_proxy_must_be_an_address(wrong: Any) -> None:
    with pytest.raises(BadRequestError, match=r"a trusted proxy|proxies must"):
        scripted(proxies=wrong)


async def post(client: aiohttp.ClientSession, **headers: str) -> int:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.post("/generate", json={"prompt": "Hi"}, headers=names) as response:
        text = await response.text()
    if response.status == 403:
        assert "--trusted-proxy" in text or "--cors" in text
    if response.status == 421:
        assert "--name" in text
    return int(response.status)


async def test_the_origin_is_that_of_the_host_with_or_without_the_default_port() -> None:
    async with serving(scripted(hosts=["a.example"])) as client:
        assert await post(client, Host="a.example:443", Origin="https://a.example") == 200
        assert await post(client, Host="a.example", Origin="https://a.example:443") == 200
        assert await post(client, Host="a.example:80", Origin="http://a.example") == 200
        assert await post(client, Host="A.example", Origin="http://a.example") == 200
        assert await post(client, Host="a.example:80", Origin="https://a.example") == 403
        assert await post(client, Host="a.example", Origin="http://a.example:8080") == 403
        assert await post(client, Host="a.example", Origin="app://a.example") == 403


async def test_a_browser_that_says_same_origin_is_believed_but_the_host_is_checked() -> None:
    own = {"Sec_Fetch_Site": "same-origin"}
    async with serving(scripted()) as client:
        assert await post(client, Host="localhost", Origin="https://a.example", **own) == 200
        assert await post(client, Host="evil.example", Origin="http://evil.example", **own) == 421
        assert await post(client, Host="localhost", Origin="https://a.example") == 403
        far = {"Sec_Fetch_Site": "same-site"}
        assert await post(client, Host="localhost", Origin="http://localhost:1", **far) == 403


@pytest.mark.parametrize(
    "host", ["[::1].evil", "x@127.0.0.1", "127.0.0.1:80:80", "127.0.0.1 evil", "[::1", "", "evil"]
)
async def test_a_host_that_only_looks_like_loopback_is_refused(host: str) -> None:
    async with serving(scripted()) as client:
        assert await post(client, Host=host) == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "[::1]:80", "[::1]"])
async def test_loopback_by_any_of_its_names(host: str) -> None:
    async with serving(scripted()) as client:
        assert await post(client, Host=host) == 200


async def test_only_the_page_itself_may_be_linked_to_from_other_sites() -> None:
    async with serving(scripted()) as client:
        for path, expected in (("/", 200), ("/static/app.js", 200), ("/stream/static/", 403)):
            headers = {"Sec-Fetch-Site": "cross-site"}
            async with client.get(path, headers=headers) as response:
                assert response.status == expected


DEFAULT_HOST = "location / { proxy_pass http://127.0.0.1:8080; }"
WITHOUT_PORT = "location / { proxy_pass http://127.0.0.1:8080; proxy_set_header Host $host; }"
FORWARDED = """location / {
    proxy_pass http://127.0.0.1:8080; proxy_set_header X-Forwarded-Host $http_host;
}"""


@pytest.mark.parametrize(
    ("location", "proxies", "by_origin"),
    [
        (RECIPE, [], 200),
        (DEFAULT_HOST, [], 403),
        (WITHOUT_PORT, [], 403),
        (FORWARDED, [], 403),
        (FORWARDED, ["127.0.0.1"], 200),
    ],
    ids=["recipe", "default", "host", "forwarded", "trusted"],
)
async def test_pages_behind_nginx(
    tmp_path: Path, location: str, proxies: list[str], by_origin: int
) -> None:
    async with serving(scripted(proxies=proxies)) as direct:
        location = location.replace("8080", str(port_of(direct)))
        async with nginx(tmp_path, location) as port:
            origin = f"http://localhost:{port}"
            async with aiohttp.ClientSession(origin) as client:
                # On http and a name that isn't localhost, browsers send no Sec-Fetch-Site.
                assert await post(client, Origin=origin) == by_origin
                assert await post(client, Origin=origin, Sec_Fetch_Site="same-origin") == 200
                assert await post(client, Origin="https://evil.example") == 403


async def test_events_pass_through_nginx_one_by_one_and_so_does_a_websocket(
    tmp_path: Path,
) -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model})) as direct:
        location = RECIPE.replace("8080", str(port_of(direct)))
        async with (
            nginx(tmp_path, location) as port,
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
        ):
            model.let(2)
            async with client.get("/stream", params={"prompt": "Hi"}) as response:
                seen = await take(response, 2)
                assert model.said == 2
                model.let()
                assert said([*seen, *await all_events(response)]) == "abcdef"
            async with client.ws_connect("/ws") as socket:
                assert (await socket.receive_json())["type"] == "connected"
