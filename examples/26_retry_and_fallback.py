"""Set time limits, retry, and fall back to a local model."""

import rxllm
from rxllm import Notice, Start
from rxllm import operators as ops
from rxllm.testing.fault_server import RESET, FaultServer, Reply

PROMPT = "Tell me a story about a lighthouse"


def on_notice(notice: Notice, _: object) -> None:
    failure = notice.error.type if notice.error else ""
    wait = f", after {notice.delay:.2f} s" if notice.delay is not None else ""
    print(f"{notice.kind}: {failure}, attempt {notice.attempt}{wait}")


def on_start(start: Start, _: object) -> None:
    print(f"{start.model} answers")


async def main() -> None:
    busy = Reply([b"{}"], status=429, headers={"Retry-After": "0.05"})
    broken = Reply(before=[RESET])
    async with FaultServer(busy, broken) as server:
        remote = rxllm.model("openai_compatible/large", base_url=server.url)
        local = rxllm.model("tiny").stream(PROMPT, max_tokens=40)
        story = remote.stream(PROMPT).pipe(
            ops.timeouts(first=10, between=5, total=30),
            ops.require_output(),
            ops.retry_with_backoff(3, initial=0.02),
            ops.fallback_to(local, apology="Sorry, no story today."),
        )
        await rxllm.sinks.dispatch(story, {Notice: on_notice, Start: on_start})
        result = await story
        print(f"{result.model}: {result.text.strip()[:40]!r}...")


rxllm.run(main())
