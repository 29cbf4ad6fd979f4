"""Two tabs on two servers follow one stream; the server of the stream is killed."""

from __future__ import annotations

import pytest
from playwright.async_api import BrowserContext, expect

from tests.redis.counting import counted
from tests.redis.gateway import Gateway
from tests.redis.server import RedisServer
from tests.server.page.actions import badge, generate
from tests.server.page.conftest import Complaints

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("take_over", [True, False])
async def test_a_tab_goes_on_when_the_server_of_its_stream_is_killed(
    context: BrowserContext,
    complaints: Complaints,
    tmp_path_factory: pytest.TempPathFactory,
    take_over: bool,
) -> None:
    complaints.expected = ("Failed to load resource", "WebSocket connection")
    with (
        RedisServer(tmp_path_factory.mktemp("redis")) as redis,
        Gateway(redis.url, take_over=take_over) as one,
        Gateway(redis.url, take_over=take_over) as two,
    ):
        first, second = await context.new_page(), await context.new_page()
        await first.goto(f"{one.url}/")
        await generate(first, "200 0.05")
        await expect(badge(first)).to_have_text("streaming")
        await second.goto(f"{two.url}/#inspect")
        await second.click("#inspect .streams button")
        seen = second.locator("#inspect .output")
        await expect(seen).to_contain_text("40")
        await expect(first.locator("#generate .output")).to_contain_text("39")
        one.kill()
        await expect(badge(first)).to_have_text("reconnecting")
        if take_over:
            await expect(seen).to_contain_text("199", timeout=20_000)
            assert (await seen.inner_text()).split() == counted(200).split()
            await expect(badge(second, "inspect").last).to_have_text("complete")
        else:
            await expect(badge(second, "inspect").last).to_have_text("failed", timeout=20_000)
            assert counted(200).startswith(await seen.inner_text())
