"""A stream that others may pause: when the page asks the server about it."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page

from tests.server.page.conftest import Library

pytestmark = pytest.mark.asyncio(loop_scope="session")

# `say()` emits a message of the stream; `asked` holds the times of the requests in seconds, and
# `pending` counts those without a response.
WATCHED = """
const { Watched } = await import("/static/watched.js");
const began = performance.now();
Object.assign(globalThis, { asked: [], pending: 0, say: () => {} });
const client = {
  streams({ signal }) {
    asked.push((performance.now() - began) / 1000);
    if (given === "answers") return Promise.resolve([]);
    pending += 1;
    return new Promise((_, fail) => {
      signal.addEventListener("abort", () => { pending -= 1; fail(signal.reason); });
    });
  },
};
const stream = {
  id: "x",
  position: 0,
  async *[Symbol.asyncIterator]() {
    for (;;) yield await new Promise((took) => { globalThis.say = () => took({}); });
  },
};
globalThis.watched = new Watched(client, stream, { state: "streaming", hold() {} });
(async () => { for await (const _ of watched); })();
"""


async def watch(page: Page, in_browser: Library, server: str) -> None:
    await page.clock.install(time=0)
    await in_browser("", None)  # the page is loaded; its time is stopped from here on
    await page.clock.pause_at(1000)
    await page.evaluate(
        """async ([body, given]) => {
          const AsyncFunction = (async () => {}).constructor;
          await new AsyncFunction("given", body)(given);
        }""",
        [WATCHED, server],
    )


async def asked(page: Page) -> Any:
    return await page.evaluate("asked")


async def test_the_server_is_asked_two_seconds_after_the_last_message(
    page: Page, in_browser: Library
) -> None:
    await watch(page, in_browser, "answers")
    await page.clock.run_for(500)
    await page.evaluate("say()")
    await page.clock.run_for(1900)
    assert await asked(page) == [0]
    await page.clock.run_for(100)
    assert await asked(page) == [0, 2.5]
    await page.clock.run_for(2000)
    assert await asked(page) == [0, 2.5, 4.5]


async def test_a_server_that_never_responds_gets_one_request_at_a_time(
    page: Page, in_browser: Library
) -> None:
    """A request may take 5 seconds; a click on a button replaces the pending request."""
    await watch(page, in_browser, "is silent")
    await page.clock.run_for(5_900)
    assert await asked(page) == [0]
    await page.clock.run_for(100)
    assert (await asked(page), await page.evaluate("pending")) == ([0, 6], 1)
    await page.evaluate("void watched.look()")
    assert (await asked(page), await page.evaluate("pending")) == ([0, 6, 6], 1)
