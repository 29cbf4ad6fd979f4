"""Run several models side by side, merge them, or pick the best of them."""

from collections.abc import Mapping

from reactivex import Observable

import rxllm
from rxllm import operators as ops
from rxllm.models.scripted import ScriptedModel

PROMPT = "Tell me a story about an owl"

tiny = rxllm.model("tiny")
calm = ScriptedModel("An owl sat in a tree and watched the moon.", by="word", delay=0.005)
broken = ScriptedModel(["An owl", ConnectionResetError("the line went dead")])


def report(summaries: Mapping[str, ops.StreamSummary]) -> None:
    for name, summary in summaries.items():
        error = f", {summary.error!r}" if summary.error else ""
        print(f"{name}: {summary.status}, {summary.length} characters{error}")


def on_choice(choice: ops.Choice) -> None:
    if choice.number <= 3:
        print(f"round {choice.number}: {choice.source} with {choice.score:.2f}: {choice.text!r}")


async def main() -> None:
    streams = {
        "tiny": tiny.stream(PROMPT, max_tokens=30, confidence=True),
        "calm": calm.stream(PROMPT),
        "broken": broken.stream(PROMPT),
    }
    await ops.side_by_side(streams, on_result=report)

    merged = ops.merge_streams(
        calm.stream(PROMPT),
        calm.stream(PROMPT),
        on_active=lambda count: print(f"{count} active"),
    )
    print(sorted((await merged).texts))

    both = {name: streams[name] for name in ("tiny", "calm")}
    await ops.best_of(both, weights={"calm": 0.5}, on_choice=on_choice)

    def detailed(answer: str) -> Observable[rxllm.Chunk]:
        return tiny.stream(f"{PROMPT} like this one: {answer}", max_tokens=30)

    answers = await ops.quick_then_detailed(calm.stream(PROMPT), detailed)
    print("quick:", answers.texts["quick"], "detailed:", answers.texts["detailed"][:40])


rxllm.run(main())
