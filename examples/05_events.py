"""Receive a stream as events: start, token, progress, complete, error."""

import rxllm
from rxllm.sinks import Result, TokenEvent


def on_token(event: TokenEvent) -> None:
    if event.new_sentence:
        print(f"sentence {event.sentences} begins after {len(event.running_text)} characters")


def on_progress(progress: rxllm.Progress) -> None:
    print(f"  {progress.tokens} tokens in {progress.elapsed:.2f} s")


def on_complete(result: Result) -> None:
    print(f"complete: {result.timings.tokens} tokens, {result.finish_reason}")


async def main() -> None:
    stream = rxllm.sinks.callbacks(
        rxllm.model("tiny").stream("Tell me a story about two sisters"),
        on_start=lambda start: print(f"{start.model} has begun"),
        on_token=on_token,
        on_progress=on_progress,
        on_complete=on_complete,
        on_error=lambda error: print(f"failed: {error}"),
    )
    stream.start()  # nothing happens before this
    await stream


rxllm.run(main())
