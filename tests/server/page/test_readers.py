"""The readers of `rxllm.js` in a browser, on bytes that are split anywhere."""

from __future__ import annotations

import random

import pytest

from tests.server.page.conftest import Library

pytestmark = pytest.mark.asyncio(loop_scope="session")

EVENTS = (
    "\ufeff: ping\n\nevent: chunk\nid: 1\ndata: Grüße 🎨\n\n"
    "data: one\r\ndata: two\r\n\r\n"
    "event: noted\rid: 7\rdata:no space\r\r"
    "retry: 2500\n\nretry: soon\n\nid: 8\n\n"
    "event: nothing\n\ndata\n\ndata: cut off"
)
EXPECTED = [
    {"event": "chunk", "data": "Grüße 🎨", "id": "1"},
    {"event": "message", "data": "one\ntwo", "id": "1"},
    {"event": "noted", "data": "no space", "id": "7"},
    {"event": "message", "data": "", "id": "8"},
]


def cut(data: bytes, seed: int) -> list[list[int]]:
    """Split into pieces of any length: partial characters, partial line ends, and empty pieces."""
    chance = random.Random(seed)
    places = sorted(chance.choices(range(len(data) + 1), k=chance.randint(0, 30)))
    return [list(data[a:b]) for a, b in zip([0, *places], [*places, len(data)], strict=True)]


async def test_events_are_read_correctly_however_the_bytes_are_split(in_browser: Library) -> None:
    """Partial lines and partial characters are carried over."""
    data = EVENTS.encode()
    cuts = [[[byte] for byte in data], *(cut(data, seed) for seed in range(200))]
    read = await in_browser(
        """
        const all = [];
        for (const cuts of given) {
          const body = new ReadableStream({
            start(controller) {
              cuts.forEach((piece) => controller.enqueue(Uint8Array.from(piece)));
              controller.close();
            },
          });
          const decoder = new rxllm.EventDecoder();
          const events = [];
          for await (const event of rxllm.readEvents(body, decoder)) events.push(event);
          all.push({ events, retry: decoder.retry });
        }
        return all;
        """,
        cuts,
    )
    assert len(read) == 201
    for each in read:
        assert each == {"events": EXPECTED, "retry": 2.5}


async def test_ndjson_is_read_correctly_however_the_bytes_are_split(in_browser: Library) -> None:
    data = '{"a":"é\u2028🎨"}\r\n\n{"b":2}\n{"last":true}'.encode()
    read = await in_browser(
        """
        const all = [];
        for (const cuts of given) {
          const body = new ReadableStream({
            start(controller) {
              cuts.forEach((piece) => controller.enqueue(Uint8Array.from(piece)));
              controller.close();
            },
          });
          const objects = [];
          for await (const object of rxllm.readNdjson(body)) objects.push(object);
          all.push(objects);
        }
        return all;
        """,
        [cut(data, seed) for seed in range(100)],
    )
    assert read == [[{"a": "é\u2028🎨"}, {"b": 2}, {"last": True}]] * 100


async def test_an_invalid_line_is_an_error_of_the_module(in_browser: Library) -> None:
    code = await in_browser(
        """
        const body = new Response("{}\\nno json\\n").body;
        try {
          for await (const _ of rxllm.readNdjson(body));
        } catch (error) {
          return [error.name, error.code];
        }
        """
    )
    assert code == ["RxllmError", "malformed"]


async def test_a_line_without_an_end_takes_bounded_memory(in_browser: Library) -> None:
    code = await in_browser(
        """
        const decoder = new rxllm.LineDecoder(1000);
        try {
          for (;;) decoder.feed(new Uint8Array(100).fill(97));
        } catch (error) {
          return error.code;
        }
        """
    )
    assert code == "malformed"


async def test_leaving_the_loop_early_closes_the_body(in_browser: Library) -> None:
    cancelled = await in_browser(
        """
        let cancelled = false;
        const body = new ReadableStream({
          pull: (controller) => controller.enqueue(new TextEncoder().encode("data: x\\n\\n")),
          cancel: () => { cancelled = true; },
        });
        for await (const _ of rxllm.readEvents(body)) break;
        return cancelled;
        """
    )
    assert cancelled is True


SILENCE = """
  let now = 1e12;
  let look;
  let looking = 0;
  let cancelled = false;
  Date.now = () => now;
  globalThis.setInterval = (callback) => { look = callback; looking += 1; };
  globalThis.clearInterval = () => { looking -= 1; };
  let body;
  const stream = new ReadableStream({
    start: (controller) => { body = controller; },
    cancel: () => { cancelled = true; },
  });
  const send = (text) => body.enqueue(new TextEncoder().encode(text));
  const settle = () => new Promise((resolve) => setTimeout(resolve));
  const pass = async (seconds, times = 1) => {
    for (let i = 0; i < times; i += 1) {
      now += seconds * 1000;
      look();
      await settle();
    }
  };
  const read = async (handle = () => {}) => {
    for await (const event of rxllm.readEvents(stream, undefined, { silence: 40 })) {
      await handle(event);
    }
    return "ended";
  };
"""


async def test_a_silent_body_ends(in_browser: Library) -> None:
    """In virtual time: comments count as data, and no timer is left behind."""
    found = await in_browser(
        SILENCE
        + """
        const reading = read();
        await pass(10, 3);
        send(": ping\\n\\n");
        await settle();
        await pass(10, 3);
        const before = cancelled;
        await pass(10);
        return [before, cancelled, await reading, looking];
        """
    )
    assert found == [False, True, "ended", 0]


async def test_a_late_timer_is_not_silence(in_browser: Library) -> None:
    """After a sleep or in a hidden tab, there may be unread data. The second time it is silence."""
    found = await in_browser(
        SILENCE
        + """
        const reading = read();
        await pass(3600);
        const slept = cancelled;
        send(": ping\\n\\n");
        await settle();
        await pass(60);
        const hidden = cancelled;
        await pass(60);
        return [slept, hidden, cancelled, await reading];
        """
    )
    assert found == [False, False, True, "ended"]


async def test_the_pauses_of_a_slow_reader_are_not_silence(in_browser: Library) -> None:
    found = await in_browser(
        SILENCE
        + """
        let goOn;
        const reading = read(() => new Promise((resolve) => { goOn = resolve; }));
        send("data: x\\n\\n");
        await settle();
        await pass(10, 20);
        goOn();
        await settle();
        await pass(10, 3);
        const before = cancelled;
        body.close();
        return [before, await reading];
        """
    )
    assert found == [False, "ended"]


async def test_the_pause_between_attempts_grows_to_a_cap_with_jitter(
    in_browser: Library,
) -> None:
    least, most, many = await in_browser(
        """
        const backoff = (n, random) => rxllm.backoff(n, { base: 1, cap: 8, random: () => random });
        const at = (random) => [0, 1, 2, 9, 2000].map((n) => backoff(n, random));
        return [at(0), at(1), new Set(Array.from({ length: 50 }, () => rxllm.backoff(3))).size];
        """
    )
    assert least == [0.5, 1, 2, 4, 4]
    assert most == [1, 2, 4, 8, 8]
    assert many > 40
