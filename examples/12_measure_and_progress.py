"""Measure a stream, show its progress, and decide whether streaming pays off."""

import rxllm
from rxllm import Progress
from rxllm import operators as ops

MAX_TOKENS = 120


def report(measured: ops.Measurement) -> None:
    intervals = measured.intervals
    print(f"{measured.outcome}: {measured.tokens} tokens in {measured.elapsed:.2f} s")
    print(f"first token after {measured.time_to_first_token:.3f} s")
    print(
        f"between tokens: mean {intervals.mean:.4f} s, deviation {intervals.deviation:.4f} s, "
        f"p50 {intervals.p50:.4f} s, p95 {intervals.p95:.4f} s, p99 {intervals.p99:.4f} s"
    )


def on_progress(progress: Progress, _: object) -> None:
    print(f"{progress.percentage:3.0f} % at {progress.tokens_per_second:.0f} tokens/s")


print("streaming pays:", rxllm.streaming_pays(MAX_TOKENS))
stream = rxllm.model("tiny").stream("Tell me a story about a gardener", max_tokens=MAX_TOKENS)
stream = stream.pipe(ops.measure(report), ops.progress(every=40))
rxllm.run(rxllm.sinks.dispatch(stream, {Progress: on_progress}))
